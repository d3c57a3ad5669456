//! Between the plain types and the messages on the wire.
//!
//! Answers of weftd are read back by the client into the same plain types; what does not read is an [`Unclear`]
//! answer, which means that client and daemon are of different versions.

use std::net::Ipv4Addr;
use std::str::FromStr;

use thiserror::Error;
use weft_wire::{Encap, MacAddr, Vni};

use super::{ApiError, FdbKey, proto};
use crate::model::{Bd, BdUpdate, FdbEntry, FdbTarget, InnerVlan, Owner, Port, PortKind, VhostMode, Vtep};
use crate::status as plain;
use crate::validate::range::{self, Range};

/// A part of an answer that this version does not understand.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("weftd's answer is not understood ({0}): are weftd and weftctl of the same version?")]
pub struct Unclear(&'static str);

type Read<T> = Result<T, Unclear>;

fn read<T: FromStr>(text: &str, what: &'static str) -> Read<T> {
    text.parse().map_err(|_| Unclear(what))
}

fn read_optional<T: FromStr>(text: &str, what: &'static str) -> Read<Option<T>> {
    if text.is_empty() { Ok(None) } else { read(text, what).map(Some) }
}

fn read_all<P, T>(list: Vec<P>, one: impl Fn(P) -> Read<T>) -> Read<Vec<T>> {
    list.into_iter().map(one).collect()
}

fn write_optional<T: ToString>(value: Option<T>) -> String {
    value.map(|v| v.to_string()).unwrap_or_default()
}

// ---- enums ----

impl From<Owner> for proto::Owner {
    fn from(owner: Owner) -> Self {
        match owner {
            Owner::File => proto::Owner::File,
            Owner::Api => proto::Owner::Api,
        }
    }
}

fn read_owner(owner: i32) -> Read<Owner> {
    match proto::Owner::try_from(owner) {
        Ok(proto::Owner::File) => Ok(Owner::File),
        Ok(proto::Owner::Api) => Ok(Owner::Api),
        _ => Err(Unclear("owner")),
    }
}

impl From<VhostMode> for proto::VhostMode {
    fn from(mode: VhostMode) -> Self {
        match mode {
            VhostMode::Server => proto::VhostMode::Server,
            VhostMode::Client => proto::VhostMode::Client,
        }
    }
}

fn read_mode(mode: i32) -> Option<VhostMode> {
    match proto::VhostMode::try_from(mode).ok()? {
        proto::VhostMode::Unspecified | proto::VhostMode::Server => Some(VhostMode::Server),
        proto::VhostMode::Client => Some(VhostMode::Client),
    }
}

impl From<InnerVlan> for proto::InnerVlan {
    fn from(policy: InnerVlan) -> Self {
        match policy {
            InnerVlan::Drop => proto::InnerVlan::Drop,
            InnerVlan::Keep => proto::InnerVlan::Keep,
        }
    }
}

/// `Ok(None)`: unspecified.
fn read_inner_vlan(policy: i32) -> Result<Option<InnerVlan>, ()> {
    match proto::InnerVlan::try_from(policy) {
        Ok(proto::InnerVlan::Unspecified) => Ok(None),
        Ok(proto::InnerVlan::Drop) => Ok(Some(InnerVlan::Drop)),
        Ok(proto::InnerVlan::Keep) => Ok(Some(InnerVlan::Keep)),
        Err(_) => Err(()),
    }
}

impl From<plain::NeighbourState> for proto::NeighbourState {
    fn from(state: plain::NeighbourState) -> Self {
        match state {
            plain::NeighbourState::Incomplete => proto::NeighbourState::Incomplete,
            plain::NeighbourState::Reachable => proto::NeighbourState::Reachable,
            plain::NeighbourState::Stale => proto::NeighbourState::Stale,
            plain::NeighbourState::Probe => proto::NeighbourState::Probe,
            plain::NeighbourState::Failed => proto::NeighbourState::Failed,
        }
    }
}

fn read_neighbour_state(state: i32) -> Read<plain::NeighbourState> {
    match proto::NeighbourState::try_from(state) {
        Ok(proto::NeighbourState::Incomplete) => Ok(plain::NeighbourState::Incomplete),
        Ok(proto::NeighbourState::Reachable) => Ok(plain::NeighbourState::Reachable),
        Ok(proto::NeighbourState::Stale) => Ok(plain::NeighbourState::Stale),
        Ok(proto::NeighbourState::Probe) => Ok(plain::NeighbourState::Probe),
        Ok(proto::NeighbourState::Failed) => Ok(plain::NeighbourState::Failed),
        _ => Err(Unclear("neighbour state")),
    }
}

// ---- answers ----

impl From<plain::Status> for proto::GetStatusResponse {
    fn from(s: plain::Status) -> Self {
        proto::GetStatusResponse {
            version: s.version,
            dpdk_version: s.dpdk_version,
            pid: s.pid,
            uptime_seconds: s.uptime_seconds,
            config_file: s.config_file,
            reloads: s.reloads,
            workers: s.workers,
            uplinks: s.uplinks,
            ports: s.ports,
            bds: s.bds,
            vteps: s.vteps,
            fdb_entries: s.fdb_entries,
            alarms: s.alarms,
        }
    }
}

impl From<proto::GetStatusResponse> for plain::Status {
    fn from(s: proto::GetStatusResponse) -> Self {
        plain::Status {
            version: s.version,
            dpdk_version: s.dpdk_version,
            pid: s.pid,
            uptime_seconds: s.uptime_seconds,
            config_file: s.config_file,
            reloads: s.reloads,
            workers: s.workers,
            uplinks: s.uplinks,
            ports: s.ports,
            bds: s.bds,
            vteps: s.vteps,
            fdb_entries: s.fdb_entries,
            alarms: s.alarms,
        }
    }
}

impl From<plain::WorkerStatus> for proto::Worker {
    fn from(w: plain::WorkerStatus) -> Self {
        proto::Worker {
            id: w.id,
            core: w.core,
            numa: w.numa,
            loops: w.loops,
            busy_percent: w.busy_percent,
            cycles_per_packet: w.cycles_per_packet,
            idle: w.idle,
            queues: w.queues,
        }
    }
}

impl From<proto::Worker> for plain::WorkerStatus {
    fn from(w: proto::Worker) -> Self {
        plain::WorkerStatus {
            id: w.id,
            core: w.core,
            numa: w.numa,
            loops: w.loops,
            busy_percent: w.busy_percent,
            cycles_per_packet: w.cycles_per_packet,
            idle: w.idle,
            queues: w.queues,
        }
    }
}

fn write_queues(queues: Vec<plain::QueueOwner>) -> Vec<proto::Queue> {
    queues.into_iter().map(|q| proto::Queue { queue: q.queue, worker: q.worker }).collect()
}

fn read_queues(queues: Vec<proto::Queue>) -> Vec<plain::QueueOwner> {
    queues.into_iter().map(|q| plain::QueueOwner { queue: q.queue, worker: q.worker }).collect()
}

impl From<plain::UplinkStatus> for proto::Uplink {
    fn from(u: plain::UplinkStatus) -> Self {
        proto::Uplink {
            name: u.name,
            device: u.device,
            driver: u.driver,
            mac: u.mac.to_string(),
            address: u.address,
            gateway: write_optional(u.gateway),
            mtu: u.mtu,
            link_up: u.link_up,
            link_mbps: u.link_mbps,
            rx_queues: write_queues(u.rx_queues),
            tx_queues: write_queues(u.tx_queues),
            tap: u.tap,
            rx_missed: u.rx_missed,
            rx_errors: u.rx_errors,
            rx_nombuf: u.rx_nombuf,
            tx_errors: u.tx_errors,
        }
    }
}

impl TryFrom<proto::Uplink> for plain::UplinkStatus {
    type Error = Unclear;

    fn try_from(u: proto::Uplink) -> Read<Self> {
        Ok(plain::UplinkStatus {
            name: u.name,
            device: u.device,
            driver: u.driver,
            mac: read(&u.mac, "uplink MAC")?,
            address: u.address,
            gateway: read_optional(&u.gateway, "gateway")?,
            mtu: u.mtu,
            link_up: u.link_up,
            link_mbps: u.link_mbps,
            rx_queues: read_queues(u.rx_queues),
            tx_queues: read_queues(u.tx_queues),
            tap: u.tap,
            rx_missed: u.rx_missed,
            rx_errors: u.rx_errors,
            rx_nombuf: u.rx_nombuf,
            tx_errors: u.tx_errors,
        })
    }
}

impl From<plain::PortStatus> for proto::PortState {
    fn from(p: plain::PortStatus) -> Self {
        use proto::port_state::Kind;
        let kind = match p.detail {
            plain::PortDetail::VhostUser { socket, mode, packed, connected, features, rings_enabled } => {
                let mode = proto::VhostMode::from(mode).into();
                Kind::VhostUser(proto::VhostUserState {
                    socket,
                    mode,
                    packed,
                    connected,
                    features,
                    rings_enabled,
                })
            }
            plain::PortDetail::Ethdev { device, driver, mac, link_mbps } => {
                Kind::Ethdev(proto::EthdevState { device, driver, mac: mac.to_string(), link_mbps })
            }
        };
        proto::PortState {
            name: p.name,
            bd: p.bd,
            owner: proto::Owner::from(p.owner).into(),
            link_up: p.link_up,
            queues: p.queues,
            mtu: p.mtu,
            rx_queues: write_queues(p.rx_queues),
            tx_queues: write_queues(p.tx_queues),
            kind: Some(kind),
        }
    }
}

impl TryFrom<proto::PortState> for plain::PortStatus {
    type Error = Unclear;

    fn try_from(p: proto::PortState) -> Read<Self> {
        use proto::port_state::Kind;
        let detail = match p.kind.ok_or(Unclear("kind of port"))? {
            Kind::VhostUser(v) => plain::PortDetail::VhostUser {
                socket: v.socket,
                mode: read_mode(v.mode).ok_or(Unclear("vhost-user mode"))?,
                packed: v.packed,
                connected: v.connected,
                features: v.features,
                rings_enabled: v.rings_enabled,
            },
            Kind::Ethdev(e) => plain::PortDetail::Ethdev {
                device: e.device,
                driver: e.driver,
                mac: read(&e.mac, "port MAC")?,
                link_mbps: e.link_mbps,
            },
        };
        Ok(plain::PortStatus {
            name: p.name,
            bd: p.bd,
            owner: read_owner(p.owner)?,
            link_up: p.link_up,
            queues: p.queues,
            mtu: p.mtu,
            rx_queues: read_queues(p.rx_queues),
            tx_queues: read_queues(p.tx_queues),
            detail,
        })
    }
}

impl From<plain::BdStatus> for proto::BdState {
    fn from(b: plain::BdStatus) -> Self {
        proto::BdState {
            name: b.name,
            vni: b.vni.map(Vni::get),
            inner_vlan: proto::InnerVlan::from(b.inner_vlan).into(),
            vteps: b.vteps,
            ports: b.ports,
            fdb_entries: b.fdb_entries,
            owner: proto::Owner::from(b.owner).into(),
        }
    }
}

impl TryFrom<proto::BdState> for plain::BdStatus {
    type Error = Unclear;

    fn try_from(b: proto::BdState) -> Read<Self> {
        Ok(plain::BdStatus {
            name: b.name,
            vni: b.vni.map(|vni| Vni::new(vni).ok_or(Unclear("VNI"))).transpose()?,
            inner_vlan: read_inner_vlan(b.inner_vlan).ok().flatten().ok_or(Unclear("inner VLAN policy"))?,
            vteps: b.vteps,
            ports: b.ports,
            fdb_entries: b.fdb_entries,
            owner: read_owner(b.owner)?,
        })
    }
}

impl From<plain::VtepStatus> for proto::VtepState {
    fn from(v: plain::VtepStatus) -> Self {
        proto::VtepState {
            name: v.name,
            address: v.address.to_string(),
            encap: v.encap.to_string(),
            port: v.port.into(),
            next_hop: write_optional(v.next_hop),
            resolved: v.resolved,
            bds: v.bds,
            owner: proto::Owner::from(v.owner).into(),
        }
    }
}

impl TryFrom<proto::VtepState> for plain::VtepStatus {
    type Error = Unclear;

    fn try_from(v: proto::VtepState) -> Read<Self> {
        Ok(plain::VtepStatus {
            name: v.name,
            address: read(&v.address, "VTEP address")?,
            encap: read(&v.encap, "encapsulation")?,
            port: v.port.try_into().map_err(|_| Unclear("UDP port"))?,
            next_hop: read_optional(&v.next_hop, "next hop")?,
            resolved: v.resolved,
            bds: v.bds,
            owner: read_owner(v.owner)?,
        })
    }
}

impl From<plain::FdbStatus> for proto::FdbState {
    fn from(e: plain::FdbStatus) -> Self {
        use proto::fdb_state::Target;
        proto::FdbState {
            bd: e.bd,
            mac: e.mac.to_string(),
            target: Some(match e.target {
                FdbTarget::Port(name) => Target::Port(name),
                FdbTarget::Vtep(name) => Target::Vtep(name),
            }),
            owner: proto::Owner::from(e.owner).into(),
        }
    }
}

impl TryFrom<proto::FdbState> for plain::FdbStatus {
    type Error = Unclear;

    fn try_from(e: proto::FdbState) -> Read<Self> {
        use proto::fdb_state::Target;
        Ok(plain::FdbStatus {
            bd: e.bd,
            mac: read(&e.mac, "FDB MAC")?,
            target: match e.target.ok_or(Unclear("FDB target"))? {
                Target::Port(name) => FdbTarget::Port(name),
                Target::Vtep(name) => FdbTarget::Vtep(name),
            },
            owner: read_owner(e.owner)?,
        })
    }
}

impl From<plain::NeighbourStatus> for proto::Neighbour {
    fn from(n: plain::NeighbourStatus) -> Self {
        proto::Neighbour {
            uplink: n.uplink,
            ip: n.ip.to_string(),
            mac: write_optional(n.mac),
            state: proto::NeighbourState::from(n.state).into(),
            age_seconds: n.age_seconds,
            queued: n.queued,
        }
    }
}

impl TryFrom<proto::Neighbour> for plain::NeighbourStatus {
    type Error = Unclear;

    fn try_from(n: proto::Neighbour) -> Read<Self> {
        Ok(plain::NeighbourStatus {
            uplink: n.uplink,
            ip: read(&n.ip, "neighbour address")?,
            mac: read_optional(&n.mac, "neighbour MAC")?,
            state: read_neighbour_state(n.state)?,
            age_seconds: n.age_seconds,
            queued: n.queued,
        })
    }
}

impl From<plain::Stats> for proto::GetStatsResponse {
    fn from(s: plain::Stats) -> Self {
        let b = s.books;
        proto::GetStatsResponse {
            books: Some(proto::Books {
                received: b.received,
                replicas: b.replicas,
                originated: b.originated,
                sent: b.sent,
                dropped: b.dropped,
                consumed: b.consumed,
                held: b.held,
            }),
            drops: s.drops,
            ports: s
                .ports
                .into_iter()
                .map(|p| proto::PortStats {
                    name: p.name,
                    rx_packets: p.rx_packets,
                    rx_bytes: p.rx_bytes,
                    tx_packets: p.tx_packets,
                    tx_bytes: p.tx_bytes,
                    drops: p.drops,
                })
                .collect(),
            workers: s.workers.into_iter().map(Into::into).collect(),
            mempool: Some(proto::Mempool { size: s.mempool.size, in_use: s.mempool.in_use }),
        }
    }
}

impl TryFrom<proto::GetStatsResponse> for plain::Stats {
    type Error = Unclear;

    fn try_from(s: proto::GetStatsResponse) -> Read<Self> {
        let b = s.books.ok_or(Unclear("books"))?;
        let mempool = s.mempool.ok_or(Unclear("mempool"))?;
        Ok(plain::Stats {
            books: plain::Books {
                received: b.received,
                replicas: b.replicas,
                originated: b.originated,
                sent: b.sent,
                dropped: b.dropped,
                consumed: b.consumed,
                held: b.held,
            },
            drops: s.drops,
            ports: s
                .ports
                .into_iter()
                .map(|p| plain::PortStats {
                    name: p.name,
                    rx_packets: p.rx_packets,
                    rx_bytes: p.rx_bytes,
                    tx_packets: p.tx_packets,
                    tx_bytes: p.tx_bytes,
                    drops: p.drops,
                })
                .collect(),
            workers: s.workers.into_iter().map(Into::into).collect(),
            mempool: plain::MempoolStats { size: mempool.size, in_use: mempool.in_use },
        })
    }
}

impl From<plain::ReloadReport> for proto::ReloadReport {
    fn from(r: plain::ReloadReport) -> Self {
        proto::ReloadReport {
            added: r.added,
            changed: r.changed,
            removed: r.removed,
            unchanged: r.unchanged,
            needs_restart: r.needs_restart,
        }
    }
}

impl From<proto::ReloadReport> for plain::ReloadReport {
    fn from(r: proto::ReloadReport) -> Self {
        plain::ReloadReport {
            added: r.added,
            changed: r.changed,
            removed: r.removed,
            unchanged: r.unchanged,
            needs_restart: r.needs_restart,
        }
    }
}

impl From<plain::CheckReport> for proto::CheckResponse {
    fn from(c: plain::CheckReport) -> Self {
        proto::CheckResponse { file: c.file, errors: c.errors, would: c.would.map(Into::into) }
    }
}

impl From<proto::CheckResponse> for plain::CheckReport {
    fn from(c: proto::CheckResponse) -> Self {
        plain::CheckReport { file: c.file, errors: c.errors, would: c.would.map(Into::into) }
    }
}

/// Reads a list of answers.
pub(super) fn list<P, T: TryFrom<P, Error = Unclear>>(list: Vec<P>) -> Read<Vec<T>> {
    read_all(list, T::try_from)
}

// ---- requests, as the client writes them ----

pub(super) fn write_port(p: Port) -> proto::AddPortRequest {
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

pub(super) fn write_bd(b: Bd) -> proto::AddBdRequest {
    proto::AddBdRequest {
        name: b.name,
        vni: b.vni.map(Vni::get),
        vteps: b.vteps,
        inner_vlan: proto::InnerVlan::from(b.inner_vlan).into(),
    }
}

pub(super) fn write_bd_update(name: &str, u: BdUpdate) -> proto::UpdateBdRequest {
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

pub(super) fn write_vtep(v: Vtep) -> proto::AddVtepRequest {
    proto::AddVtepRequest {
        name: v.name,
        address: v.address.to_string(),
        encap: v.encap.to_string(),
        port: v.port.unwrap_or(0).into(),
    }
}

pub(super) fn write_fdb_entry(e: FdbEntry) -> proto::FdbEntry {
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

pub(super) fn write_fdb_key(k: FdbKey) -> proto::FdbKey {
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

pub(super) fn read_port(p: proto::AddPortRequest) -> Result<Port, ApiError> {
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

pub(super) fn read_bd(b: proto::AddBdRequest) -> Result<Bd, ApiError> {
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

pub(super) fn read_bd_update(u: proto::UpdateBdRequest) -> Result<(String, BdUpdate), ApiError> {
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

pub(super) fn read_vtep(v: proto::AddVtepRequest) -> Result<Vtep, ApiError> {
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

pub(super) fn read_fdb_entries(entries: Vec<proto::FdbEntry>) -> Result<Vec<FdbEntry>, ApiError> {
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

pub(super) fn read_fdb_keys(keys: Vec<proto::FdbKey>) -> Result<Vec<FdbKey>, ApiError> {
    let mut m = Mistakes::default();
    let keys = keys.into_iter().map(|key| FdbKey { mac: m.mac(&key.mac), bd: key.bd }).collect();
    m.done(keys)
}
