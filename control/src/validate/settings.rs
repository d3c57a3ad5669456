//! Checks of what only a restart changes.

use std::net::Ipv4Addr;

use super::{ObjectKind, Sink, Subject, range};
use crate::cores::MAX_CORE;
use crate::model::{Dscp, Model, Settings, Uplink};

/// EAL options that weftd sets itself, with the key to use instead.
const OWN_EAL_OPTIONS: [(&str, &str); 8] = [
    ("-l", "workers.cores"),
    ("-c", "workers.cores"),
    ("--lcores", "workers.cores"),
    ("--file-prefix", "dpdk.file_prefix"),
    ("--no-huge", "dpdk.hugepages"),
    ("-m", "dpdk.memory_mb"),
    ("--vdev", "the device of an uplink or port"),
    ("--proc-type", "nothing: weftd is always the primary process"),
];

pub(super) fn check(model: &Model, sink: &mut Sink) {
    let Settings { daemon, dpdk, workers, tunnel, uplinks } = &model.settings;

    sink.subject(ObjectKind::Daemon, 0, "").check_socket_path("socket", &daemon.socket);

    let mut s = sink.subject(ObjectKind::Dpdk, 0, "");
    s.check_range("memory_mb", dpdk.memory_mb.into(), &range::MEMORY_MB);
    s.check_name("file_prefix", &dpdk.file_prefix);
    if dpdk.queue_mbufs != 0 {
        s.check_range("queue_mbufs", dpdk.queue_mbufs.into(), &range::QUEUE_MBUFS);
    }
    for (i, arg) in dpdk.extra_args.iter().enumerate() {
        let option = arg.split('=').next().unwrap_or_default();
        if let Some((_, key)) = OWN_EAL_OPTIONS.iter().find(|(own, _)| *own == option) {
            s.report_item(
                "extra_args",
                Some(i),
                format!("EAL option \"{option}\" is set by weftd itself"),
                format!("use instead: {key}"),
            );
        }
        if arg.contains('\0') {
            s.report_item("extra_args", Some(i), "argument contains a NUL character", "");
        }
    }

    let mut s = sink.subject(ObjectKind::Workers, 0, "");
    if let Some(cores) = &workers.cores {
        if cores.is_empty() {
            s.report("cores", "cores names no core", "give a list such as \"2-3,5\" or leave the key out");
        }
        let mut sorted = cores.clone();
        sorted.sort_unstable();
        for pair in sorted.windows(2).filter(|pair| pair[0] == pair[1]) {
            s.report("cores", format!("core {} is named twice", pair[0]), "one worker runs on each core");
        }
        if let Some(core) = sorted.last().filter(|core| **core > MAX_CORE) {
            s.report("cores", format!("core {core} is out of range"), format!("allowed: 0 to {MAX_CORE}"));
        }
    }

    let mut s = sink.subject(ObjectKind::Tunnel, 0, "");
    s.check_range("vxlan_port", tunnel.vxlan_port.into(), &range::UDP_PORT);
    s.check_range("geneve_port", tunnel.geneve_port.into(), &range::UDP_PORT);
    if tunnel.vxlan_port == tunnel.geneve_port && tunnel.vxlan_port != 0 {
        s.report(
            "geneve_port",
            format!("geneve_port and vxlan_port are both {}", tunnel.geneve_port),
            "a packet's destination port tells which it is: give them different ports",
        );
    }
    s.check_range("ttl", tunnel.ttl.into(), &range::TTL);
    if let Dscp::Fixed(dscp) = tunnel.dscp {
        s.check_range("dscp", dscp.into(), &range::DSCP);
    }

    match uplinks.len() {
        0 => sink.subject(ObjectKind::Uplink, 0, "").report(
            "",
            "there is no [[uplink]]",
            "add one: name, device and address are needed",
        ),
        1 => {}
        _ => sink.subject(ObjectKind::Uplink, 1, uplinks[1].name.clone()).report(
            "",
            format!("there are {} uplinks", uplinks.len()),
            "exactly one is supported",
        ),
    }
    for (i, uplink) in uplinks.iter().enumerate() {
        check_uplink(&mut sink.subject(ObjectKind::Uplink, i, uplink.name.clone()), uplink);
        let mut s = sink.subject(ObjectKind::Uplink, i, uplink.name.clone());
        if !uplink.name.is_empty() && uplinks[..i].iter().any(|other| other.name == uplink.name) {
            s.report("name", format!("another uplink is named \"{}\" too", uplink.name), "names are unique");
        }
    }
}

fn check_uplink(s: &mut Subject<'_>, uplink: &Uplink) {
    s.check_name("name", &uplink.name);
    if uplink.device.is_empty() {
        s.report(
            "device",
            "device is empty",
            "a PCI address (0000:01:00.0) or vdev arguments (net_af_packet0,iface=eth1)",
        );
    }
    let own = uplink.address.addr();
    check_host_address(s, "address", own);
    let prefix = uplink.address.prefix_len();
    if prefix == 0 {
        s.report(
            "address",
            "a prefix length of 0 puts the whole world on this link",
            "write for example /24",
        );
    } else if prefix < 31 {
        if own == uplink.address.network() {
            s.report("address", format!("{own} is the network's own address, no host's"), "");
        } else if own == uplink.address.broadcast() {
            s.report("address", format!("{own} is the network's broadcast address, no host's"), "");
        }
    }
    if let Some(gateway) = uplink.gateway {
        if gateway == own {
            s.report("gateway", format!("gateway {gateway} is the uplink's own address"), "");
        } else if !uplink.address.contains(&gateway) {
            s.report(
                "gateway",
                format!("gateway {gateway} is outside the uplink's subnet {}", uplink.address.trunc()),
                "a gateway must be reachable on the link itself",
            );
        }
    }
    if let Some(mac) = uplink.mac
        && (mac.is_multicast() || mac.is_zero())
    {
        s.report("mac", format!("{mac} is no unicast MAC address"), "the first byte must be even");
    }
    s.check_range("mtu", uplink.mtu.into(), &range::MTU);
    s.check_range("rx_queues", uplink.rx_queues.into(), &range::RX_QUEUES);
    s.check_range("exception_pps", uplink.exception_pps.into(), &range::EXCEPTION_PPS);
    // The kernel's IFNAMSIZ is 16 with its NUL; dev_valid_name() forbids these characters and names.
    let tap = &uplink.tap;
    if tap.len() > 15 {
        s.report("tap", format!("tap name \"{tap}\" is {} bytes long", tap.len()), "at most 15 are allowed");
    } else if tap.contains(|c: char| c == '/' || c == ':' || c == '%' || c.is_whitespace() || c.is_control())
        || tap == "."
        || tap == ".."
    {
        s.report("tap", format!("{tap:?} is no valid name of a network interface"), "");
    }
}

/// Reports an address that no host on a network can have; says whether it is one that a host can have.
pub(super) fn check_host_address(s: &mut Subject<'_>, field: &'static str, address: Ipv4Addr) -> bool {
    let what = if address.is_unspecified() {
        "unspecified"
    } else if address.is_multicast() {
        "a multicast address"
    } else if address.is_broadcast() {
        "the broadcast address"
    } else if address.is_loopback() {
        "a loopback address"
    } else {
        return true;
    };
    s.report(field, format!("{field} {address} is {what}"), "give the unicast address of one host");
    false
}
