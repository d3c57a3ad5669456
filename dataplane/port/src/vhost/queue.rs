//! Queues of a vhost-user port. The guest's transmit ring is weft's receive queue, and the other way round.

use std::sync::Arc;

use arrayvec::ArrayVec;
use dpdk_sys as sys;

use super::shared::Shared;
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
}

/// Sends to the guest: ring 2n of pair n.
#[derive(Debug)]
pub struct VhostTx {
    shared: Arc<Shared>,
    ring: u16,
    epoch: u32,
}

/// Tells the guest not to kick: the ring is polled. Done here as rings may be set up long after the device, and in
/// the callback about that DPDK holds their locks.
#[cold]
fn suppress_kicks(vid: i32, ring: u16) {
    // SAFETY: the caller holds the device; the call checks the ring's number itself.
    unsafe { sys::rte_vhost_enable_guest_notification(vid, ring, 0) };
}

impl VhostRx {
    /// The caller makes one for each pair.
    pub(super) fn new(shared: &Arc<Shared>, pair: u16, pool: Mempool) -> Self {
        Self { shared: Arc::clone(shared), ring: pair * 2 + 1, epoch: 0, pool }
    }

    /// See [`crate::RxQueue::rx_burst`]. Packets are copies out of the guest's memory, of any length from 0, chained
    /// where they do not fit one mbuf, and without any metadata.
    #[inline]
    pub fn rx_burst(&mut self, out: &mut Burst, max: usize) -> usize {
        let Some((vid, _inside)) = self.shared.enter(self.ring) else { return 0 };
        let epoch = self.shared.epoch(self.ring);
        if epoch != self.epoch {
            self.epoch = epoch;
            suppress_kicks(vid, self.ring);
        }
        let len = out.len();
        let n = max.min(out.remaining_capacity());
        // SAFETY: the device lives while we are inside. There is room for `n` pointers, and those that DPDK returns
        // are valid mbufs of ours alone. DPDK locks the ring and checks the guest's descriptors.
        unsafe {
            let room = out.as_mut_ptr().add(len).cast::<*mut sys::rte_mbuf>();
            let got = sys::rte_vhost_dequeue_burst(vid, self.ring, self.pool.as_ptr(), room, n as u16);
            let got = usize::from(got).min(n);
            if got > 0 {
                sys::weft_mbuf_clear_offload_bulk(room, got as u32);
                out.set_len(len + got);
            }
            got
        }
    }

    /// Number of the queue pair, from 0.
    pub fn index(&self) -> u16 {
        self.ring / 2
    }
}

impl VhostTx {
    /// The caller makes one for each pair.
    pub(super) fn new(shared: &Arc<Shared>, pair: u16) -> Self {
        Self { shared: Arc::clone(shared), ring: pair * 2, epoch: 0 }
    }

    /// See [`crate::TxQueue::tx_burst`]. Packets are copied into the guest's memory and freed.
    #[inline]
    pub fn tx_burst<const N: usize>(&mut self, pkts: &mut ArrayVec<Mbuf, N>) -> usize {
        let n = pkts.len();
        if n == 0 {
            return 0;
        }
        let sent = {
            let Some((vid, _inside)) = self.shared.enter(self.ring) else { return 0 };
            let epoch = self.shared.epoch(self.ring);
            if epoch != self.epoch {
                self.epoch = epoch;
                suppress_kicks(vid, self.ring);
            }
            let mut sent = 0;
            while sent < n {
                // A call takes no more than this, however many it is given: less than it was given means full.
                let chunk = (n - sent).min(BURST);
                // SAFETY: the device lives while we are inside; the vector holds `n` mbufs, of which `chunk` from
                // `sent` on are only read.
                let took = unsafe {
                    let first = pkts.as_mut_ptr().add(sent).cast::<*mut sys::rte_mbuf>();
                    sys::rte_vhost_enqueue_burst(vid, self.ring, first, chunk as u16)
                };
                let took = usize::from(took).min(chunk);
                sent += took;
                if took < chunk {
                    break;
                }
            }
            sent
        };
        free_prefix(pkts, sent);
        sent
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
