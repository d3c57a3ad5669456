//! Pools of packet buffers: one for each port that packets come from.
//!
//! A packet keeps a buffer of its sender's pool until it is sent or dropped, wherever it waits meanwhile, and copies of
//! it come from there, too. So a sender that fills every queue on its way runs out of its own buffers, and nobody
//! else's. A port's pool outlives the port by as long as some of its packets are on their way.

use weft_port::{DEFAULT_DATA_ROOM, Eal, Mempool, PortError};

use super::ids::PortId;
use crate::model::{Dpdk, PortKind};

/// Packet buffers for each queue unless the configuration says otherwise: 2^n - 1, as a mempool likes it.
const QUEUE_MBUFS: u32 = 2047;
/// How many times as many the uplink has: it carries what all remote senders have for all local ports.
const UPLINK_FACTOR: u32 = 2;
/// Mbufs that each worker may keep in its cache of a pool.
const CACHE: u32 = 64;
/// The same of the uplink's pool.
const UPLINK_CACHE: u32 = 256;
/// Of the underlay's agent, for ARP, ICMP and what the host's kernel sends.
const AGENT_MBUFS: u32 = 2047;

/// Makes pools.
#[derive(Clone)]
pub struct Pools {
    eal: Eal,
    per_queue: u32,
    workers: u32,
}

impl Pools {
    /// `workers`: threads that use the pools.
    pub fn new(eal: &Eal, settings: &Dpdk, workers: usize) -> Self {
        let per_queue = if settings.queue_mbufs == 0 { QUEUE_MBUFS } else { settings.queue_mbufs };
        Self { eal: eal.clone(), per_queue, workers: workers as u32 }
    }

    /// `queues` receive queues with `descriptors` each, which hold buffers while nothing happens.
    fn make(&self, name: &str, queues: u16, per_queue: u32, cache: u32) -> Result<Mempool, PortError> {
        // A cache fills to one and a half times its size before it gives back.
        let count = u32::from(queues) * per_queue + self.workers * cache * 3 / 2;
        Mempool::new(&self.eal, name, count, cache, DEFAULT_DATA_ROOM, -1)
    }

    /// A port's.
    pub fn port(&self, id: PortId, kind: &PortKind) -> Result<Mempool, PortError> {
        let descriptors = match kind {
            // A guest's rings lie in its own memory.
            PortKind::VhostUser { .. } => 0,
            PortKind::Ethdev { .. } => u32::from(super::ports::DESCRIPTORS),
        };
        let name = format!("weft-port-{}-{}", id.slot, id.generation);
        self.make(&name, kind.queues(), self.per_queue + descriptors, CACHE)
    }

    /// The uplink's.
    pub fn uplink(&self, queues: u16) -> Result<Mempool, PortError> {
        let per_queue = UPLINK_FACTOR * self.per_queue + u32::from(super::ports::DESCRIPTORS);
        self.make("weft-uplink", queues, per_queue, UPLINK_CACHE)
    }

    /// The underlay agent's. No cache: its thread has none, and workers only give back.
    pub fn agent(&self) -> Result<Mempool, PortError> {
        Mempool::new(&self.eal, "weft-agent", AGENT_MBUFS, 0, DEFAULT_DATA_ROOM, -1)
    }
}

/// Pools of ports that are gone, until their last packet is home.
#[derive(Default)]
pub struct Retired(Vec<Mempool>);

impl Retired {
    /// Keeps the pool of a closed port.
    pub fn push(&mut self, pool: Mempool) {
        self.0.push(pool);
    }

    /// Takes out those that nobody uses any more; dropping them frees their memory.
    pub fn take_idle(&mut self) -> Vec<Mempool> {
        self.0.extract_if(.., |p| p.in_use() == 0).collect()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Mempool> {
        self.0.iter()
    }
}
