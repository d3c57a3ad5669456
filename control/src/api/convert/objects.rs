//! Requests that make, change and remove objects.

use std::net::Ipv4Addr;
use std::str::FromStr;

use weft_wire::{Encap, MacAddr, Vni};

use super::{read_inner_vlan, read_mode};
use crate::api::{ApiError, FdbKey, proto};
use crate::model::{Bd, BdUpdate, FdbEntry, FdbTarget, InnerVlan, Owner, Port, PortKind, VhostMode, Vtep};
use crate::validate::range::{self, Range};

// ---- requests, as the client writes them ----

pub(in crate::api) fn write_port(p: Port) -> proto::AddPortRequest {
    use proto::add_port_request::Kind;
    let queues = p.kind.queues().into();
    let kind = match p.kind {
        PortKind::VhostUser { socket, mode, packed, .. } => Kind::VhostUser(proto::VhostUserPort {
            socket: socket.to_string_lossy().into_owned(),
            mode: proto::VhostMode::from(mode).into(),
            packed,
        }),
        PortKind::Ethdev { device, mtu, .. } => Kind::Ethdev(proto::EthdevPort { device, mtu: mtu.into() }),
    };
    proto::AddPortRequest { name: p.name, bd: p.bd, queues, kind: Some(kind) }
}

pub(in crate::api) fn write_bd(b: Bd) -> proto::AddBdRequest {
    proto::AddBdRequest {
        name: b.name,
        vni: b.vni.map(Vni::get),
        vteps: b.vteps,
        inner_vlan: proto::InnerVlan::from(b.inner_vlan).into(),
    }
}

pub(in crate::api) fn write_bd_update(name: &str, u: BdUpdate) -> proto::UpdateBdRequest {
    use proto::update_bd_request::VniChange;
    proto::UpdateBdRequest {
        name: name.to_owned(),
        vni_change: u.vni.map(|vni| match vni {
            Some(vni) => VniChange::Vni(vni.get()),
            None => VniChange::RemoveVni(true),
        }),
        vteps: u.vteps.map(|names| proto::VtepNames { names }),
        inner_vlan: u.inner_vlan.map_or(proto::InnerVlan::Unspecified, Into::into).into(),
    }
}

pub(in crate::api) fn write_vtep(v: Vtep) -> proto::AddVtepRequest {
    proto::AddVtepRequest {
        name: v.name,
        address: v.address.to_string(),
        encap: v.encap.to_string(),
        port: v.port.unwrap_or(0).into(),
    }
}

pub(in crate::api) fn write_fdb_entry(e: FdbEntry) -> proto::FdbEntry {
    use proto::fdb_entry::Target;
    proto::FdbEntry {
        bd: e.bd,
        mac: e.mac.to_string(),
        target: Some(match e.target {
            FdbTarget::Port(name) => Target::Port(name),
            FdbTarget::Vtep(name) => Target::Vtep(name),
        }),
    }
}

pub(in crate::api) fn write_fdb_key(k: FdbKey) -> proto::FdbKey {
    proto::FdbKey { bd: k.bd, mac: k.mac.to_string() }
}

// ---- requests, as the server reads them: every mistake of a request is reported ----

/// Mistakes of one request.
#[derive(Default)]
struct Mistakes {
    lines: Vec<String>,
    hints: Vec<String>,
}

impl Mistakes {
    fn add(&mut self, message: String, hint: impl Into<String>) {
        self.lines.push(message);
        let hint = hint.into();
        if !hint.is_empty() && !self.hints.contains(&hint) {
            self.hints.push(hint);
        }
    }

    fn number<T: TryFrom<u32> + Default>(&mut self, field: &str, value: u32, range: &Range) -> T {
        if let Some((message, hint)) = range::check(field, value, range) {
            self.add(message, hint);
        }
        T::try_from(value).unwrap_or_default()
    }

    fn text<T: FromStr>(&mut self, text: &str, what: &str, example: &str) -> Option<T> {
        let value = text.parse().ok();
        if value.is_none() {
            self.add(format!("{text:?} is no {what}"), format!("write for example {example}"));
        }
        value
    }

    fn mac(&mut self, text: &str) -> MacAddr {
        self.text(text, "MAC address", "02:00:00:00:00:01").unwrap_or_default()
    }

    fn vni(&mut self, vni: u32) -> Option<Vni> {
        self.number::<u32>("vni", vni, &range::VNI);
        Vni::new(vni)
    }

    fn inner_vlan(&mut self, policy: i32) -> Option<InnerVlan> {
        read_inner_vlan(policy).unwrap_or_else(|()| {
            self.add(format!("inner VLAN policy {policy} is not known"), "use drop or keep");
            None
        })
    }

    fn done<T>(self, value: T) -> Result<T, ApiError> {
        if self.lines.is_empty() {
            Ok(value)
        } else {
            Err(ApiError::invalid(self.lines.join("\n")).hint(self.hints.join("\n")))
        }
    }
}

pub(in crate::api) fn read_port(p: proto::AddPortRequest) -> Result<Port, ApiError> {
    use proto::add_port_request::Kind;
    let mut m = Mistakes::default();
    let queues = if p.queues == 0 { 1 } else { m.number("queues", p.queues, &range::PORT_QUEUES) };
    let kind = match p.kind {
        Some(Kind::VhostUser(v)) => {
            let mode = read_mode(v.mode).unwrap_or_else(|| {
                m.add(format!("vhost-user mode {} is not known", v.mode), "use server or client");
                VhostMode::default()
            });
            PortKind::VhostUser { socket: v.socket.into(), mode, queues, packed: v.packed }
        }
        Some(Kind::Ethdev(e)) => {
            let mtu = if e.mtu == 0 { PortKind::DEFAULT_MTU } else { m.number("mtu", e.mtu, &range::MTU) };
            PortKind::Ethdev { device: e.device, queues, mtu }
        }
        None => {
            return Err(ApiError::invalid("the port has no kind").hint("set vhost_user or ethdev"));
        }
    };
    m.done(Port { name: p.name, bd: p.bd, kind, owner: Owner::Api })
}

pub(in crate::api) fn read_bd(b: proto::AddBdRequest) -> Result<Bd, ApiError> {
    let mut m = Mistakes::default();
    let bd = Bd {
        name: b.name,
        vni: b.vni.and_then(|vni| m.vni(vni)),
        vteps: b.vteps,
        inner_vlan: m.inner_vlan(b.inner_vlan).unwrap_or_default(),
        owner: Owner::Api,
    };
    m.done(bd)
}

pub(in crate::api) fn read_bd_update(u: proto::UpdateBdRequest) -> Result<(String, BdUpdate), ApiError> {
    use proto::update_bd_request::VniChange;
    let mut m = Mistakes::default();
    let update = BdUpdate {
        vni: u.vni_change.map(|change| match change {
            VniChange::Vni(vni) => m.vni(vni),
            VniChange::RemoveVni(_) => None,
        }),
        vteps: u.vteps.map(|vteps| vteps.names),
        inner_vlan: m.inner_vlan(u.inner_vlan),
    };
    m.done((u.name, update))
}

pub(in crate::api) fn read_vtep(v: proto::AddVtepRequest) -> Result<Vtep, ApiError> {
    let mut m = Mistakes::default();
    let encap =
        if v.encap.is_empty() { Some(Encap::Geneve) } else { m.text(&v.encap, "encapsulation", "geneve") };
    let vtep = Vtep {
        name: v.name,
        address: m.text(&v.address, "IPv4 address", "192.168.50.2").unwrap_or(Ipv4Addr::UNSPECIFIED),
        encap: encap.unwrap_or(Encap::Geneve),
        port: (v.port != 0).then(|| m.number("port", v.port, &range::UDP_PORT)),
        owner: Owner::Api,
    };
    m.done(vtep)
}

pub(in crate::api) fn read_fdb_entries(entries: Vec<proto::FdbEntry>) -> Result<Vec<FdbEntry>, ApiError> {
    use proto::fdb_entry::Target;
    let mut m = Mistakes::default();
    let mut out = Vec::with_capacity(entries.len());
    for entry in entries {
        let mac = m.mac(&entry.mac);
        match entry.target {
            Some(Target::Port(name)) => {
                out.push(FdbEntry { bd: entry.bd, mac, target: FdbTarget::Port(name), owner: Owner::Api });
            }
            Some(Target::Vtep(name)) => {
                out.push(FdbEntry { bd: entry.bd, mac, target: FdbTarget::Vtep(name), owner: Owner::Api });
            }
            None => m.add(format!("the entry for {} has no target", entry.mac), "set port or vtep"),
        }
    }
    m.done(out)
}

pub(in crate::api) fn read_fdb_keys(keys: Vec<proto::FdbKey>) -> Result<Vec<FdbKey>, ApiError> {
    let mut m = Mistakes::default();
    let keys = keys.into_iter().map(|key| FdbKey { mac: m.mac(&key.mac), bd: key.bd }).collect();
    m.done(keys)
}
