use super::*;
use crate::model::{Dscp, FdbTarget, Idle, InnerVlan, LogLevel, Owner, PortKind, VhostMode};

/// Every key of the file at a value that is not its default.
const FULL: &str = r#"
[daemon]
socket = "/run/weft/other.sock"
log = "debug"
[dpdk]
memory_mb = 256
hugepages = false
file_prefix = "weft-a"
queue_mbufs = 4096
extra_args = ["--no-pci", "--in-memory"]
[workers]
cores = "0x2c"
idle = "poll"
stage_timing = true
[tunnel]
vxlan_port = 8472
geneve_port = 6082
ttl = 32
df = false
dscp = "inherit"
[[uplink]]
name = "up0"
device = "net_af_packet0,iface=eth1,framesz=2048"
address = "192.168.50.1/24"
gateway = "192.168.50.254"
mac = "02:aa:00:00:00:01"
mtu = 9000
rx_queues = 2
tap = "weft-up0"
exception_pps = 500
[[vtep]]
name = "host-b"
address = "192.168.50.2"
encap = "vxlan"
port = 4790
[[vtep]]
name = "far"
address = "10.1.1.1"
[[bd]]
name = "web"
vni = 100
vteps = ["host-b", "far"]
inner_vlan = "keep"
[[port]]
name = "vm1"
bd = "web"
type = "vhost-user"
socket = "/run/weft/vm1.sock"
mode = "client"
queues = 2
packed = true
[[port]]
name = "m0"
bd = "web"
type = "ethdev"
device = "net_memif0,role=server,id=0"
queues = 4
mtu = 1400
[[fdb]]
bd = "web"
mac = "02:00:00:00:00:02"
vtep = "host-b"
[[fdb]]
bd = "web"
mac = "02:00:00:00:00:03"
port = "vm1"
"#;

/// The least file: one uplink.
const LEAST: &str = "[[uplink]]\nname = \"up0\"\ndevice = \"net_null0\"\naddress = \"192.168.50.1/24\"\n";

fn show(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|d| format!("{d}\n")).collect()
}

/// The errors of `text` as (line, message, hint).
fn errors(text: &str) -> Vec<(usize, String, String)> {
    let diagnostics = parse(text, "weft.toml").expect_err("the file is wrong");
    diagnostics.into_iter().map(|d| (d.line, d.message, d.hint)).collect()
}

/// The one error of the least file with `more` below (so `more` starts at line 5).
fn one_error(more: &str) -> (usize, String, String) {
    let mut errors = errors(&format!("{LEAST}{more}"));
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors.remove(0)
}

#[test]
fn every_key_arrives() {
    let model = parse(FULL, "f").unwrap_or_else(|e| panic!("{}", show(&e)));
    let s = &model.settings;
    assert_eq!(s.daemon.socket, Path::new("/run/weft/other.sock"));
    assert_eq!(s.daemon.log, LogLevel::Debug);
    assert_eq!((s.dpdk.memory_mb, s.dpdk.hugepages, s.dpdk.queue_mbufs), (256, false, 4096));
    assert_eq!(s.dpdk.file_prefix, "weft-a");
    assert_eq!(s.dpdk.extra_args, ["--no-pci", "--in-memory"]);
    assert_eq!(s.workers.cores, Some(vec![2, 3, 5]));
    assert!(s.workers.idle == Idle::Poll && s.workers.stage_timing);
    let t = &s.tunnel;
    assert_eq!((t.vxlan_port, t.geneve_port, t.ttl, t.df, t.dscp), (8472, 6082, 32, false, Dscp::Inherit));
    let [u] = &s.uplinks[..] else { panic!("{:?}", s.uplinks) };
    assert_eq!((u.name.as_str(), u.device.as_str()), ("up0", "net_af_packet0,iface=eth1,framesz=2048"));
    assert_eq!(u.address.to_string(), "192.168.50.1/24");
    assert_eq!(u.gateway.unwrap().to_string(), "192.168.50.254");
    assert_eq!(u.mac.unwrap().to_string(), "02:aa:00:00:00:01");
    assert_eq!((u.mtu, u.rx_queues, u.tap.as_str(), u.exception_pps), (9000, 2, "weft-up0", 500));
    let [b, far] = &model.objects.vteps[..] else { panic!() };
    assert_eq!(
        (b.name.as_str(), b.address.to_string().as_str(), b.port),
        ("host-b", "192.168.50.2", Some(4790))
    );
    assert_eq!((b.encap.to_string().as_str(), far.encap.to_string().as_str()), ("vxlan", "geneve"));
    assert_eq!((far.port, far.owner), (None, Owner::File));
    let [bd] = &model.objects.bds[..] else { panic!() };
    assert_eq!((bd.name.as_str(), bd.vni.unwrap().get(), bd.inner_vlan), ("web", 100, InnerVlan::Keep));
    assert_eq!(bd.vteps, ["host-b", "far"]);
    let [vm1, m0] = &model.objects.ports[..] else { panic!() };
    assert_eq!((vm1.name.as_str(), vm1.bd.as_str()), ("vm1", "web"));
    assert_eq!(
        vm1.kind,
        PortKind::VhostUser {
            socket: "/run/weft/vm1.sock".into(),
            mode: VhostMode::Client,
            queues: 2,
            packed: true
        }
    );
    assert_eq!(
        m0.kind,
        PortKind::Ethdev { device: "net_memif0,role=server,id=0".into(), queues: 4, mtu: 1400 }
    );
    let [remote, local] = &model.fdb[..] else { panic!() };
    assert_eq!(remote.target, FdbTarget::Vtep("host-b".into()));
    assert_eq!(
        (local.target.clone(), local.mac.to_string()),
        (FdbTarget::Port("vm1".into()), "02:00:00:00:00:03".into())
    );
}

/// The test above says something about every key only if the file has them all.
#[test]
fn the_full_file_is_full_and_far_from_the_defaults() {
    let document = Document::parse(FULL).unwrap();
    let text_of = |item: &Item| FULL[item.span().unwrap()].to_owned();
    for table in schema::SCHEMA {
        for key in table.keys {
            let item = &document.as_table()[table.kind.name()];
            let values: Vec<String> = match item {
                Item::ArrayOfTables(array) => {
                    array.iter().filter_map(|t| t.get(key.name)).map(text_of).collect()
                }
                _ => item.get(key.name).map(text_of).into_iter().collect(),
            };
            assert!(!values.is_empty(), "{}.{} is missing in FULL", table.kind.name(), key.name);
            if let schema::Fallback::Value(default) = key.default {
                assert!(values.iter().all(|v| v.trim() != default), "{}.{}", table.kind.name(), key.name);
            }
        }
    }
}

/// What the schema (and so the documentation) calls a default is what leaving the key out gives.
#[test]
fn defaults_are_as_documented() {
    let base = parse(
        &format!(
            "{LEAST}[[vtep]]\nname='v'\naddress='192.168.50.2'\n[[bd]]\nname='b'\n[[port]]\nname='p'\nbd='b'\ntype='vhost-user'\nsocket='/s'\n[[port]]\nname='q'\nbd='b'\ntype='ethdev'\ndevice='net_null1'\n"
        ),
        "f",
    )
    .unwrap_or_else(|e| panic!("{}", show(&e)));
    let value = |kind, name| {
        let key = schema::table(kind).keys.iter().find(|k| k.name == name).unwrap();
        match key.default {
            schema::Fallback::Value(value) => format!("{name} = {value}\n"),
            _ => String::new(),
        }
    };
    let all = |kind: ObjectKind, but: &[&str]| -> String {
        schema::table(kind)
            .keys
            .iter()
            .filter(|k| !but.contains(&k.name))
            .map(|k| value(kind, k.name))
            .collect()
    };
    use ObjectKind::*;
    let explicit = format!(
        "{LEAST}{}[[vtep]]\nname='v'\naddress='192.168.50.2'\n{}[[bd]]\nname='b'\n{}\
         [[port]]\nname='p'\nbd='b'\ntype='vhost-user'\nsocket='/s'\n{}\
         [[port]]\nname='q'\nbd='b'\ntype='ethdev'\ndevice='net_null1'\n{}\
         [daemon]\n{}[dpdk]\n{}[workers]\n{}[tunnel]\n{}",
        all(Uplink, &[]),
        all(Vtep, &[]),
        all(Bd, &[]),
        all(Port, &["mtu", "device"]),
        all(Port, &["mode", "packed", "socket"]),
        all(Daemon, &[]),
        all(Dpdk, &[]),
        all(Workers, &[]),
        all(Tunnel, &[]),
    );
    assert_eq!(parse(&explicit, "f").unwrap_or_else(|e| panic!("{}", show(&e))), base);
}

#[test]
fn all_errors_of_a_file_come_at_once() {
    let text = r#"[daemon]
sokcet = "/run/weft/weftd.sock"
[workers]
cores = "3-1"
[tunnel]
ttl = 300
df = "yes"
[[uplink]]
name = "up0"
device = "net_null0"
address = "192.168.50.1"
mtu = 1600.5
[[vtep]]
name = "host-b"
address = "192.168.50.300"
encap = "genev"
[[bd]]
name = "web"
vni = 16777216
vteps = ["host-c", 7]
[[port]]
name = "vm1"
bd = "wed"
type = "vhost-user"
device = "x"
queues = 9
[[fdb]]
bd = "web"
mac = "03:00:00:00:00:01"
[policy]
"#;
    let errors = errors(text);
    let lines: Vec<usize> = errors.iter().map(|e| e.0).collect();
    assert_eq!(lines, [2, 4, 6, 7, 11, 12, 15, 16, 19, 20, 21, 23, 25, 26, 27, 29, 30], "{errors:#?}");
    let expected = [
        ("unknown key sokcet in daemon", "did you mean socket?"),
        ("the range 3-1 runs backwards", "2-3,5"),
        ("ttl = 300 is out of range", "allowed: 1 to 255"),
        ("df must be true or false, not a string", "without quotes"),
        ("\"192.168.50.1\" is no IPv4 address with prefix length", "\"192.168.50.1/24\""),
        ("mtu must be a whole number, not a fraction", "576 to 9600"),
        ("\"192.168.50.300\" is no IPv4 address", "192.168.50.2"),
        ("encap = \"genev\" is not known", "did you mean \"geneve\"?"),
        ("vni = 16777216 is out of range", "0 to 16777215"),
        ("holds a whole number", "double quotes"),
        ("port needs the key socket", "/run/weft/vm1.sock"),
        ("there is no bd \"wed\"", "did you mean \"web\"?"),
        ("the key device does not belong here", "\"ethdev\""),
        ("queues = 9 is out of range", "1 to 8"),
        ("needs the key port or vtep", "for example"),
        ("multicast", "unicast"),
        ("unknown table policy", "known tables: [daemon], [dpdk]"),
    ];
    for ((_, message, hint), (wanted, wanted_hint)) in errors.iter().zip(expected) {
        assert!(message.contains(wanted), "{message:?} lacks {wanted:?}");
        assert!(hint.contains(wanted_hint), "{hint:?} lacks {wanted_hint:?}");
    }
}

#[test]
fn an_error_is_shown_with_its_line_and_a_caret() {
    let text = format!("{LEAST}[tunnel]\n\tttl = 300   # high\n");
    let shown = parse(&text, "weft.toml").unwrap_err()[0].to_string();
    assert_eq!(
        shown,
        "weft.toml:6:8: error: ttl = 300 is out of range\n   \
            6 |  ttl = 300   # high\n     \
              |        ^^^\n  \
           hint: allowed: 1 to 255"
    );
}

#[test]
fn carets_count_characters_and_long_lines_are_cut() {
    let text = format!("{LEAST}[daemon]\nlog = \"größer\"\n");
    let diagnostic = &parse(&text, "f").unwrap_err()[0];
    assert_eq!((diagnostic.column, diagnostic.caret), (7, (6, 8)));

    let far = " ".repeat(500);
    let text = format!("{LEAST}[daemon]\nlog ={far}\"loud\"\n");
    let diagnostic = &parse(&text, "f").unwrap_err()[0];
    assert_eq!(diagnostic.column, 506);
    let under: String = diagnostic.source.chars().skip(diagnostic.caret.0).take(diagnostic.caret.1).collect();
    assert_eq!(under, "\"loud\"");
    assert!(diagnostic.source.chars().count() <= 100);
}

#[test]
fn messages_carry_no_control_characters() {
    let text = format!("{LEAST}[daemon]\n\"\\u001b[2J\" = 1\n[[port]]\nname = \"p\"\nbd = \"\\u001b[2J\"\n");
    for diagnostic in parse(&text, "f").unwrap_err() {
        assert!(!diagnostic.to_string().contains(|c: char| c.is_control() && c != '\n'), "{diagnostic:?}");
    }
}

#[test]
fn a_model_survives_json() {
    let model = parse(FULL, "f").unwrap();
    let json = serde_json::to_string(&model).unwrap();
    assert_eq!(serde_json::from_str::<Model>(&json).unwrap(), model);
}

#[test]
fn findings_point_at_the_very_element() {
    let (line, message, _) = one_error("[[bd]]\nname = \"b\"\nvni = 1\nvteps = [\n  \"nope\",\n]\n");
    assert_eq!((line, message.as_str()), (9, "there is no vtep \"nope\""));
}

#[test]
fn duplicates_are_reported_at_the_second_one() {
    let bd = "[[bd]]\nname = \"b\"\nvni = 7\n";
    let text = format!("{LEAST}{bd}{bd}");
    let found: Vec<_> = errors(&text).into_iter().map(|(line, message, _)| (line, message)).collect();
    assert_eq!(found[0], (9, "another bd is named \"b\" too".to_owned()));
    assert_eq!(found[1], (10, "bd \"b\" has the VNI 7 too".to_owned()));
    assert_eq!(found.len(), 2);
}

#[test]
fn a_wrong_field_causes_no_second_error() {
    // Were the stand-ins looked at, there would be talk of a VNI, of a subnet and of a socket.
    one_error(
        "[[bd]]\nname = \"b\"\nvni = \"x\"\nvteps = [\"v\"]\n[[vtep]]\nname = \"v\"\naddress = \"192.168.50.9\"\n",
    );
    let text =
        LEAST.replace("192.168.50.1/24", "192.168.50.1/33") + "[[vtep]]\nname=\"v\"\naddress=\"10.0.0.1\"\n";
    assert_eq!(errors(&text).len(), 1);
    let (line, message, _) = one_error("[[bd]]\nname = \"b\"\n[[port]]\nname = \"p\"\nbd = \"b\"\n");
    assert_eq!((line, message.as_str()), (7, "port needs the key type"));
}

#[test]
fn wrong_shapes() {
    let (line, message, hint) = one_error("[port]\nname = \"p\"\n");
    assert_eq!(line, 5);
    assert!(message.contains("[[port]]") && hint.contains("two brackets"), "{message} {hint}");
    let (line, message, _) = one_error("[[daemon]]\nlog = \"info\"\n");
    assert_eq!(line, 5);
    assert!(message.contains("[daemon]"), "{message}");
    let mut found = errors("uplink = 5\n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found.remove(0).2.contains("[[uplink]]"));
}

#[test]
fn misplaced_keys_are_sent_home() {
    let (_, message, hint) = one_error("[workers]\nmemory_mb = 5\n");
    assert_eq!(
        (message.as_str(), hint.as_str()),
        ("unknown key memory_mb in workers", "memory_mb belongs to [dpdk]")
    );
    let found = errors(&format!("hugepages = true\n{LEAST}"));
    assert_eq!(found[0], (1, "unknown key hugepages".into(), "hugepages belongs to [dpdk]".into()));
    let (_, _, hint) = one_error("[workerz]\ncores = \"1\"\n");
    assert_eq!(hint, "did you mean [workers]?");
}

#[test]
fn inline_forms_mean_the_same() {
    let text = "uplink = [{name = \"up0\", device = \"net_null0\", address = \"192.168.50.1/24\"}]\n\
                tunnel = {ttl = 7}\ndpdk.memory_mb = 99\n";
    let model = parse(text, "f").unwrap_or_else(|e| panic!("{}", show(&e)));
    assert_eq!((model.settings.tunnel.ttl, model.settings.dpdk.memory_mb), (7, 99));
    let bad = text.replace("ttl = 7", "ttl = 0").replace("name = \"up0\"", "name = 5");
    let places: Vec<_> = parse(&bad, "f").unwrap_err().iter().map(|d| (d.line, d.column)).collect();
    assert_eq!(places, [(1, 19), (2, 17)]);
}

#[test]
fn an_empty_file_wants_an_uplink_and_a_broken_one_says_where() {
    assert_eq!(errors("")[0].1, "there is no [[uplink]]");
    let (line, message, _) = errors("[daemon]\nlog = \n").remove(0);
    assert_eq!(line, 2);
    assert!(message.starts_with("this is no valid TOML: "), "{message}");
}

#[test]
fn files_that_cannot_be_read_say_so() {
    let error = load(Path::new("/nonexistent/weft.toml")).unwrap_err();
    assert!(error.to_string().starts_with("cannot read /nonexistent/weft.toml: "), "{error}");
    assert!(load(Path::new("/dev/zero")).is_err());
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// Lines that are nearly right, in any order: this reaches what random characters never would.
    fn scrap() -> impl Strategy<Value = String> {
        let names = schema::SCHEMA.iter().flat_map(|t| t.keys.iter().map(|k| k.name)).collect::<Vec<_>>();
        let tables = schema::SCHEMA.iter().map(|t| t.kind.name()).collect::<Vec<_>>();
        let values = [
            "1",
            "-1",
            "99999999999",
            "9223372036854775807",
            "1.5",
            "true",
            "\"\"",
            "\"web\"",
            "\"0-9999999\"",
            "[]",
            "[\"web\", 1, {}]",
            "{}",
            "{name = 1}",
            "1979-05-27",
            "\"ff:ff:ff:ff:ff:ff\"",
            "\"255.255.255.255/0\"",
            "\"0.0.0.0/32\"",
            "\"\\u0000/ä\"",
            "\"0xffffffffffffffffffffffffff\"",
            "\"vhost-user\"",
            "\"ethdev\"",
        ];
        prop_oneof![
            prop::sample::select(tables.clone()).prop_map(|t| format!("[[{t}]]")),
            prop::sample::select(tables.clone()).prop_map(|t| format!("[{t}]")),
            (prop::sample::select(names), prop::sample::select(values.to_vec()))
                .prop_map(|(k, v)| format!("{k} = {v}")),
            (prop::sample::select(tables), prop::sample::select(values.to_vec()))
                .prop_map(|(k, v)| format!("{k} = {v}")),
        ]
    }

    fn check(text: &str) {
        if let Err(diagnostics) = parse(text, "f") {
            assert!(!diagnostics.is_empty());
            for diagnostic in diagnostics {
                assert!(diagnostic.line >= 1 && diagnostic.line <= text.matches('\n').count() + 1);
                assert!(!diagnostic.to_string().is_empty());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_read_without_panic(text in "\\PC*") {
            check(&text);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            check(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn any_scraps_are_read_without_panic(lines in prop::collection::vec(scrap(), 0..12)) {
            check(&lines.join("\n"));
        }

        #[test]
        fn any_damage_to_a_good_file_is_survived(at in 0..FULL.len(), with in "\\PC{0,3}", cut in 0..5usize) {
            let mut text = FULL.to_owned();
            text.replace_range(at..(at + cut).min(FULL.len()), &with);
            check(&text);
        }
    }
}
