//! The tables of the file, one function each.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::Ipv4Net;
use toml_edit::TableLike;
use weft_wire::{Encap, MacAddr, Vni};

use super::reader::{Fields, Reader};
use crate::cores;
use crate::model::{
    Bd, Daemon, Dpdk, Dscp, FdbEntry, FdbTarget, Idle, InnerVlan, LogLevel, Model, Owner, Port, PortKind,
    Tunnel, Uplink, VhostMode, Vtep, Workers,
};
use crate::validate::{ObjectKind, range};

/// Reads one table into `model`.
pub(super) fn read(
    reader: &mut Reader,
    kind: ObjectKind,
    index: usize,
    table: &dyn TableLike,
    span: Option<Range<usize>>,
    model: &mut Model,
) {
    let mut fields = reader.fields(kind, index, table, span);
    let f = &mut fields;
    match kind {
        ObjectKind::Daemon => model.settings.daemon = daemon(f),
        ObjectKind::Dpdk => model.settings.dpdk = dpdk(f),
        ObjectKind::Workers => model.settings.workers = workers(f),
        ObjectKind::Tunnel => model.settings.tunnel = tunnel(f),
        ObjectKind::Uplink => model.settings.uplinks.push(uplink(f)),
        ObjectKind::Vtep => model.objects.vteps.push(vtep(f)),
        ObjectKind::Bd => model.objects.bds.push(bd(f)),
        ObjectKind::Port => model.objects.ports.push(port(f)),
        ObjectKind::Fdb => model.fdb.push(fdb(f)),
    }
    fields.finish();
}

fn daemon(f: &mut Fields<'_, '_>) -> Daemon {
    let default = Daemon::default();
    let levels = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    Daemon {
        socket: f.string("socket").map_or(default.socket, PathBuf::from),
        log: f.word("log", &levels).unwrap_or(default.log),
    }
}

fn dpdk(f: &mut Fields<'_, '_>) -> Dpdk {
    let default = Dpdk::default();
    // 0 is allowed beside the range and has a meaning of its own.
    let mbufs_range = 0..=*range::QUEUE_MBUFS.end();
    Dpdk {
        memory_mb: f.number("memory_mb", &range::MEMORY_MB).unwrap_or(default.memory_mb),
        hugepages: f.boolean("hugepages").unwrap_or(default.hugepages),
        file_prefix: f.string("file_prefix").map_or(default.file_prefix, str::to_owned),
        queue_mbufs: f.number("queue_mbufs", &mbufs_range).unwrap_or(default.queue_mbufs),
        extra_args: f.strings("extra_args").unwrap_or(default.extra_args),
    }
}

fn workers(f: &mut Fields<'_, '_>) -> Workers {
    let cores = f.parsed("cores", |text| {
        cores::parse(text).map_err(|error| {
            let hint = "a list such as \"2-3,5\" or a mask such as \"0x2c\"";
            (format!("cores = {text:?}: {error}"), hint.to_owned())
        })
    });
    let idle = f.word("idle", &[("backoff", Idle::Backoff), ("poll", Idle::Poll)]);
    let stage_timing = f.boolean("stage_timing").unwrap_or_default();
    Workers { cores, idle: idle.unwrap_or_default(), stage_timing }
}

fn tunnel(f: &mut Fields<'_, '_>) -> Tunnel {
    let default = Tunnel::default();
    let dscp = f.number_or_word("dscp", &range::DSCP, "inherit");
    Tunnel {
        vxlan_port: f.number("vxlan_port", &range::UDP_PORT).unwrap_or(default.vxlan_port),
        geneve_port: f.number("geneve_port", &range::UDP_PORT).unwrap_or(default.geneve_port),
        ttl: f.number("ttl", &range::TTL).unwrap_or(default.ttl),
        df: f.boolean("df").unwrap_or(default.df),
        dscp: match dscp {
            None => default.dscp,
            Some(None) => Dscp::Inherit,
            Some(Some(value)) => u8::try_from(value).map_or(default.dscp, Dscp::Fixed),
        },
    }
}

fn uplink(f: &mut Fields<'_, '_>) -> Uplink {
    f.missing("name", "name = \"up0\"");
    f.missing("device", "device = \"0000:01:00.0\"");
    f.missing("address", "address = \"192.168.50.1/24\"");
    let address = f.parsed("address", |text| {
        Ipv4Net::from_str(text).map_err(|_| {
            let message = format!("address = {text:?} is no IPv4 address with prefix length");
            let hint = match text.parse::<Ipv4Addr>() {
                Ok(_) => format!("add the prefix length of the subnet, for example \"{text}/24\""),
                Err(_) => "write for example \"192.168.50.1/24\"".to_owned(),
            };
            (message, hint)
        })
    });
    Uplink {
        name: f.string("name").unwrap_or_default().to_owned(),
        device: f.string("device").unwrap_or_default().to_owned(),
        // The stand-in holds every address, so that nothing else seems to lie outside of it.
        address: address.unwrap_or_default(),
        gateway: f.parsed("gateway", |text| ipv4("gateway", text)),
        mac: f.parsed("mac", mac),
        mtu: f.number("mtu", &range::MTU).unwrap_or(Uplink::DEFAULT_MTU),
        rx_queues: f.number("rx_queues", &range::RX_QUEUES).unwrap_or(0),
        tap: f.string("tap").unwrap_or_default().to_owned(),
        exception_pps: f
            .number("exception_pps", &range::EXCEPTION_PPS)
            .unwrap_or(Uplink::DEFAULT_EXCEPTION_PPS),
    }
}

fn vtep(f: &mut Fields<'_, '_>) -> Vtep {
    f.missing("name", "name = \"host-b\"");
    f.missing("address", "address = \"192.168.50.2\"");
    Vtep {
        name: f.string("name").unwrap_or_default().to_owned(),
        address: f.parsed("address", |text| ipv4("address", text)).unwrap_or(Ipv4Addr::UNSPECIFIED),
        encap: f
            .word("encap", &[("geneve", Encap::Geneve), ("vxlan", Encap::Vxlan)])
            .unwrap_or(Encap::Geneve),
        port: f.number("port", &range::UDP_PORT),
        owner: Owner::File,
    }
}

fn bd(f: &mut Fields<'_, '_>) -> Bd {
    f.missing("name", "name = \"web\"");
    Bd {
        name: f.string("name").unwrap_or_default().to_owned(),
        vni: f.number::<u32>("vni", &range::VNI).and_then(Vni::new),
        vteps: f.strings("vteps").unwrap_or_default(),
        inner_vlan: f
            .word("inner_vlan", &[("drop", InnerVlan::Drop), ("keep", InnerVlan::Keep)])
            .unwrap_or_default(),
        owner: Owner::File,
    }
}

fn port(f: &mut Fields<'_, '_>) -> Port {
    f.missing("name", "name = \"vm1\"");
    f.missing("bd", "bd = \"web\"");
    f.missing("type", "type = \"vhost-user\"");
    let name = f.string("name").unwrap_or_default().to_owned();
    let bd = f.string("bd").unwrap_or_default().to_owned();
    let queues = f.number("queues", &range::PORT_QUEUES).unwrap_or(1);
    let ethdev = f.word("type", &[("vhost-user", false), ("ethdev", true)]);
    // Without a usable type both sets of keys are read, so that their own mistakes show.
    let kind = if ethdev == Some(true) {
        f.exclude(&["socket", "mode", "packed"], "it belongs to ports of type = \"vhost-user\"");
        f.missing("device", "device = \"net_memif0,role=server,id=0,socket=/run/weft/m0.sock\"");
        ethdev_kind(f, queues)
    } else {
        if ethdev.is_none() {
            ethdev_kind(f, queues);
        } else {
            f.exclude(&["device", "mtu"], "it belongs to ports of type = \"ethdev\"");
            f.missing("socket", "socket = \"/run/weft/vm1.sock\"");
        }
        vhost_kind(f, queues)
    };
    if ethdev.is_none() {
        f.ignore("socket");
    }
    Port { name, bd, kind, owner: Owner::File }
}

fn vhost_kind(f: &mut Fields<'_, '_>, queues: u16) -> PortKind {
    let modes = [("server", VhostMode::Server), ("client", VhostMode::Client)];
    PortKind::VhostUser {
        socket: f.string("socket").map(PathBuf::from).unwrap_or_default(),
        mode: f.word("mode", &modes).unwrap_or_default(),
        queues,
        packed: f.boolean("packed").unwrap_or(false),
    }
}

fn ethdev_kind(f: &mut Fields<'_, '_>, queues: u16) -> PortKind {
    PortKind::Ethdev {
        device: f.string("device").unwrap_or_default().to_owned(),
        queues,
        mtu: f.number("mtu", &range::MTU).unwrap_or(PortKind::DEFAULT_MTU),
    }
}

fn fdb(f: &mut Fields<'_, '_>) -> FdbEntry {
    f.missing("bd", "bd = \"web\"");
    f.missing("mac", "mac = \"02:00:00:00:00:02\"");
    let (port, vtep) = (f.string("port").map(str::to_owned), f.string("vtep").map(str::to_owned));
    let target = match (f.has("port"), f.has("vtep")) {
        (true, true) => {
            f.wrong(
                "vtep",
                "an fdb entry leads to a port or to a vtep, not to both",
                "remove one of the two keys",
            );
            FdbTarget::Vtep(vtep.unwrap_or_default())
        }
        (false, true) => FdbTarget::Vtep(vtep.unwrap_or_default()),
        (true, false) => FdbTarget::Port(port.unwrap_or_default()),
        (false, false) => {
            f.wrong(
                "port",
                "an fdb entry needs the key port or vtep",
                "add for example: port = \"vm1\" for a local one, vtep = \"host-b\" for a remote one",
            );
            FdbTarget::Port(String::new())
        }
    };
    FdbEntry {
        bd: f.string("bd").unwrap_or_default().to_owned(),
        mac: f.parsed("mac", mac).unwrap_or(MacAddr([0; 6])),
        target,
        owner: Owner::File,
    }
}

fn ipv4(key: &str, text: &str) -> Result<Ipv4Addr, (String, String)> {
    text.parse().map_err(|_| {
        let hint = if text.contains('/') {
            "write the address alone, without a prefix length"
        } else if text.contains(':') {
            "the underlay is IPv4: write for example \"192.168.50.2\""
        } else {
            "write for example \"192.168.50.2\""
        };
        (format!("{key} = {text:?} is no IPv4 address"), hint.to_owned())
    })
}

fn mac(text: &str) -> Result<MacAddr, (String, String)> {
    text.parse().map_err(|_| {
        (
            format!("mac = {text:?} is no MAC address"),
            "six hexadecimal bytes: \"02:00:00:00:00:01\"".to_owned(),
        )
    })
}
