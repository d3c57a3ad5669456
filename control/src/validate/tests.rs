use weft_wire::{Encap, MacAddr, Vni};

use super::*;
use crate::model::*;

/// A model that uses everything and is right.
fn good() -> Model {
    let mut model = Model::default();
    model.settings.uplinks.push(Uplink {
        name: "up0".into(),
        device: "0000:01:00.0".into(),
        address: "192.168.50.1/24".parse().unwrap(),
        gateway: None,
        mac: None,
        mtu: 1600,
        rx_queues: 0,
        tap: String::new(),
        exception_pps: 10_000,
    });
    let vtep = |name: &str, address: &str| Vtep {
        name: name.into(),
        address: address.parse().unwrap(),
        encap: Encap::Geneve,
        port: None,
        owner: Owner::File,
    };
    model.objects.vteps = vec![vtep("b", "192.168.50.2"), vtep("c", "192.168.50.3")];
    let bd = |name: &str, vni, vteps: &[&str]| Bd {
        name: name.into(),
        vni,
        vteps: vteps.iter().map(|v| (*v).into()).collect(),
        inner_vlan: InnerVlan::Drop,
        owner: Owner::File,
    };
    model.objects.bds = vec![bd("web", Vni::new(100), &["b"]), bd("local", None, &[])];
    let socket = "/run/vm1.sock".into();
    let vhost = PortKind::VhostUser { socket, mode: VhostMode::Server, queues: 1, packed: false };
    let ethdev = PortKind::Ethdev { device: "net_memif0,id=0".into(), queues: 1, mtu: 1500 };
    let port =
        |name: &str, bd: &str, kind| Port { name: name.into(), bd: bd.into(), kind, owner: Owner::File };
    model.objects.ports = vec![port("vm1", "web", vhost), port("m0", "local", ethdev)];
    let entry =
        |mac, target| FdbEntry { bd: "web".into(), mac: MacAddr::from_u64(mac), target, owner: Owner::File };
    model.fdb = vec![
        entry(0x0200_0000_0001, FdbTarget::Port("vm1".into())),
        entry(0x0200_0000_0002, FdbTarget::Vtep("b".into())),
    ];
    model
}

/// Breaks the good model and demands exactly one finding: about `object`, its `field`, with `words`.
fn one(break_it: impl FnOnce(&mut Model), object: &str, field: &str, words: &str) {
    let mut model = good();
    break_it(&mut model);
    let findings = validate(&model);
    assert_eq!(findings.len(), 1, "{words}: {findings:#?}");
    let finding = &findings[0];
    assert_eq!((finding.object.to_string().as_str(), finding.field), (object, field), "{findings:#?}");
    assert!(finding.message.contains(words), "{:?} lacks {words:?}", finding.message);
}

#[test]
fn the_good_model_is_good() {
    assert_eq!(validate(&good()), []);
}

#[test]
fn daemon_and_dpdk() {
    one(|m| m.settings.daemon.socket = "weftd.sock".into(), "daemon", "socket", "relative");
    one(|m| m.settings.daemon.socket = "".into(), "daemon", "socket", "empty");
    one(|m| m.settings.daemon.socket = "/run/".into(), "daemon", "socket", "directory");
    let long = format!("/{}", "x".repeat(107));
    one(|m| m.settings.daemon.socket = long.into(), "daemon", "socket", "108 bytes");
    one(|m| m.settings.dpdk.memory_mb = 63, "dpdk", "memory_mb", "out of range");
    one(|m| m.settings.dpdk.queue_mbufs = 1023, "dpdk", "queue_mbufs", "out of range");
    one(|m| m.settings.dpdk.file_prefix = "a/b".into(), "dpdk", "file_prefix", "character");
    one(
        |m| m.settings.dpdk.extra_args = vec!["--file-prefix=x".into()],
        "dpdk",
        "extra_args",
        "by weftd itself",
    );
}

#[test]
fn workers_and_tunnel() {
    one(|m| m.settings.workers.cores = Some(vec![]), "workers", "cores", "no core");
    one(|m| m.settings.workers.cores = Some(vec![3, 2, 3]), "workers", "cores", "core 3 is named twice");
    one(|m| m.settings.workers.cores = Some(vec![4096]), "workers", "cores", "out of range");
    one(|m| m.settings.tunnel.geneve_port = 4789, "tunnel", "geneve_port", "both 4789");
    one(|m| m.settings.tunnel.vxlan_port = 0, "tunnel", "vxlan_port", "out of range");
    one(|m| m.settings.tunnel.ttl = 0, "tunnel", "ttl", "out of range");
    one(|m| m.settings.tunnel.dscp = Dscp::Fixed(64), "tunnel", "dscp", "out of range");
}

#[test]
fn uplinks() {
    fn uplink(m: &mut Model) -> &mut Uplink {
        &mut m.settings.uplinks[0]
    }
    one(|m| m.settings.uplinks.clear(), "uplink", "", "no [[uplink]]");
    one(
        |m| {
            let mut second = m.settings.uplinks[0].clone();
            second.name = "up1".into();
            second.device = "0000:02:00.0".into();
            m.settings.uplinks.push(second);
        },
        "uplink up1",
        "",
        "2 uplinks",
    );
    one(|m| uplink(m).device = String::new(), "uplink up0", "device", "empty");
    one(|m| uplink(m).address = "192.168.50.0/24".parse().unwrap(), "uplink up0", "address", "network's own");
    one(|m| uplink(m).address = "192.168.50.255/24".parse().unwrap(), "uplink up0", "address", "broadcast");
    one(
        |m| uplink(m).address = "192.168.50.1/0".parse().unwrap(),
        "uplink up0",
        "address",
        "prefix length of 0",
    );
    one(|m| uplink(m).gateway = "192.168.51.1".parse().ok(), "uplink up0", "gateway", "outside");
    one(|m| uplink(m).gateway = "192.168.50.1".parse().ok(), "uplink up0", "gateway", "own address");
    one(|m| uplink(m).mac = Some(MacAddr([1, 0, 0, 0, 0, 0])), "uplink up0", "mac", "unicast");
    one(|m| uplink(m).mtu = 575, "uplink up0", "mtu", "out of range");
    one(|m| uplink(m).rx_queues = 129, "uplink up0", "rx_queues", "out of range");
    one(|m| uplink(m).exception_pps = 0, "uplink up0", "exception_pps", "out of range");
    one(|m| uplink(m).tap = "sixteen-letters-".into(), "uplink up0", "tap", "16 bytes");
    one(|m| uplink(m).tap = "a b".into(), "uplink up0", "tap", "no valid name");
}

#[test]
fn vteps() {
    fn c(m: &mut Model) -> &mut Vtep {
        &mut m.objects.vteps[1]
    }
    one(|m| c(m).name = "b".into(), "vtep b", "name", "another vtep");
    one(|m| c(m).address = "192.168.50.1".parse().unwrap(), "vtep c", "address", "own address");
    one(|m| c(m).address = "192.168.50.255".parse().unwrap(), "vtep c", "address", "broadcast");
    one(|m| c(m).address = "224.0.0.1".parse().unwrap(), "vtep c", "address", "multicast");
    one(|m| c(m).address = "10.0.0.1".parse().unwrap(), "vtep c", "address", "no gateway");
    one(|m| c(m).address = "192.168.50.2".parse().unwrap(), "vtep c", "address", "vtep \"b\" has");
    one(|m| c(m).port = Some(0), "vtep c", "port", "out of range");
    let mut far = good();
    far.settings.uplinks[0].gateway = "192.168.50.254".parse().ok();
    c(&mut far).address = "10.0.0.1".parse().unwrap();
    assert_eq!(validate(&far), []);
    let mut both = good();
    c(&mut both).address = "192.168.50.2".parse().unwrap();
    c(&mut both).encap = Encap::Vxlan;
    assert_eq!(validate(&both), [], "one host may be reached in both encapsulations");
}

#[test]
fn bds() {
    fn web(m: &mut Model) -> &mut Bd {
        &mut m.objects.bds[0]
    }
    one(|m| m.objects.bds[1].vni = Vni::new(100), "bd local", "vni", "bd \"web\" has the VNI 100");
    one(|m| web(m).vni = None, "bd web", "vni", "needs a VNI");
    one(|m| web(m).vteps.push("x".into()), "bd web", "vteps", "no vtep \"x\"");
    one(|m| web(m).vteps.push("b".into()), "bd web", "vteps", "listed twice");
    one(
        |m| {
            m.objects.vteps[1].address = m.objects.vteps[0].address;
            m.objects.vteps[1].encap = Encap::Vxlan;
            web(m).vteps.push("c".into());
        },
        "bd web",
        "vteps",
        "the same host",
    );
}

#[test]
fn ports() {
    fn vm1(m: &mut Model) -> &mut PortKind {
        &mut m.objects.ports[0].kind
    }
    let socket = |path: &str, queues| PortKind::VhostUser {
        socket: path.into(),
        mode: VhostMode::Server,
        queues,
        packed: false,
    };
    let device = |device: &str, mtu| PortKind::Ethdev { device: device.into(), queues: 1, mtu };
    one(|m| m.objects.ports[1].name = "up0".into(), "port up0", "name", "another uplink");
    one(|m| m.objects.ports[1].name = "vm1".into(), "port vm1", "name", "another port");
    one(|m| m.objects.ports[1].name = "-x".into(), "port -x", "name", "character");
    one(
        |m| m.objects.ports[1].name = "n".repeat(64),
        &format!("port {}", "n".repeat(64)),
        "name",
        "64 characters",
    );
    one(|m| m.objects.ports[1].bd = "lokal".into(), "port m0", "bd", "no bd \"lokal\"");
    one(|m| *vm1(m) = socket("/s", 0), "port vm1", "queues", "out of range");
    one(|m| *vm1(m) = socket("/s", 9), "port vm1", "queues", "out of range");
    one(|m| *vm1(m) = socket(DEFAULT_SOCKET, 1), "port vm1", "socket", "weftd's API");
    one(|m| m.objects.ports[1].kind = socket("/run/vm1.sock", 1), "port m0", "socket", "port \"vm1\"");
    one(|m| *vm1(m) = device("net_memif0,id=7", 1500), "port m0", "device", "port \"vm1\"");
    one(|m| *vm1(m) = device("01:00.0", 1500), "port vm1", "device", "uplink \"up0\"");
    one(|m| *vm1(m) = device("", 1500), "port vm1", "device", "empty");
    one(|m| *vm1(m) = device("net_null0", 575), "port vm1", "mtu", "out of range");
}

#[test]
fn fdb() {
    fn first(m: &mut Model) -> &mut FdbEntry {
        &mut m.fdb[0]
    }
    let object = "fdb web 02:00:00:00:00:01";
    one(|m| first(m).mac = MacAddr([0xff; 6]), "fdb web ff:ff:ff:ff:ff:ff", "mac", "multicast");
    one(|m| first(m).mac = MacAddr([0; 6]), "fdb web 00:00:00:00:00:00", "mac", "no station");
    one(
        |m| first(m).mac = MacAddr::from_u64(0x0200_0000_0002),
        "fdb web 02:00:00:00:00:02",
        "mac",
        "two entries",
    );
    one(|m| first(m).bd = "wbe".into(), "fdb wbe 02:00:00:00:00:01", "bd", "no bd \"wbe\"");
    one(
        |m| first(m).target = FdbTarget::Port("m0".into()),
        object,
        "port",
        "in bd \"local\", not in \"web\"",
    );
    one(|m| first(m).target = FdbTarget::Port("vm2".into()), object, "port", "no port \"vm2\"");
    one(|m| first(m).target = FdbTarget::Vtep("c".into()), object, "vtep", "does not take part");
    one(|m| first(m).target = FdbTarget::Vtep("z".into()), object, "vtep", "no vtep \"z\"");
}

#[test]
fn everything_is_reported_at_once() {
    let mut model = good();
    model.settings.tunnel.ttl = 0;
    model.objects.bds[0].vni = None;
    model.objects.ports[0].bd = "x".into();
    // The port's entry is now in another bridge domain than the port: a consequence that is true as well.
    let fields: Vec<&str> = validate(&model).iter().map(|f| f.field).collect();
    assert_eq!(fields, ["ttl", "vni", "bd", "port"]);
}

#[test]
fn hints_help() {
    let hint = |wrong: &str| suggest(wrong, "bd", ["web", "database"].into_iter());
    assert_eq!(hint("wbe"), "did you mean \"web\"?");
    assert_eq!(hint("databse"), "did you mean \"database\"?");
    assert_eq!(hint("zzzzzz"), "there is: database, web");
    assert_eq!(suggest("x", "bd", std::iter::empty()), "there is no bd yet: add one first");
}
