//! Opening and closing ports and the uplink, and what running ones say of themselves.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Sender;
use weft_dataplane::counters::PortTotals;
use weft_dataplane::forwarding::MAX_QUEUES;
use weft_port::{
    Eal, EthConfig, EthDev, Mempool, PortError, RxQueue, TxQueue, VhostConfig, VhostEvent, VhostHooks,
    VhostPort,
};
use weft_tables::qsbr::Domain;

use super::compile::PortFacts;
use super::ids::PortId;
use super::pools::Pools;
use super::{Shared, State, workers};
use crate::api::{ApiError, ApiResult};
use crate::model::{Port, PortKind, Uplink, VhostMode};
use crate::validate::device_id;

/// Bytes that an Ethernet frame has beyond its IP packet, with two VLAN tags and without FCS.
const L2_OVERHEAD: u32 = 14 + 8;
/// Longest frame for a guest that takes it in several buffers (VIRTIO_NET_F_MRG_RXBUF).
const MERGEABLE_FRAME: u32 = 65_535;
/// Longest frame for a guest with one buffer a packet and no MTU agreed: 1500 bytes, Ethernet header and a VLAN tag.
const PLAIN_FRAME: u32 = 1518;
/// VIRTIO_NET_F_MRG_RXBUF (virtio 1.1, 5.1.3).
const MRG_RXBUF: u64 = 1 << 15;
/// Descriptors in each queue of an Ethernet device.
pub const DESCRIPTORS: u16 = 1024;
/// Between alarms about a worker that holds up a guest's departure.
const GRACE: Duration = Duration::from_secs(1);

/// What is behind a port.
pub enum Device {
    Vhost(VhostPort),
    Eth(EthDev),
}

/// A port that exists.
pub struct RunningPort {
    pub model: Port,
    pub id: PortId,
    pub device: Device,
    pub rx_queues: usize,
    pub tx_queues: usize,
    /// Where its packets lie.
    pub pool: Mempool,
    /// As last seen by the watcher.
    pub link: bool,
}

/// The uplink.
pub struct RunningUplink {
    pub model: Uplink,
    pub id: PortId,
    pub device: EthDev,
    pub rx_queues: usize,
    pub tx_queues: usize,
    /// Where its packets lie.
    pub pool: Mempool,
    /// As last seen by the watcher.
    pub link: bool,
}

/// A port that was opened but whose queues no worker has yet.
pub struct Opened {
    pub device: Device,
    pub pool: Mempool,
    pub rx: Vec<RxQueue>,
    pub tx: Vec<TxQueue>,
}

/// What opening a port needs.
#[derive(Clone)]
pub struct Opener {
    pub eal: Eal,
    pub pools: Pools,
    pub domain: Arc<Domain>,
    pub poke: Sender<()>,
}

impl Opener {
    /// Opens a port.
    pub fn open(&self, id: PortId, port: &Port) -> Result<Opened, PortError> {
        let pool = self.pools.port(id, &port.kind)?;
        let (device, rx, tx) = match &port.kind {
            PortKind::VhostUser { socket, mode, queues, packed } => {
                self.vhost(&port.name, socket, *mode, *queues, *packed, &pool)?
            }
            PortKind::Ethdev { device, queues, mtu } => {
                let (dev, rx, tx) = self.eth(device, (*queues, *queues), *mtu, true, &pool)?;
                (Device::Eth(dev), rx, tx)
            }
        };
        Ok(Opened { device, pool, rx, tx })
    }

    fn vhost(
        &self,
        name: &str,
        path: &Path,
        mode: VhostMode,
        queues: u16,
        packed: bool,
        pool: &Mempool,
    ) -> Result<(Device, Vec<RxQueue>, Vec<TxQueue>), PortError> {
        let config = VhostConfig {
            path: path.to_owned(),
            mode: match mode {
                VhostMode::Server => weft_port::VhostMode::Server,
                VhostMode::Client => weft_port::VhostMode::Client,
            },
            queues,
            packed,
            pool: pool.clone(),
        };
        let hooks =
            Arc::new(Hooks { port: name.to_owned(), domain: self.domain.clone(), poke: self.poke.clone() });
        let (port, rx, tx) = VhostPort::open(&self.eal, config, hooks)?;
        Ok((Device::Vhost(port), rx, tx))
    }

    /// Opens an Ethernet device with the wished number of queues, or as many as it has.
    pub fn eth(
        &self,
        device: &str,
        (rx_queues, tx_queues): (u16, u16),
        mtu: u16,
        promiscuous: bool,
        pool: &Mempool,
    ) -> Result<(EthDev, Vec<RxQueue>, Vec<TxQueue>), PortError> {
        let config = EthConfig {
            device: device.to_owned(),
            rx_queues: rx_queues.min(MAX_QUEUES as u16),
            tx_queues: tx_queues.min(MAX_QUEUES as u16),
            rx_desc: DESCRIPTORS,
            tx_desc: DESCRIPTORS,
            mtu,
            promiscuous,
            rx_checksums: true,
            free_early: true,
            pool: pool.clone(),
        };
        EthDev::open(&self.eal, &config)
    }
}

/// Closes a port whose queues are back.
fn close(device: Device, rx: Vec<RxQueue>, tx: Vec<TxQueue>) {
    match device {
        Device::Vhost(p) => p.close(rx, tx),
        Device::Eth(d) => {
            let name = d.device().to_owned();
            if let Err(e) = d.close(rx, tx) {
                tracing::warn!("closing {name}: {e}");
            }
        }
    }
}

/// What only one port at a time can have: a socket's path or a device.
pub fn resource(kind: &PortKind) -> String {
    match kind {
        PortKind::VhostUser { socket, .. } => socket.display().to_string(),
        PortKind::Ethdev { device, .. } => device_id(device),
    }
}

impl State {
    /// Opens a port and hands its queues to workers. Nothing leads to it yet.
    pub(super) fn open_port(&mut self, shared: &Shared, p: &Port) -> ApiResult<()> {
        let id = self.ids.take_port().ok_or_else(|| {
            ApiError::precondition(format!("port {}: weftd has as many ports as it can", p.name))
        })?;
        let opened = shared.opener.open(id, p).map_err(|e| {
            self.ids.give_port(id);
            ApiError::precondition(format!("port {}: {e}", p.name))
        })?;
        let (rx_queues, tx_queues) = (opened.rx.len(), opened.tx.len());
        self.baselines.insert(id.slot, PortTotals::sum(shared.counters.iter().map(AsRef::as_ref), id.slot));
        if let Err(e) = workers::give_queues(&mut self.workers, id, opened.rx, opened.tx) {
            self.put_away(id, opened.device, opened.pool, Vec::new(), Vec::new());
            return Err(ApiError::internal(format!("port {}: {e}", p.name)));
        }
        let mut running = RunningPort {
            model: p.clone(),
            id,
            device: opened.device,
            rx_queues,
            tx_queues,
            pool: opened.pool,
            link: false,
        };
        running.link = running.link_now();
        self.ports.insert(p.name.clone(), running);
        self.failed.remove(&p.name);
        Ok(())
    }

    /// Takes a port's queues back and closes it. What still leads to it, leads to an old generation of its slot.
    pub(super) fn close_port(&mut self, name: &str) {
        let Some(p) = self.ports.remove(name) else { return };
        match workers::take_queues(&mut self.workers, p.id) {
            Ok((rx, tx)) => self.put_away(p.id, p.device, p.pool, rx, tx),
            Err(e) => {
                // A worker that does not answer still has the queues: closing the device under it is not possible.
                tracing::error!("port {name}: {e}; its device stays open until weftd is restarted");
                std::mem::forget((p.device, p.pool));
            }
        }
    }

    /// Closes what no worker uses any more; the slot may be used again.
    fn put_away(&mut self, id: PortId, device: Device, pool: Mempool, rx: Vec<RxQueue>, tx: Vec<TxQueue>) {
        close(device, rx, tx);
        self.retired.push(pool);
        self.ids.give_port(id);
    }

    /// Lets a running port go on as one of another bridge domain: with a new generation, so that neither packets that
    /// were received before nor those on their way to it are taken for the new domain's.
    pub(super) fn move_port(&mut self, p: &Port) -> ApiResult<()> {
        let Some(mut running) = self.ports.remove(&p.name) else { return Ok(()) };
        let fail = |e| ApiError::internal(format!("port {}: {e}", p.name));
        let (rx, tx) = match workers::take_queues(&mut self.workers, running.id) {
            Ok(queues) => queues,
            Err(e) => {
                // As in `close_port`.
                std::mem::forget((running.device, running.pool));
                return Err(fail(e));
            }
        };
        running.id = self.ids.renew_port(running.id);
        running.model.bd.clone_from(&p.bd);
        if let Err(e) = workers::give_queues(&mut self.workers, running.id, rx, tx) {
            self.put_away(running.id, running.device, running.pool, Vec::new(), Vec::new());
            return Err(fail(e));
        }
        self.ports.insert(p.name.clone(), running);
        Ok(())
    }
}

impl RunningPort {
    /// What the tables need to know, with the state of this moment.
    pub fn facts(&self, workers: usize) -> PortFacts {
        let owner = |q: usize| Some(workers::owner(self.id, q, workers));
        let (max_frame, tx_owners) = match &self.device {
            Device::Vhost(p) => {
                let s = p.state();
                let max_frame = match (s.mtu, s.features & MRG_RXBUF != 0) {
                    (Some(mtu), true) => u32::from(mtu) + L2_OVERHEAD,
                    (None, true) => MERGEABLE_FRAME,
                    // Whatever MTU was agreed, its buffers are as large as its driver likes: at least this.
                    (mtu, false) => mtu.map_or(PLAIN_FRAME, |m| PLAIN_FRAME.min(u32::from(m) + L2_OVERHEAD)),
                };
                // Even rings are the guest's receive side.
                let enabled = |q: usize| s.rings_enabled.contains(&(2 * q as u16));
                (max_frame, (0..self.tx_queues).map(|q| owner(q).filter(|_| enabled(q))).collect())
            }
            Device::Eth(d) => {
                let max_frame = u32::from(d.caps().mtu) + L2_OVERHEAD;
                (max_frame, (0..self.tx_queues).map(|q| owner(q).filter(|_| self.link)).collect())
            }
        };
        PortFacts { slot: self.id.slot, generation: self.id.generation, max_frame, tx_owners }
    }

    /// Whether frames reach it.
    pub fn link_now(&self) -> bool {
        match &self.device {
            Device::Vhost(p) => p.state().rings_enabled.iter().any(|r| r % 2 == 0),
            Device::Eth(d) => d.link().up,
        }
    }
}

impl RunningUplink {
    /// What the tables need to know.
    pub fn facts(&self, workers: usize) -> PortFacts {
        let owners =
            (0..self.tx_queues).map(|q| Some(workers::owner(self.id, q, workers)).filter(|_| self.link));
        PortFacts {
            slot: self.id.slot,
            generation: self.id.generation,
            max_frame: u32::from(self.model.mtu) + 14,
            tx_owners: owners.collect(),
        }
    }
}

/// What a vhost-user port does at its events, on DPDK's one thread for all guests.
struct Hooks {
    port: String,
    domain: Arc<Domain>,
    poke: Sender<()>,
}

impl VhostHooks for Hooks {
    /// Ends only when no worker can hold the guest's device: to return earlier would free memory under it. A stalled
    /// worker is named once a second.
    fn wait_grace_period(&self) {
        while let Err(stalled) = self.domain.synchronize(GRACE) {
            tracing::error!(
                "port {}: its guest left, but {stalled}; other guests wait until it goes on",
                self.port
            );
        }
    }

    fn event(&self, event: VhostEvent) {
        match event {
            VhostEvent::Connected => tracing::info!("port {}: guest connected", self.port),
            VhostEvent::Disconnected => tracing::info!("port {}: guest disconnected", self.port),
            VhostEvent::QueueEnabled(ring, on) => {
                tracing::debug!(
                    "port {}: ring {ring} {}",
                    self.port,
                    if on { "enabled" } else { "disabled" }
                );
            }
        }
        // Full means that a look is due anyway.
        let _ = self.poke.try_send(());
    }
}
