//! Queues of a vhost-user port. The guest's transmit ring is weft's receive queue, and the other way round.

use std::sync::Arc;

use arrayvec::ArrayVec;
use dpdk_sys as sys;

use super::shared::{Entered, Shared};
use super::vring::Losses;
use crate::burst::{BURST, Burst, free_prefix};
use crate::mbuf::Mbuf;
use crate::mempool::Mempool;

/// Receives what the guest sends: ring 2n+1 of pair n.
#[derive(Debug)]
pub struct VhostRx {
    shared: Arc<Shared>,
    ring: u16,
    /// The ring's epoch when guest notifications were last switched off.
    epoch: u32,
    pool: Mempool,
    losses: Losses,
}

/// Sends to the guest: ring 2n of pair n.
#[derive(Debug)]
pub struct VhostTx {
    shared: Arc<Shared>,
    ring: u16,
    epoch: u32,
    /// The guest is owed another look at whether it wants to be interrupted.
    unsettled: bool,
}

/// Tells the guest not to kick, where the ring may have been set up anew: it is polled. Done here as rings may be set up long after the
/// device, and in the callback about that DPDK holds their locks.
#[inline]
fn renew(shared: &Shared, vid: i32, ring: u16, epoch: &mut u32) {
    let now = shared.epoch(ring);
    if now != *epoch {
        *epoch = now;
        // SAFETY: the caller holds the device; the call checks the ring's number itself.
        unsafe { sys::rte_vhost_enable_guest_notification(vid, ring, 0) };
    }
}

/// Packed rings.
fn rx_burst_by_library(vid: i32, ring: u16, pool: &Mempool, out: &mut Burst, max: usize) -> usize {
    let len = out.len();
    let n = max.min(out.remaining_capacity());
    // SAFETY: the device lives while the caller is inside. There is room for `n` pointers, and those that DPDK returns
    // are valid mbufs of ours alone. DPDK locks the ring and checks the guest's descriptors.
    unsafe {
        let room = out.as_mut_ptr().add(len).cast::<*mut sys::rte_mbuf>();
        let got = sys::rte_vhost_dequeue_burst(vid, ring, pool.as_ptr(), room, n as u16);
        let got = usize::from(got).min(n);
        if got > 0 {
            sys::weft_mbuf_clear_offload_bulk(room, got as u32);
            out.set_len(len + got);
        }
        got
    }
}

/// Packed rings.
fn tx_burst_by_library(vid: i32, ring: u16, pkts: &mut [Mbuf]) -> usize {
    let mut sent = 0;
    while sent < pkts.len() {
        // A call takes no more than this, however many it is given: less than it was given means full.
        let chunk = &mut pkts[sent..];
        let n = chunk.len().min(BURST);
        // SAFETY: the device lives while the caller is inside; the slice holds as many mbufs, which are only read.
        let took = unsafe {
            let first = chunk.as_mut_ptr().cast::<*mut sys::rte_mbuf>();
            sys::rte_vhost_enqueue_burst(vid, ring, first, n as u16)
        };
        let took = usize::from(took).min(n);
        sent += took;
        if took < n {
            break;
        }
    }
    sent
}

impl VhostRx {
    /// The caller makes one for each pair.
    pub(super) fn new(shared: &Arc<Shared>, pair: u16, pool: Mempool) -> Self {
        Self { shared: Arc::clone(shared), ring: pair * 2 + 1, epoch: 0, pool, losses: Losses::default() }
    }

    /// See [`crate::RxQueue::rx_burst`]. Packets are copies out of the guest's memory, of any length from 1, chained
    /// where they do not fit one mbuf, and without any metadata.
    #[inline]
    pub fn rx_burst(&mut self, out: &mut Burst, max: usize) -> usize {
        // SAFETY: this is the ring's only queue, and the guard ends with the call.
        let Some(entered) = (unsafe { self.shared.enter(self.ring) }) else {
            self.losses = Losses::default();
            return 0;
        };
        match entered.vring {
            Some(vring) => {
                let before = out.len();
                if self.shared.is_announcing(self.ring) && !out.is_full() {
                    // SAFETY: the device lives while we are inside; what is returned is ours.
                    let m = unsafe { Mbuf::from_raw(vring.announcement(self.pool.as_ptr())) };
                    self.shared.announced(self.ring, m.is_some());
                    out.extend(m);
                }
                vring.dequeue(&self.pool, out, max);
                self.losses = vring.take_losses();
                out.len() - before
            }
            None => {
                self.losses = Losses::default();
                renew(&self.shared, entered.vid, self.ring, &mut self.epoch);
                rx_burst_by_library(entered.vid, self.ring, &self.pool, out, max)
            }
        }
    }

    /// Frames that the guest meant to send and that did not become packets in the last call of [`VhostRx::rx_burst`].
    #[inline(always)]
    pub fn losses(&self) -> Losses {
        self.losses
    }

    /// Number of the queue pair, from 0.
    pub fn index(&self) -> u16 {
        self.ring / 2
    }
}

impl VhostTx {
    /// The caller makes one for each pair.
    pub(super) fn new(shared: &Arc<Shared>, pair: u16) -> Self {
        Self { shared: Arc::clone(shared), ring: pair * 2, epoch: 0, unsettled: false }
    }

    /// See [`crate::TxQueue::tx_burst`]. Packets are copied into the guest's memory and freed.
    #[inline]
    pub fn tx_burst<const N: usize>(&mut self, pkts: &mut ArrayVec<Mbuf, N>) -> usize {
        let n = pkts.len();
        if n == 0 {
            return 0;
        }
        // SAFETY: this is the ring's only queue, and the guard ends with the call.
        let Some(entered) = (unsafe { self.shared.enter(self.ring) }) else { return 0 };
        let sent = match entered.vring {
            Some(vring) => {
                let sent = vring.enqueue(pkts);
                if sent == 0 {
                    // It has to know of what it got before, or it may never make room.
                    vring.settle();
                }
                self.unsettled = vring.is_owed();
                sent
            }
            None => {
                renew(&self.shared, entered.vid, self.ring, &mut self.epoch);
                tx_burst_by_library(entered.vid, self.ring, pkts)
            }
        };
        drop(entered.inside);
        free_prefix(pkts, sent);
        sent
    }

    /// Whether [`VhostTx::settle`] has something to do.
    #[inline(always)]
    pub fn unsettled(&self) -> bool {
        self.unsettled
    }

    /// See [`crate::TxQueue::settle`].
    pub fn settle(&mut self) {
        self.unsettled = false;
        // SAFETY: this is the ring's only queue, and the guard ends with the call.
        if let Some(Entered { vring: Some(vring), .. }) = unsafe { self.shared.enter(self.ring) } {
            vring.settle();
        }
    }

    /// True when the guest is there and has this ring enabled.
    #[inline]
    pub fn ready(&self) -> bool {
        self.shared.ready(self.ring)
    }

    /// Number of the queue pair, from 0.
    pub fn index(&self) -> u16 {
        self.ring / 2
    }
}
