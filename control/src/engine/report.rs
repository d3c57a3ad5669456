//! Status and counters, gathered when asked for.

use std::collections::BTreeMap;

use weft_dataplane::counters::{PortTotals, ThreadCounters};
use weft_dataplane::drop::DropReason;
use weft_dataplane::timing::Stage;
use weft_dataplane::underlay::neighbor::State as Arp;
use weft_tables::fdb;
use weft_tables::qsbr::Pending;
use weft_wire::MacAddr;

use super::ports::{Device, RunningPort};
use super::{Shared, State, workers};
use crate::model::{PortKind, VhostMode};
use crate::status::{
    BdStatus, Books, FdbTableStats, MempoolStats, NeighbourState, NeighbourStatus, PortDetail, PortStats,
    PortStatus, QueueOwner, StageCycles, Stats, Status, UplinkStatus, VtepStatus, WaitingStats, WorkerStatus,
};

/// A worker's cycle counters when they were last looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    busy: u64,
    idle: u64,
    packets: u64,
    stages: [u64; Stage::ALL.len()],
    /// Packets of the rounds of which `stages` are.
    sampled: u64,
}

impl Sample {
    fn of(c: &ThreadCounters) -> Self {
        Self {
            busy: c.busy_cycles.get(),
            idle: c.idle_cycles.get(),
            packets: c.packets.get(),
            stages: std::array::from_fn(|i| c.stages.cycles[i].get()),
            sampled: c.stages.packets.get(),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            busy: self.busy.wrapping_sub(before.busy),
            idle: self.idle.wrapping_sub(before.idle),
            packets: self.packets.wrapping_sub(before.packets),
            stages: std::array::from_fn(|i| self.stages[i].wrapping_sub(before.stages[i])),
            sampled: self.sampled.wrapping_sub(before.sampled),
        }
    }

    /// Empty if nothing was sampled.
    fn stage_cycles(&self) -> Vec<StageCycles> {
        let per_packet = |s: &Stage| StageCycles {
            stage: s.name().to_owned(),
            cycles_per_packet: self.stages[*s as usize] as f64 / self.sampled as f64,
        };
        if self.sampled == 0 { Vec::new() } else { Stage::ALL.iter().map(per_packet).collect() }
    }
}

fn drops_by_name(t: &PortTotals) -> BTreeMap<String, u64> {
    let counted = DropReason::ALL.iter().map(|r| (r.name().to_owned(), t.drops[*r as usize]));
    counted.filter(|(_, n)| *n > 0).collect()
}

fn table_stats(s: &fdb::FdbStats) -> FdbTableStats {
    FdbTableStats {
        entries: s.entries as u64,
        places: s.places as u64,
        load_percent: s.load * 100.0,
        bytes: s.bytes as u64,
        chained_entries: s.overflow as u64,
        displacements: s.displacements,
        grown: s.grown,
        shrunk: s.shrunk,
        replaced: s.replaced,
        reseeded: s.reseeded,
        anomalies: s.anomalies,
    }
}

fn waiting_stats(p: &Pending) -> WaitingStats {
    WaitingStats {
        items: p.items as u64,
        bytes: p.bytes_hint as u64,
        oldest_milliseconds: p.oldest.as_millis() as u64,
    }
}

impl State {
    fn owners(&self, slot: super::ids::PortId, queues: usize) -> Vec<QueueOwner> {
        let owner = |q| workers::owner(slot, q, self.workers.len()) as u32;
        (0..queues).map(|q| QueueOwner { queue: q as u32, worker: owner(q) }).collect()
    }

    pub(super) fn status(&self, shared: &Shared) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            dpdk_version: shared.eal.dpdk_version().into(),
            pid: std::process::id(),
            uptime_seconds: shared.started.elapsed().as_secs(),
            config_file: shared.config.display().to_string(),
            reloads: self.reloads,
            workers: self.workers.len() as u32,
            uplinks: 1,
            ports: self.ports.len() as u32,
            bds: self.objects.bds.len() as u32,
            vteps: self.objects.vteps.len() as u32,
            fdb_entries: self.fdb.len() as u64,
            alarms: self.alarms.iter().map(|a| &a.text).chain(self.failed.values()).cloned().collect(),
        }
    }

    pub(super) fn worker_status(&mut self, shared: &Shared) -> Vec<WorkerStatus> {
        let mut queues: Vec<Vec<String>> = vec![Vec::new(); self.workers.len()];
        let ports = self.ports.values().map(|p| (&p.model.name, p.id, p.rx_queues, p.tx_queues));
        let uplink = &self.uplink;
        for (name, id, rx, tx) in
            std::iter::once((&uplink.model.name, uplink.id, uplink.rx_queues, uplink.tx_queues)).chain(ports)
        {
            for (kind, n) in [("rx", rx), ("tx", tx)] {
                for q in 0..n {
                    queues[workers::owner(id, q, self.workers.len())].push(format!("{name}:{kind}{q}"));
                }
            }
        }
        let mut all = Vec::new();
        for (i, (w, queues)) in self.workers.iter().zip(queues).enumerate() {
            let c = &shared.counters[i];
            let now = Sample::of(c);
            let d = now.since(std::mem::replace(&mut self.samples[i], now));
            let total = (d.busy + d.idle) as f64;
            all.push(WorkerStatus {
                id: i as u32,
                core: w.core as u32,
                numa: -1,
                loops: c.loops.get(),
                busy_percent: if total > 0.0 { 100.0 * d.busy as f64 / total } else { 0.0 },
                cycles_per_packet: if d.packets > 0 { d.busy as f64 / d.packets as f64 } else { 0.0 },
                // Relaxed: a hint for people.
                idle: w.asleep.load(std::sync::atomic::Ordering::Relaxed),
                stage_cycles: d.stage_cycles(),
                queues,
            });
        }
        all
    }

    pub(super) fn uplink_status(&self) -> UplinkStatus {
        let u = &self.uplink;
        let (link, stats) = (u.device.link(), u.device.stats());
        UplinkStatus {
            name: u.model.name.clone(),
            device: u.model.device.clone(),
            driver: u.device.driver_name().into(),
            mac: MacAddr(u.device.mac()),
            address: u.model.address.to_string(),
            gateway: u.model.gateway,
            mtu: u.model.mtu.into(),
            link_up: link.up,
            link_mbps: link.speed_mbps,
            rx_queues: self.owners(u.id, u.rx_queues),
            tx_queues: self.owners(u.id, u.tx_queues),
            tap: u.model.tap.clone(),
            rx_missed: stats.imissed,
            rx_errors: stats.ierrors,
            rx_nombuf: stats.rx_nombuf,
            tx_errors: stats.oerrors,
        }
    }

    pub(super) fn port_status(&self) -> Vec<PortStatus> {
        self.ports.values().map(|p| self.one_port(p)).collect()
    }

    fn one_port(&self, p: &RunningPort) -> PortStatus {
        let (mtu, detail) = match (&p.device, &p.model.kind) {
            (Device::Eth(d), kind) => {
                let link = d.link();
                let device = match kind {
                    PortKind::Ethdev { device, .. } => device.clone(),
                    PortKind::VhostUser { .. } => d.device().to_owned(),
                };
                let mac = MacAddr(d.mac());
                let driver = d.driver_name().into();
                let detail = PortDetail::Ethdev { device, driver, mac, link_mbps: link.speed_mbps };
                (u32::from(d.caps().mtu), detail)
            }
            (Device::Vhost(v), kind) => {
                let s = v.state();
                let packed = matches!(kind, PortKind::VhostUser { packed: true, .. });
                let detail = PortDetail::VhostUser {
                    socket: v.path().display().to_string(),
                    mode: match v.mode() {
                        weft_port::VhostMode::Server => VhostMode::Server,
                        weft_port::VhostMode::Client => VhostMode::Client,
                    },
                    packed,
                    connected: s.connected,
                    features: s.features,
                    rings_enabled: s.rings_enabled.iter().map(|r| u32::from(*r)).collect(),
                };
                (s.mtu.map_or(0, u32::from), detail)
            }
        };
        PortStatus {
            name: p.model.name.clone(),
            bd: p.model.bd.clone(),
            owner: p.model.owner,
            // What the published tables were made from: from then on frames reach it.
            link_up: p.link,
            queues: p.model.kind.queues().into(),
            mtu,
            rx_queues: self.owners(p.id, p.rx_queues),
            tx_queues: self.owners(p.id, p.tx_queues),
            detail,
        }
    }

    pub(super) fn bd_status(&self) -> Vec<BdStatus> {
        let entries = self.fdb.by_network();
        let entries = |bd: &str| entries.get(&self.ids.network(bd)?).copied();
        let ports =
            |bd: &str| self.objects.ports.iter().filter(|p| p.bd == bd).map(|p| p.name.clone()).collect();
        let status = self.objects.bds.iter().map(|b| BdStatus {
            name: b.name.clone(),
            vni: b.vni,
            inner_vlan: b.inner_vlan,
            vteps: b.vteps.clone(),
            ports: ports(&b.name),
            fdb_entries: entries(&b.name).unwrap_or(0),
            owner: b.owner,
        });
        status.collect()
    }

    pub(super) fn vtep_status(&self, shared: &Shared) -> Vec<VtepStatus> {
        let plan = super::boot::plan(&shared.settings, &self.uplink, Vec::new());
        let bds = |v: &str| {
            self.objects
                .bds
                .iter()
                .filter(|b| b.vteps.iter().any(|n| n == v))
                .map(|b| b.name.clone())
                .collect()
        };
        let resolved = |name: &str| {
            let slot = self.ids.vtep(name).map_or(u32::MAX, u32::from);
            shared.fwd.vteps.with(slot, |hop| hop.is_some_and(|h| h.template.is_some()))
        };
        let status = self.objects.vteps.iter().map(|v| VtepStatus {
            name: v.name.clone(),
            address: v.address,
            encap: v.encap,
            port: v.port.unwrap_or_else(|| shared.settings.tunnel.port_of(v.encap)),
            next_hop: Some(plan.next_hop(v.address)),
            resolved: resolved(&v.name),
            bds: bds(&v.name),
            owner: v.owner,
        });
        status.collect()
    }

    pub(super) fn neighbour_status(&self, shared: &Shared) -> Vec<NeighbourStatus> {
        let view = shared.agent_view.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let status = view.neighbors.iter().map(|n| NeighbourStatus {
            uplink: self.uplink.model.name.clone(),
            ip: n.ip,
            mac: n.mac,
            state: match n.state {
                Arp::Probing => NeighbourState::Incomplete,
                Arp::Reachable => NeighbourState::Reachable,
                Arp::Refreshing => NeighbourState::Probe,
                Arp::Failed => NeighbourState::Failed,
            },
            age_seconds: n.age.map_or(0, |a| a.as_secs()),
            queued: n.queued as u32,
        });
        status.collect()
    }

    /// Over all pools, those of gone ports included.
    fn mempools(&self, shared: &Shared) -> MempoolStats {
        let live = self.ports.values().map(|p| &p.pool).chain([&self.uplink.pool, &shared.agent_pool]);
        live.chain(self.retired.iter()).fold(MempoolStats { size: 0, in_use: 0 }, |sum, p| MempoolStats {
            size: sum.size + u64::from(p.size()),
            in_use: sum.in_use + u64::from(p.in_use()),
        })
    }

    pub(super) fn stats(&mut self, shared: &Shared) -> Stats {
        let threads = || shared.counters.iter().map(AsRef::as_ref);
        let mut ports = Vec::new();
        let live = self.ports.values().map(|p| (p.model.name.clone(), p.id.slot));
        for (name, slot) in std::iter::once((self.uplink.model.name.clone(), self.uplink.id.slot)).chain(live)
        {
            let mut t = PortTotals::sum(threads(), slot);
            if let Some(before) = self.baselines.get(&slot) {
                t.combine(before, false);
            }
            ports.push(PortStats {
                name,
                rx_packets: t.rx_packets,
                rx_bytes: t.rx_bytes,
                tx_packets: t.tx_packets,
                tx_bytes: t.tx_bytes,
                drops: drops_by_name(&t),
            });
        }
        // The books are of everything since the start, of ports that are gone too.
        let mut all = PortTotals::default();
        for slot in 0..weft_dataplane::MAX_PORTS as u16 {
            all.combine(&PortTotals::sum(threads(), slot), true);
        }
        let held = shared.agent_view.lock().unwrap_or_else(std::sync::PoisonError::into_inner).held as u64;
        let staged: u64 = threads().map(|c| c.staged.load(std::sync::atomic::Ordering::Relaxed)).sum();
        Stats {
            books: Books {
                received: all.rx_packets,
                replicas: threads().map(|c| c.replicas.get()).sum(),
                originated: threads().map(|c| c.originated.get()).sum(),
                sent: all.tx_packets,
                dropped: all.drops.iter().sum(),
                consumed: threads().map(|c| c.consumed.get()).sum(),
                held: held + staged,
            },
            drops: drops_by_name(&all),
            ports,
            workers: self.worker_status(shared),
            mempool: self.mempools(shared),
            fdb: table_stats(&self.fdb.stats()),
            waiting: waiting_stats(&shared.domain.pending()),
        }
    }
}
