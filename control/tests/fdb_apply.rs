//! `weftctl fdb apply` against a real server with a fake daemon behind, and what other clients may send instead.

// What only the other tests need.
#[allow(dead_code)]
mod common;

use std::process::Command;

use common::Lab;
use serde_json::json;

#[test]
fn changes_of_the_fdb_are_applied_from_a_file() {
    let lab = Lab::new();
    let file = lab.dir.path().join("changes");
    let path = file.to_str().unwrap();
    let entry = |i: u32| format!("02:00:00:00:01:{i:02x}");
    let mut text: String = (0..10).map(|i| format!("add web {} port vm1\n", entry(i))).collect();
    text += &format!("# as it is\nadd web {} port vm1\n\n", entry(9));
    text += &format!("add web {} vtep host-b # moves\n", entry(0));
    text += &format!("del web {}\ndel web {}", entry(1), entry(77));
    std::fs::write(&file, &text).unwrap();
    let said = lab.ok(&["fdb", "apply", path, "--batch", "3"]);
    assert!(said.starts_with("added 10, replaced 1, removed 1, unchanged 2 in 0."), "{said}");
    assert!(said.ends_with(" s (5 batches)\n"), "{said}");
    let listed = lab.json(&["fdb", "list"]);
    assert_eq!(listed.as_array().unwrap().len(), 1 + 9);
    assert_eq!(listed[1], json!({"bd": "web", "mac": entry(0), "vtep": "host-b", "owner": "api"}));

    // Once more: most is there already.
    let value = lab.json(&["fdb", "apply", path]);
    assert_eq!((&value["added"], &value["removed"], &value["batches"]), (&json!(1), &json!(1), &json!(1)));
}

#[test]
fn mistakes_in_changes_of_the_fdb_are_found_before_any_is_made() {
    let lab = Lab::new();
    let file = lab.dir.path().join("changes");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "add web 02:00:00:00:00:09 port vm1\nadd web 02:00 port vm1\ndel\n").unwrap();
    let said = lab.refused(&["fdb", "apply", path, "--batch", "1"]);
    assert!(said.contains(&format!("error: {path}:2: \"02:00\" is no MAC address\n")), "{said}");
    assert!(said.contains(&format!("error: {path}:3: the bridge domain is missing\n")), "{said}");
    assert!(said.contains("nothing was changed"), "{said}");
    assert_eq!(lab.json(&["status"])["fdb_entries"], 1);
    assert!(lab.refused(&["fdb", "apply", "/none"]).contains("cannot read /none: "));
    for batch in ["0", "65537"] {
        assert_eq!(lab.run(&["fdb", "apply", path, "--batch", batch]).code, 2);
    }
}

#[test]
fn a_batch_that_weftd_refuses_ends_it_and_names_the_line() {
    let lab = Lab::new();
    let file = lab.dir.path().join("changes");
    let path = file.to_str().unwrap();
    let good = |i: u32| format!("add web 02:00:00:00:01:{i:02x} port vm1\n");
    let text = format!(
        "{}{}# two by two\n{}add web 02:00:00:00:00:09 vtep nope\n{}",
        good(1),
        good(2),
        good(3),
        good(4)
    );
    std::fs::write(&file, text).unwrap();
    let said = lab.refused(&["fdb", "apply", path, "--batch", "2"]);
    assert!(
        said.contains(&format!("error: {path}:5: fdb web 02:00:00:00:00:09: there is no vtep")),
        "{said}"
    );
    assert!(said.contains("what came before it is in force: added 2,"), "{said}");
    assert_eq!(lab.json(&["status"])["fdb_entries"], 3, "neither line 4 nor what follows");
}

/// Another program writes one change and waits for it before the next.
#[test]
fn changes_that_come_one_by_one_are_acknowledged_one_by_one() {
    use std::io::{BufRead, BufReader, Write};
    use std::process::Stdio;
    let lab = Lab::new();
    let mut ctl = Command::new(env!("CARGO_BIN_EXE_weftctl"))
        .args(["--socket", lab.socket.to_str().unwrap(), "fdb", "apply", "-", "--ack"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut to = ctl.stdin.take().unwrap();
    let mut said = BufReader::new(ctl.stdout.take().unwrap()).lines();
    for i in 1..=20 {
        writeln!(to, "add web 02:00:00:00:01:{i:02x} port vm1").unwrap();
        assert_eq!(said.next().unwrap().unwrap(), i.to_string());
        assert_eq!(lab.fake.model.lock().unwrap().fdb.len(), 1 + i, "it is in force");
    }
    writeln!(to, "add web 02:00:00:00:02:00 port vm1\nnonsense").unwrap();
    drop(to);
    let rest: Vec<String> = said.map(Result::unwrap).collect();
    assert!(rest.len() <= 1, "{rest:?}");
    assert_eq!(ctl.wait().unwrap().code(), Some(1));
}

/// What weftctl does not send.
#[test]
fn malformed_batches_are_refused() {
    use weft_control::api::{Client, proto};
    let lab = Lab::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::connect(&lab.socket).await.unwrap();
        let change = || Some(proto::fdb_run::Change::Vtep("host-b".into()));
        let run = |macs: Vec<u8>, change| proto::FdbRun { bd: "web".into(), change, macs };
        let many: Vec<u8> = (0..65_537_u32).flat_map(|i| [&[2, 0], &i.to_be_bytes()[..]].concat()).collect();
        for (runs, said) in [
            (vec![run(vec![2, 0, 0, 0, 0, 9], change()), run(vec![2, 0, 0, 0, 0], change())], "has 5 bytes"),
            (vec![run(vec![2, 0, 0, 0, 0, 9], None)], "neither port nor vtep nor remove"),
            (vec![run(many, change())], "at most 65536 addresses"),
        ] {
            let requests = [proto::ApplyFdbRequest::default(), proto::ApplyFdbRequest { runs }];
            let mut answers =
                client.raw().apply_fdb(tokio_stream::iter(requests)).await.unwrap().into_inner();
            let first = answers.message().await.unwrap().unwrap();
            assert_eq!(first, proto::ApplyFdbResponse::default(), "an empty batch changes nothing");
            let refused = answers.message().await.unwrap().unwrap().refused.unwrap();
            assert_eq!(refused.code, tonic::Code::InvalidArgument as u32);
            let words = format!("{:?}", refused);
            assert!(words.contains(said), "{words}");
            assert_eq!(answers.message().await.unwrap(), None, "the stream has ended");
        }
    });
    assert_eq!(lab.json(&["status"])["fdb_entries"], 1);
}
