//! Answers: status, counters and reports.

use weft_wire::Vni;

use super::{
    Read, Unclear, read, read_inner_vlan, read_mode, read_neighbour_state, read_optional, read_owner,
    write_optional,
};
use crate::api::proto;
use crate::model::FdbTarget;
use crate::status as plain;

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
            stage_cycles: w.stage_cycles.into_iter().map(Into::into).collect(),
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
            stage_cycles: w.stage_cycles.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<plain::StageCycles> for proto::StageCycles {
    fn from(s: plain::StageCycles) -> Self {
        proto::StageCycles { stage: s.stage, cycles_per_packet: s.cycles_per_packet }
    }
}

impl From<proto::StageCycles> for plain::StageCycles {
    fn from(s: proto::StageCycles) -> Self {
        plain::StageCycles { stage: s.stage, cycles_per_packet: s.cycles_per_packet }
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
            fdb: Some(s.fdb.into()),
            waiting: Some(s.waiting.into()),
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
            fdb: s.fdb.ok_or(Unclear("forwarding table"))?.into(),
            waiting: s.waiting.ok_or(Unclear("memory that waits"))?.into(),
        })
    }
}

impl From<plain::FdbTableStats> for proto::FdbTable {
    fn from(t: plain::FdbTableStats) -> Self {
        proto::FdbTable {
            entries: t.entries,
            places: t.places,
            load_percent: t.load_percent,
            bytes: t.bytes,
            chained_entries: t.chained_entries,
            displacements: t.displacements,
            grown: t.grown,
            shrunk: t.shrunk,
            replaced: t.replaced,
            reseeded: t.reseeded,
            anomalies: t.anomalies,
        }
    }
}

impl From<proto::FdbTable> for plain::FdbTableStats {
    fn from(t: proto::FdbTable) -> Self {
        plain::FdbTableStats {
            entries: t.entries,
            places: t.places,
            load_percent: t.load_percent,
            bytes: t.bytes,
            chained_entries: t.chained_entries,
            displacements: t.displacements,
            grown: t.grown,
            shrunk: t.shrunk,
            replaced: t.replaced,
            reseeded: t.reseeded,
            anomalies: t.anomalies,
        }
    }
}

impl From<plain::WaitingStats> for proto::Waiting {
    fn from(w: plain::WaitingStats) -> Self {
        proto::Waiting { items: w.items, bytes: w.bytes, oldest_milliseconds: w.oldest_milliseconds }
    }
}

impl From<proto::Waiting> for plain::WaitingStats {
    fn from(w: proto::Waiting) -> Self {
        plain::WaitingStats { items: w.items, bytes: w.bytes, oldest_milliseconds: w.oldest_milliseconds }
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
