//! Opening and closing ports and the uplink, and what running ones say of themselves.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Sender;
use weft_dataplane::forwarding::MAX_QUEUES;
use weft_dataplane::tx::STAGE_BOUND;
use weft_port::{
    BURST, Eal, EthConfig, EthDev, Mempool, PortError, RxQueue, TxQueue, VhostConfig, VhostEvent, VhostHooks,
    VhostPort,
};
use weft_tables::qsbr::Domain;

use super::compile::PortFacts;
use super::ids::PortId;
use super::workers;
use crate::model::{Port, PortKind, Uplink, VhostMode};

/// Bytes that an Ethernet frame has beyond its IP packet, with two VLAN tags and without FCS.
const L2_OVERHEAD: u32 = 14 + 8;
/// Longest frame for a guest that takes it in several buffers (VIRTIO_NET_F_MRG_RXBUF).
const MERGEABLE_FRAME: u32 = 65_535;
/// Longest frame for a guest with one buffer a packet and no MTU agreed: 1500 bytes, Ethernet header and a VLAN tag.
const PLAIN_FRAME: u32 = 1518;
/// VIRTIO_NET_F_MRG_RXBUF (virtio 1.1, 5.1.3).
const MRG_RXBUF: u64 = 1 << 15;
/// Descriptors in each queue of an Ethernet device.
const DESCRIPTORS: u16 = 1024;
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
    /// Mbufs reserved for it.
    pub reserved: u64,
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
    /// As last seen by the watcher.
    pub link: bool,
}

/// A port that was opened but whose queues no worker has yet.
pub struct Opened {
    pub device: Device,
    pub rx: Vec<RxQueue>,
    pub tx: Vec<TxQueue>,
}

/// What opening a port needs.
#[derive(Clone)]
pub struct Opener {
    pub eal: Eal,
    pub pool: Mempool,
    pub domain: Arc<Domain>,
    pub poke: Sender<()>,
}

/// Mbufs that a port can hold at most: staged in both directions and, for a device, in its descriptors.
pub fn mbufs_of(kind: &PortKind) -> u64 {
    let queues = u64::from(kind.queues());
    let staged = queues * (STAGE_BOUND + BURST) as u64;
    match kind {
        PortKind::VhostUser { .. } => staged,
        PortKind::Ethdev { .. } => staged + queues * 2 * u64::from(DESCRIPTORS),
    }
}

impl Opener {
    /// Opens a port.
    pub fn open(&self, port: &Port) -> Result<Opened, PortError> {
        match &port.kind {
            PortKind::VhostUser { socket, mode, queues, packed } => {
                self.vhost(&port.name, socket, *mode, *queues, *packed)
            }
            PortKind::Ethdev { device, queues, mtu } => {
                let (dev, rx, tx) = self.eth(device, *queues, *queues, *mtu, true)?;
                Ok(Opened { device: Device::Eth(dev), rx, tx })
            }
        }
    }

    fn vhost(
        &self,
        name: &str,
        path: &Path,
        mode: VhostMode,
        queues: u16,
        packed: bool,
    ) -> Result<Opened, PortError> {
        let config = VhostConfig {
            path: path.to_owned(),
            mode: match mode {
                VhostMode::Server => weft_port::VhostMode::Server,
                VhostMode::Client => weft_port::VhostMode::Client,
            },
            queues,
            packed,
            pool: self.pool.clone(),
        };
        let hooks =
            Arc::new(Hooks { port: name.to_owned(), domain: self.domain.clone(), poke: self.poke.clone() });
        let (port, rx, tx) = VhostPort::open(&self.eal, config, hooks)?;
        Ok(Opened { device: Device::Vhost(port), rx, tx })
    }

    /// Opens an Ethernet device with the wished number of queues, or as many as it has.
    pub fn eth(
        &self,
        device: &str,
        rx_queues: u16,
        tx_queues: u16,
        mtu: u16,
        promiscuous: bool,
    ) -> Result<(EthDev, Vec<RxQueue>, Vec<TxQueue>), PortError> {
        let config = EthConfig {
            device: device.to_owned(),
            rx_queues: rx_queues.min(MAX_QUEUES as u16),
            tx_queues: tx_queues.min(MAX_QUEUES as u16),
            rx_desc: DESCRIPTORS,
            tx_desc: DESCRIPTORS,
            mtu,
            promiscuous,
            pool: self.pool.clone(),
        };
        EthDev::open(&self.eal, &config)
    }
}

/// Closes a port whose queues are back.
pub fn close(device: Device, rx: Vec<RxQueue>, tx: Vec<TxQueue>) {
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

impl RunningPort {
    /// What the tables need to know, with the state of this moment.
    pub fn facts(&self, workers: usize) -> PortFacts {
        let owner = |q: usize| Some(workers::owner(self.id, q, workers));
        let (max_frame, tx_owners) = match &self.device {
            Device::Vhost(p) => {
                let s = p.state();
                let max_frame = match s.mtu {
                    Some(mtu) => u32::from(mtu) + L2_OVERHEAD,
                    None if s.features & MRG_RXBUF != 0 => MERGEABLE_FRAME,
                    None => PLAIN_FRAME,
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
