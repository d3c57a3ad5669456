//! Checks of VTEPs, bridge domains and ports.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::settings::check_host_address;
use super::{ObjectKind, Sink, range, suggest};
use crate::model::{Model, PortKind};

pub(super) fn check(model: &Model, sink: &mut Sink) {
    check_vteps(model, sink);
    check_bds(model, sink);
    check_ports(model, sink);
}

fn check_vteps(model: &Model, sink: &mut Sink) {
    let mut names = HashSet::new();
    let mut addresses = HashMap::new();
    for (i, vtep) in model.objects.vteps.iter().enumerate() {
        let mut s = sink.subject(ObjectKind::Vtep, i, vtep.name.clone());
        s.check_name("name", &vtep.name);
        if !vtep.name.is_empty() && !names.insert(&vtep.name) {
            s.report("name", format!("another vtep is named \"{}\" too", vtep.name), "names are unique");
        }
        if let Some(port) = vtep.port {
            s.check_range("port", port.into(), &range::UDP_PORT);
        }
        if !check_host_address(&mut s, "address", vtep.address) {
            continue;
        }
        if let Some(first) = addresses.insert((vtep.address, vtep.encap), &vtep.name) {
            s.report(
                "address",
                format!(
                    "vtep \"{first}\" has the address {} and the encapsulation {} too",
                    vtep.address, vtep.encap
                ),
                "a received packet could not be told apart: use one vtep for both",
            );
        }
        for uplink in &model.settings.uplinks {
            let net = uplink.address;
            if vtep.address == net.addr() {
                s.report(
                    "address",
                    format!("address {} is the own address of uplink \"{}\"", vtep.address, uplink.name),
                    "give the address of the other host",
                );
            } else if !net.contains(&vtep.address) {
                if uplink.gateway.is_none() && !net.addr().is_unspecified() {
                    s.report(
                        "address",
                        format!(
                            "address {} is outside the subnet {} of uplink \"{}\", which has no gateway",
                            vtep.address,
                            net.trunc(),
                            uplink.name
                        ),
                        "set the uplink's gateway, or correct the address",
                    );
                }
            } else if net.prefix_len() < 31
                && (vtep.address == net.network() || vtep.address == net.broadcast())
            {
                s.report(
                    "address",
                    format!(
                        "address {} is the network or broadcast address of {}",
                        vtep.address,
                        net.trunc()
                    ),
                    "give the unicast address of one host",
                );
            }
        }
    }
}

fn check_bds(model: &Model, sink: &mut Sink) {
    let vteps: HashMap<&str, _> = model.objects.vteps.iter().map(|v| (v.name.as_str(), v)).collect();
    let mut names = HashSet::new();
    let mut vnis = HashMap::new();
    for (i, bd) in model.objects.bds.iter().enumerate() {
        let mut s = sink.subject(ObjectKind::Bd, i, bd.name.clone());
        s.check_name("name", &bd.name);
        if !bd.name.is_empty() && !names.insert(&bd.name) {
            s.report("name", format!("another bd is named \"{}\" too", bd.name), "names are unique");
        }
        if let Some(vni) = bd.vni
            && let Some(first) = vnis.insert(vni.get(), &bd.name)
        {
            s.report(
                "vni",
                format!("bd \"{first}\" has the VNI {} too", vni.get()),
                "a VNI leads to one bridge domain: give each its own",
            );
        }
        if bd.vni.is_none() && !bd.vteps.is_empty() {
            s.report(
                "vni",
                "a bridge domain with vteps needs a VNI",
                "add for example vni = 100, the same number on every host",
            );
        }
        let mut seen = HashSet::new();
        let mut addresses = HashMap::new();
        for (item, name) in bd.vteps.iter().enumerate() {
            let Some(vtep) = vteps.get(name.as_str()) else {
                let hint = suggest(name, "vtep", vteps.keys().copied());
                s.report_item("vteps", Some(item), format!("there is no vtep \"{name}\""), hint);
                continue;
            };
            if !seen.insert(name) {
                s.report_item("vteps", Some(item), format!("vtep \"{name}\" is listed twice"), "");
            } else if !vtep.address.is_unspecified()
                && let Some(first) = addresses.insert(vtep.address, name)
            {
                s.report_item(
                    "vteps",
                    Some(item),
                    format!("vteps \"{first}\" and \"{name}\" are the same host {}", vtep.address),
                    "flooded frames would arrive there twice: list one of them",
                );
            }
        }
    }
}

fn check_ports(model: &Model, sink: &mut Sink) {
    let bds: HashSet<&str> = model.objects.bds.iter().map(|b| b.name.as_str()).collect();
    let mut names: HashMap<&str, &str> =
        model.settings.uplinks.iter().map(|u| (u.name.as_str(), "uplink")).collect();
    // Who uses each device and each socket, in words.
    let mut devices: HashMap<String, String> = HashMap::new();
    let mut sockets: HashMap<&Path, String> = HashMap::new();
    sockets.insert(&model.settings.daemon.socket, "weftd's API (daemon.socket)".to_owned());
    for (i, uplink) in model.settings.uplinks.iter().enumerate() {
        if uplink.device.is_empty() {
            continue;
        }
        if let Some(user) = devices.insert(device_id(&uplink.device), format!("uplink \"{}\"", uplink.name)) {
            sink.subject(ObjectKind::Uplink, i, uplink.name.clone()).report(
                "device",
                format!("device {} is used by {user} too", device_id(&uplink.device)),
                "a device serves one uplink or port",
            );
        }
    }

    for (i, port) in model.objects.ports.iter().enumerate() {
        let mut s = sink.subject(ObjectKind::Port, i, port.name.clone());
        s.check_name("name", &port.name);
        if !port.name.is_empty()
            && let Some(kind) = names.insert(&port.name, "port")
        {
            s.report(
                "name",
                format!("another {kind} is named \"{}\" too", port.name),
                "names are unique over ports and uplinks",
            );
        }
        if !bds.contains(port.bd.as_str()) {
            let hint = suggest(&port.bd, "bd", bds.iter().copied());
            s.report("bd", format!("there is no bd \"{}\"", port.bd), hint);
        }
        s.check_range("queues", port.kind.queues().into(), &range::PORT_QUEUES);
        match &port.kind {
            PortKind::VhostUser { socket, .. } => {
                s.check_socket_path("socket", socket);
                if !socket.as_os_str().is_empty() {
                    if let Some(user) = sockets.get(socket.as_path()) {
                        s.report(
                            "socket",
                            format!("socket {} is used by {user} too", socket.display()),
                            "every port needs a socket of its own",
                        );
                    } else {
                        sockets.insert(socket, format!("port \"{}\"", port.name));
                    }
                }
            }
            PortKind::Ethdev { device, mtu, .. } => {
                if device.is_empty() {
                    s.report(
                        "device",
                        "device is empty",
                        "a PCI address (0000:01:00.0) or vdev arguments (net_memif0,role=server,...)",
                    );
                } else if let Some(user) = devices.get(&device_id(device)) {
                    s.report(
                        "device",
                        format!("device {} is used by {user} too", device_id(device)),
                        "a device serves one uplink or port",
                    );
                } else {
                    devices.insert(device_id(device), format!("port \"{}\"", port.name));
                }
                s.check_range("mtu", (*mtu).into(), &range::MTU);
            }
        }
    }
}

/// What identifies a device: the part before its arguments, a PCI address with its domain and in lower case.
pub fn device_id(device: &str) -> String {
    let name = device.split(',').next().unwrap_or_default().trim();
    let is_hex = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_hexdigit());
    let parts: Vec<&str> = name.split([':', '.']).collect();
    match parts[..] {
        [bus, slot, function] if name.contains(':') && [bus, slot, function].into_iter().all(is_hex) => {
            format!("0000:{}", name.to_ascii_lowercase())
        }
        [domain, bus, slot, function] if [domain, bus, slot, function].into_iter().all(is_hex) => {
            name.to_ascii_lowercase()
        }
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::device_id;

    #[test]
    fn devices_are_known_by_their_name() {
        assert_eq!(device_id("net_memif0,role=server,id=0"), "net_memif0");
        assert_eq!(device_id("01:00.0"), "0000:01:00.0");
        assert_eq!(device_id("0000:0A:00.1,arg=1"), "0000:0a:00.1");
        assert_eq!(device_id("net_Tap0"), "net_Tap0");
    }
}
