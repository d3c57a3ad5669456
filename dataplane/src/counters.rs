//! Counters: each block is written by one thread only, with plain relaxed stores, and read by anyone.
//!
//! A counter is an `AtomicU64` only so that a reader never sees half of it; its owner adds with a load and a store,
//! which compile to ordinary moves. No line of a block is ever written by a second core.
//!
//! The books: `received + replicas + originated = sent + dropped + consumed + held`. What is held (staged, on
//! its way to or from the agent, waiting for ARP) is the one side that is not counted but looked at; the rings between
//! workers, which are emptied every round, are left out. When traffic rests it is zero.

use crate::MAX_PORTS;
use crate::drop::{DropReason, REASONS};
use crate::timing::StageCounters;
use crossbeam::utils::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the block's owner may call this: two writers would lose counts (never memory safety).
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one thread counted for one port (an uplink is a port too).
#[derive(Debug)]
#[repr(align(64))]
pub struct PortCounters {
    /// Frames taken from the port.
    pub rx_packets: Counter,
    /// Bytes of those frames, without FCS.
    pub rx_bytes: Counter,
    /// Frames that the port accepted.
    pub tx_packets: Counter,
    /// Bytes of those frames, without FCS.
    pub tx_bytes: Counter,
    /// Drops by reason, counted at the port where the frame came in.
    pub drops: [Counter; REASONS],
}

impl Default for PortCounters {
    fn default() -> Self {
        Self {
            rx_packets: Counter::default(),
            rx_bytes: Counter::default(),
            tx_packets: Counter::default(),
            tx_bytes: Counter::default(),
            drops: std::array::from_fn(|_| Counter::default()),
        }
    }
}

/// One thread's counters: written by that thread, read by the control thread.
#[derive(Debug)]
pub struct ThreadCounters {
    ports: Box<[PortCounters]>,
    /// Copies made for flooding.
    pub replicas: Counter,
    /// Packets that weft made itself or took from the kernel's side of the tap.
    pub originated: Counter,
    /// Packets that ended in weft or its host: ARP, ICMP echo, frames given to the tap.
    pub consumed: Counter,
    /// Polling rounds.
    pub loops: CachePadded<Counter>,
    /// TSC cycles of rounds that found packets.
    pub busy_cycles: Counter,
    /// TSC cycles of rounds that found none, without the time slept.
    pub idle_cycles: Counter,
    /// Packets handled in busy rounds.
    pub packets: Counter,
    /// Cycles by stage, if they are sampled.
    pub stages: StageCounters,
    /// Packets held in this thread's transmit staging now (a gauge).
    pub staged: AtomicU64,
}

impl Default for ThreadCounters {
    fn default() -> Self {
        Self {
            ports: (0..MAX_PORTS).map(|_| PortCounters::default()).collect(),
            replicas: Counter::default(),
            originated: Counter::default(),
            consumed: Counter::default(),
            loops: CachePadded::default(),
            busy_cycles: Counter::default(),
            idle_cycles: Counter::default(),
            packets: Counter::default(),
            stages: StageCounters::default(),
            staged: AtomicU64::new(0),
        }
    }
}

impl ThreadCounters {
    /// The counters of a port slot; a slot out of range counts at slot 0, so that nothing is lost and nothing panics.
    #[inline]
    pub fn port(&self, slot: u16) -> &PortCounters {
        self.ports.get(usize::from(slot)).unwrap_or(&self.ports[0])
    }

    /// Counts `n` drops of frames that came in at `slot`.
    #[inline]
    pub fn dropped(&self, slot: u16, reason: DropReason, n: u64) {
        self.port(slot).drops[reason as usize].add(n);
    }
}

/// Sums over threads, as plain numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortTotals {
    /// See [`PortCounters::rx_packets`].
    pub rx_packets: u64,
    /// See [`PortCounters::rx_bytes`].
    pub rx_bytes: u64,
    /// See [`PortCounters::tx_packets`].
    pub tx_packets: u64,
    /// See [`PortCounters::tx_bytes`].
    pub tx_bytes: u64,
    /// Drops by `DropReason as usize`.
    pub drops: [u64; REASONS],
}

impl Default for PortTotals {
    fn default() -> Self {
        Self { rx_packets: 0, rx_bytes: 0, tx_packets: 0, tx_bytes: 0, drops: [0; REASONS] }
    }
}

impl PortTotals {
    /// Sums a slot over all threads.
    pub fn sum<'a>(threads: impl Iterator<Item = &'a ThreadCounters>, slot: u16) -> Self {
        let mut t = Self::default();
        for c in threads {
            let p = c.port(slot);
            t.rx_packets += p.rx_packets.get();
            t.rx_bytes += p.rx_bytes.get();
            t.tx_packets += p.tx_packets.get();
            t.tx_bytes += p.tx_bytes.get();
            for (sum, n) in t.drops.iter_mut().zip(&p.drops) {
                *sum += n.get();
            }
        }
        t
    }

    /// Adds (`sign` true) or subtracts another total: a slot's earlier life is subtracted from its later one.
    pub fn combine(&mut self, other: &Self, add: bool) {
        let op = |a: &mut u64, b: u64| *a = if add { a.wrapping_add(b) } else { a.wrapping_sub(b) };
        op(&mut self.rx_packets, other.rx_packets);
        op(&mut self.rx_bytes, other.rx_bytes);
        op(&mut self.tx_packets, other.tx_packets);
        op(&mut self.tx_bytes, other.tx_bytes);
        for (a, b) in self.drops.iter_mut().zip(&other.drops) {
            op(a, *b);
        }
    }
}
