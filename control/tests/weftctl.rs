//! The real weftctl against a real server on a Unix socket, with a fake daemon behind.

mod common;

use std::process::Command;

use common::{FILE, Lab, weftctl};
use serde_json::json;
use weft_control::model::{FdbTarget, InnerVlan, Owner, PortKind, VhostMode};

/// Tables keep to the width of a terminal.
fn fits(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
        assert_eq!(line, line.trim_end());
    }
}

#[test]
fn status() {
    let lab = Lab::new();
    let text = lab.ok(&["status"]);
    fits(&text);
    assert!(text.contains("0.1.0 (DPDK 22.11.11), pid 42") && text.contains("1 h 1 min"), "{text}");
    assert!(text.contains("ALARM: worker 0 has not reported for 2 s"), "{text}");
    let value = lab.json(&["status"]);
    assert_eq!(value["fdb_entries"], 1);
    assert_eq!(value["config_file"], "/etc/weft/weft.toml");
    assert_eq!(value["alarms"][0], "worker 0 has not reported for 2 s");
}

#[test]
fn worker_list() {
    let lab = Lab::new();
    let text = lab.ok(&["worker", "list"]);
    fits(&text);
    assert!(text.contains("12.5%") && text.contains("up0:rx0 vm1:rx0"), "{text}");
    assert!(text.contains("ID    RX  ENTER\n 0  40.5    7.0\n"), "{text}");
    assert_eq!(
        lab.json(&["worker", "list"]),
        json!([{"id": 0, "core": 1, "numa": -1, "loops": 1_000_000_000_000u64, "busy_percent": 12.5,
                "cycles_per_packet": 180.0, "idle": false, "queues": ["up0:rx0", "vm1:rx0"],
                "stage_cycles": [{"stage": "rx", "cycles_per_packet": 40.5}, {"stage": "enter", "cycles_per_packet": 7.0}]}])
    );
}

#[test]
fn uplink_list() {
    let lab = Lab::new();
    let text = lab.ok(&["uplink", "list"]);
    fits(&text);
    assert!(text.contains("up, 10000 Mbit/s") && text.contains("0 (worker 0)"), "{text}");
    assert_eq!(
        lab.json(&["uplink", "list"]),
        json!([{"name": "up0", "device": "net_null0", "driver": "net_null", "mac": "02:aa:00:00:00:01",
                "address": "192.168.50.1/24", "gateway": null, "mtu": 1600, "link_up": true, "link_mbps": 10000,
                "rx_queues": [{"queue": 0, "worker": 0}], "tx_queues": [{"queue": 0, "worker": 0}], "tap": "",
                "rx_missed": 1, "rx_errors": 2, "rx_nombuf": 3, "tx_errors": 4}])
    );
}

#[test]
fn ports_are_added_shown_and_removed() {
    let lab = Lab::new();
    let text = lab.ok(&["port", "list"]);
    fits(&text);
    assert_eq!(
        text,
        "NAME  BD   TYPE        LINK  QUEUES  OWNER  SOCKET OR DEVICE\n\
         vm1   web  vhost-user  up         1  file   /run/weft/vm1.sock\n"
    );

    let add = "port add vm2 --bd web --vhost-user /run/weft/vm2.sock --mode client --queues 2 --packed";
    assert_eq!(lab.ok(&add.split(' ').collect::<Vec<_>>()), "added port vm2\n");
    let port = lab.fake.model.lock().unwrap().objects.port("vm2").cloned().unwrap();
    assert_eq!(port.owner, Owner::Api);
    assert_eq!(
        port.kind,
        PortKind::VhostUser {
            socket: "/run/weft/vm2.sock".into(),
            mode: VhostMode::Client,
            queues: 2,
            packed: true
        }
    );
    let value =
        lab.json(&["port", "add", "m0", "--bd", "web", "--device", "net_memif0,id=0", "--mtu", "1400"]);
    assert_eq!(value, json!({"done": "added", "object": "port m0"}));
    let port = lab.fake.model.lock().unwrap().objects.port("m0").cloned().unwrap();
    assert_eq!(port.kind, PortKind::Ethdev { device: "net_memif0,id=0".into(), queues: 1, mtu: 1400 });

    let text = lab.ok(&["port", "show", "vm2"]);
    fits(&text);
    assert!(text.contains("0x150208000") && text.contains("(client mode)"), "{text}");
    let value = lab.json(&["port", "show", "vm2"]);
    assert_eq!(value["type"], "vhost-user");
    assert_eq!(value["features"], "0x150208000");
    assert_eq!(value["rings_enabled"], json!([0, 1]));
    assert_eq!(value["connected"], true);
    assert_eq!(value["owner"], "api");
    assert_eq!(lab.json(&["port", "show", "m0"])["type"], "ethdev");
    let names: Vec<_> =
        lab.json(&["port", "list"]).as_array().unwrap().iter().map(|p| p["name"].clone()).collect();
    assert_eq!(names, ["vm1", "vm2", "m0"]);

    assert_eq!(lab.ok(&["port", "del", "m0"]), "removed port m0\n");
    assert!(lab.fake.model.lock().unwrap().objects.port("m0").is_none());
    let gone = lab.refused(&["port", "show", "vm"]);
    assert!(gone.contains("there is no port \"vm\"") && gone.contains("did you mean \"vm1\"?"), "{gone}");
}

#[test]
fn a_relative_socket_means_the_callers_directory() {
    let lab = Lab::new();
    let socket = lab.socket.to_str().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_weftctl"))
        .args(["--socket", socket, "port", "add", "vm2", "--bd", "web", "--vhost-user", "vm2.sock"])
        .current_dir(lab.dir.path())
        .output()
        .unwrap();
    assert!(output.status.success());
    let value = lab.json(&["port", "show", "vm2"]);
    let expected = lab.dir.path().canonicalize().unwrap().join("vm2.sock");
    assert_eq!(value["socket"], expected.to_str().unwrap());
}

#[test]
fn bds_are_added_changed_and_removed() {
    let lab = Lab::new();
    let text = lab.ok(&["bd", "list"]);
    fits(&text);
    assert!(text.contains("web"), "{text}");
    lab.ok(&["vtep", "add", "host-c", "--address", "192.168.50.3"]);
    lab.ok(&[
        "bd",
        "add",
        "db",
        "--vni",
        "200",
        "--vtep",
        "host-b",
        "--vtep",
        "host-c",
        "--inner-vlan",
        "keep",
    ]);
    let bd = |name: &str| lab.fake.model.lock().unwrap().objects.bd(name).cloned().unwrap();
    let db = bd("db");
    assert_eq!((db.vni.unwrap().get(), db.inner_vlan, db.owner), (200, InnerVlan::Keep, Owner::Api));
    assert_eq!(db.vteps, ["host-b", "host-c"]);

    assert_eq!(lab.ok(&["bd", "set", "db", "--vni", "201"]), "changed bd db\n");
    let db = bd("db");
    assert_eq!((db.vni.unwrap().get(), db.inner_vlan, db.vteps.len()), (201, InnerVlan::Keep, 2));
    lab.ok(&["bd", "set", "db", "--vtep", "host-c", "--inner-vlan", "drop"]);
    let db = bd("db");
    assert_eq!((db.vteps, db.inner_vlan), (vec!["host-c".to_owned()], InnerVlan::Drop));
    lab.ok(&["bd", "set", "db", "--no-vteps", "--no-vni"]);
    let db = bd("db");
    assert!(db.vni.is_none() && db.vteps.is_empty());

    let listed = lab.json(&["bd", "list"]);
    assert_eq!(
        listed[1],
        json!({"name": "db", "vni": null, "inner_vlan": "drop", "vteps": [], "ports": [], "fdb_entries": 0,
               "owner": "api"})
    );
    assert_eq!(listed[0]["vni"], 100);
    assert_eq!(lab.ok(&["bd", "del", "db"]), "removed bd db\n");
    let kept = lab.refused(&["bd", "del", "web"]);
    assert!(kept.contains("configuration file") && kept.contains("hint: remove it there"), "{kept}");
}

#[test]
fn vteps_are_added_and_removed() {
    let lab = Lab::new();
    lab.ok(&["vtep", "add", "c", "--address", "192.168.50.3", "--encap", "vxlan", "--port", "4790"]);
    let text = lab.ok(&["vtep", "list"]);
    fits(&text);
    assert!(text.contains("4790"), "{text}");
    assert_eq!(
        lab.json(&["vtep", "list"])[0],
        json!({"name": "host-b", "address": "192.168.50.2", "encap": "vxlan", "port": 4789,
               "next_hop": "192.168.50.2", "resolved": true, "bds": ["web"], "owner": "file"})
    );
    assert_eq!(lab.ok(&["vtep", "del", "c"]), "removed vtep c\n");
    let error = lab.refused(&["vtep", "add", "d", "--address", "192.168.50.1"]);
    assert!(error.contains("own address of uplink \"up0\""), "{error}");
}

#[test]
fn fdb_entries_are_added_and_removed() {
    let lab = Lab::new();
    lab.ok(&["fdb", "add", "--bd", "web", "02:00:00:00:00:09", "--port", "vm1"]);
    let entry = lab.fake.model.lock().unwrap().fdb[1].clone();
    assert_eq!((entry.target, entry.owner), (FdbTarget::Port("vm1".into()), Owner::Api));
    let text = lab.ok(&["fdb", "list"]);
    fits(&text);
    assert_eq!(
        text,
        "BD   MAC                TO           OWNER\n\
         web  02:00:00:00:00:02  vtep host-b  file\n\
         web  02:00:00:00:00:09  port vm1     api\n"
    );
    assert_eq!(
        lab.json(&["fdb", "list", "--bd", "web"])[0],
        json!({"bd": "web", "mac": "02:00:00:00:00:02", "vtep": "host-b", "owner": "file"})
    );
    assert_eq!(
        lab.ok(&["fdb", "del", "--bd", "web", "02:00:00:00:00:09"]),
        "removed fdb web 02:00:00:00:00:09\n"
    );
    assert!(lab.refused(&["fdb", "list", "--bd", "nope"]).contains("there is no bd \"nope\""));

    // Two mistakes of one request come together.
    let error = lab.refused(&["fdb", "add", "--bd", "web", "03:00:00:00:00:09", "--port", "vm9"]);
    assert!(error.contains("multicast") && error.contains("there is no port \"vm9\""), "{error}");
}

#[test]
fn a_long_fdb_comes_in_pieces_and_whole() {
    let lab = Lab::new();
    {
        let mut model = lab.fake.model.lock().unwrap();
        let first = model.fdb[0].clone();
        for i in 0..100_000u64 {
            let mut entry = first.clone();
            entry.mac = weft_wire::MacAddr::from_u64(0x0200_0100_0000 + i);
            model.fdb.push(entry);
        }
    }
    let entries = lab.json(&["fdb", "list"]);
    let entries = entries.as_array().unwrap();
    assert_eq!(entries.len(), 100_001);
    assert_eq!(entries[100_000]["mac"], "02:00:01:01:86:9f");
}

#[test]
fn nobody_reading_on_is_no_error() {
    let lab = Lab::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_weftctl"))
        .args(["--socket", lab.socket.to_str().unwrap(), "status"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn neigh_list() {
    let lab = Lab::new();
    let text = lab.ok(&["neigh", "list"]);
    fits(&text);
    assert!(text.contains("incomplete"), "{text}");
    assert_eq!(
        lab.json(&["neigh", "list"]),
        json!([
            {"uplink": "up0", "ip": "192.168.50.2", "mac": "02:cc:00:00:00:02", "state": "reachable",
             "age_seconds": 7, "queued": 0},
            {"uplink": "up0", "ip": "192.168.50.3", "mac": null, "state": "incomplete", "age_seconds": 7, "queued": 0}
        ])
    );
}

#[test]
fn stats_and_drops() {
    let lab = Lab::new();
    let text = lab.ok(&["stats"]);
    fits(&text);
    for line in [
        "mbufs: 600 of 8192 in use",
        "fdb: 1,000,000 entries, 76% of 1,310,720 places, 22.3 MB, 1 chained",
        "     grown 3, shrunk 4, replaced 5, reseeded 6 times; 2 displacements, 7 anomalies",
        "waiting for workers: 3.1 MB in 2 items, oldest 12 ms",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    let value = lab.json(&["stats"]);
    assert_eq!(
        value["books"],
        json!({"received": 100, "replicas": 10, "originated": 2, "sent": 102, "dropped": 8, "consumed": 1, "held": 1})
    );
    assert_eq!(value["drops"], json!({"unknown-vni": 3, "split-horizon": 5}));
    // Counters keep all their 64 bits.
    assert_eq!(value["ports"][0]["rx_packets"], u64::MAX);
    assert_eq!(value["mempool"], json!({"size": 8192, "in_use": 600}));
    assert_eq!(value["workers"][0]["core"], 1);
    assert_eq!(
        value["fdb"],
        json!({"entries": 1_000_000, "places": 1_310_720, "load_percent": 76.25, "bytes": 22_282_240,
               "chained_entries": 1, "displacements": 2, "grown": 3, "shrunk": 4, "replaced": 5, "reseeded": 6,
               "anomalies": 7})
    );
    assert_eq!(value["waiting"], json!({"items": 2, "bytes": 3_141_592, "oldest_milliseconds": 12}));

    assert_eq!(lab.json(&["stats", "--port", "vm1"])["tx_bytes"], 6528);
    assert!(lab.ok(&["stats", "--port", "vm1"]).contains("102 packets, 6528 bytes"));
    assert!(lab.refused(&["stats", "--port", "vm2"]).contains("did you mean \"vm1\"?"));

    assert_eq!(
        lab.ok(&["drops"]),
        "REASON         PACKETS\nsplit-horizon        5\nunknown-vni          3\n"
    );
    assert_eq!(lab.json(&["drops"]), json!({"unknown-vni": 3, "split-horizon": 5}));
}

#[test]
fn reload() {
    let lab = Lab::new();
    assert_eq!(
        lab.ok(&["reload"]),
        "added port vm2\nchanged bd web\nneeds a restart of weftd: workers.cores\n"
    );
    assert_eq!(
        lab.json(&["reload"]),
        json!({"added": ["port vm2"], "changed": ["bd web"], "removed": [], "unchanged": 3,
               "needs_restart": ["workers.cores"]})
    );
}

#[test]
fn check_asks_weftd() {
    let lab = Lab::new();
    assert_eq!(lab.ok(&["check"]), "/etc/weft/weft.toml: no errors\na reload would change nothing\n");
    lab.fake.check_errors.lock().unwrap().push("weft.toml:3:1: error: no".into());
    let ran = lab.run(&["check"]);
    assert_eq!(ran.code, 1);
    assert_eq!(ran.stdout, "weft.toml:3:1: error: no\n/etc/weft/weft.toml: 1 error\n");
    let ran = lab.run(&["check", "--json"]);
    assert_eq!(ran.code, 1);
    let value: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(value["errors"][0], "weft.toml:3:1: error: no");
}

#[test]
fn check_of_a_file_needs_no_weftd() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weft.toml");
    let path = path.to_str().unwrap();
    std::fs::write(path, FILE).unwrap();
    let ran = weftctl(&["--socket", "/nonexistent", "check", path]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert_eq!(
        ran.stdout,
        format!("{path}: no errors (1 ports, 1 bridge domains, 1 vteps, 1 FDB entries)\n")
    );

    std::fs::write(path, FILE.replace("vni = 100", "vnii = 100")).unwrap();
    let ran = weftctl(&["check", path]);
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.starts_with(&format!("{path}:10:1: error: a bridge domain with vteps needs a VNI\n")));
    assert!(ran.stdout.contains(&format!("{path}:12:1: error: unknown key vnii in bd\n")), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("   12 | vnii = 100\n      | ^^^^\n  hint: did you mean vni?\n"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.ends_with(": 2 errors\n"), "{}", ran.stdout);
    let ran = weftctl(&["--json", "check", path]);
    let value: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &value["ok"], &value["errors"][1]["line"]), (1, &json!(false), &json!(12)));

    let ran = weftctl(&["check", "/nonexistent/weft.toml"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.contains("cannot read /nonexistent/weft.toml"), "{}", ran.stdout);
}

#[test]
fn errors_in_json_have_kinds() {
    let lab = Lab::new();
    let kind = |args: &[&str]| {
        let ran = lab.run(&[args, &["--json"]].concat());
        assert_eq!(ran.code, 1);
        assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
        let value: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        value["error"]["kind"].as_str().unwrap().to_owned()
    };
    assert_eq!(kind(&["port", "del", "nope"]), "not-found");
    assert_eq!(kind(&["port", "del", "vm1"]), "precondition");
    assert_eq!(kind(&["port", "add", "vm1", "--bd", "web", "--vhost-user", "/s"]), "already-exists");
    assert_eq!(kind(&["port", "add", "vm2", "--bd", "nope", "--vhost-user", "/s"]), "invalid");
}

#[test]
fn wrong_usage_exits_with_2() {
    let lab = Lab::new();
    for args in [
        &["frobnicate"][..],
        &["port", "add", "x", "--bd", "web"],
        &["port", "add", "x", "--bd", "web", "--vhost-user", "/s", "--device", "d"],
        &["port", "add", "x", "--bd", "web", "--device", "d", "--packed"],
        &["port", "add", "x", "--bd", "web", "--vhost-user", "/s", "--queues", "9"],
        &["port", "add", "x", "--bd", "web", "--vhost-user", "/s", "--mode", "both"],
        &["bd", "add", "x", "--vni", "16777216"],
        &["bd", "set", "web"],
        &["bd", "set", "web", "--vni", "1", "--no-vni"],
        &["vtep", "add", "x", "--address", "192.168.50.300"],
        &["vtep", "add", "x", "--address", "192.168.50.3", "--encap", "gre"],
        &["vtep", "add", "x", "--address", "192.168.50.3", "--port", "0"],
        &["fdb", "add", "--bd", "web", "02:00", "--port", "vm1"],
        &["fdb", "add", "--bd", "web", "02:00:00:00:00:01"],
    ] {
        let ran = lab.run(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{args:?}");
        assert!(ran.stderr.contains("error: "), "{args:?}: {}", ran.stderr);
    }
    assert_eq!(weftctl(&["--help"]).code, 0);
}

#[test]
fn an_absent_weftd_exits_with_3_and_says_how_to_start_it() {
    let mut lab = Lab::new();
    let socket = lab.socket.clone();
    let socket = socket.to_str().unwrap();
    let by_environment = Command::new(env!("CARGO_BIN_EXE_weftctl"))
        .args(["status"])
        .env("WEFT_SOCKET", socket)
        .output()
        .unwrap();
    assert!(by_environment.status.success());

    lab.server.take().unwrap().stop().unwrap();
    assert!(!lab.socket.exists(), "the socket is removed at exit");
    let ran = weftctl(&["--socket", socket, "status"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""));
    assert!(ran.stderr.contains("start it with 'weftd --config"), "{}", ran.stderr);

    // A socket left behind by a killed weftd.
    drop(std::os::unix::net::UnixListener::bind(socket).unwrap());
    let ran = weftctl(&["--socket", socket, "status", "--json"]);
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("is gone: start it again"), "{}", ran.stderr);
    let value: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(value["error"]["kind"], "unreachable");
}

#[test]
fn a_stop_does_not_wait_for_idle_clients() {
    let mut lab = Lab::new();
    let idle = std::os::unix::net::UnixStream::connect(&lab.socket).unwrap();
    lab.ok(&["status"]);
    let begin = std::time::Instant::now();
    lab.server.take().unwrap().stop().unwrap();
    assert!(begin.elapsed() < std::time::Duration::from_millis(900), "{:?}", begin.elapsed());
    drop(idle);
}

#[test]
fn a_weftd_that_hangs_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("weftd.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let ran = weftctl(&["--socket", socket.to_str().unwrap(), "--timeout", "1", "status"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""));
    assert!(ran.stderr.starts_with("error: weftd has not answered for 1 s\n"), "{}", ran.stderr);
}

/// Requests that weftctl cannot send, as a client in another language may.
#[test]
fn malformed_requests_are_refused_with_all_their_mistakes() {
    use weft_control::api::{CallError, Client, ErrorKind, proto};
    let lab = Lab::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = Client::connect(&lab.socket).await.unwrap();
        let mut raw = client.raw();
        let status = raw
            .add_fdb(proto::AddFdbRequest {
                entries: vec![
                    proto::FdbEntry { bd: "web".into(), mac: "02:00".into(), target: None },
                    proto::FdbEntry { bd: "web".into(), mac: "zz".into(), target: None },
                ],
            })
            .await
            .unwrap_err();
        assert_eq!(status.message().lines().count(), 4, "{}", status.message());
        let Err(CallError::Refused(error)) = Err::<(), _>(CallError::from(status)) else {
            panic!("no refusal")
        };
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(
            error.hint.contains("02:00:00:00:00:01") && error.hint.contains("port or vtep"),
            "{}",
            error.hint
        );

        let mut request = proto::AddPortRequest { name: "p".into(), bd: "web".into(), ..Default::default() };
        let status = raw.add_port(request.clone()).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        request.queues = 70_000;
        let device = proto::EthdevPort { device: "d".into(), mtu: u32::MAX };
        request.kind = Some(proto::add_port_request::Kind::Ethdev(device));
        let status = raw.add_port(request).await.unwrap_err();
        assert!(status.message().contains("queues = 70000") && status.message().contains("mtu = 4294967295"));

        // The connection is as good as before.
        assert_eq!(client.status().await.unwrap().ports, 1);
    });
}

/// A thousand mistakes would not fit into the headers that carry errors.
#[test]
fn a_batch_with_many_mistakes_gets_a_short_answer() {
    use weft_control::api::{CallError, Client};
    use weft_control::model::FdbEntry;
    let lab = Lab::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = Client::connect(&lab.socket).await.unwrap();
        let entries = (0..50_000u64).map(|i| FdbEntry {
            bd: "nope".into(),
            mac: weft_wire::MacAddr::from_u64(0x0200_0000_1000 + i),
            target: FdbTarget::Port("vm1".into()),
            owner: Owner::Api,
        });
        let Err(CallError::Refused(error)) = client.add_fdb(entries.collect()).await else {
            panic!("it must be refused")
        };
        assert!(error.message.lines().last().unwrap().ends_with(" more"), "{}", error.message);
        assert_eq!(client.status().await.unwrap().fdb_entries, 1, "all or nothing");
    });
}
