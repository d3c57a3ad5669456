//! Queues of an Ethernet device.

use std::sync::Arc;

use arrayvec::ArrayVec;
use dpdk_sys as sys;

use super::device::Device;
use crate::burst::{Burst, forget_prefix};
use crate::mbuf::Mbuf;

/// A receive queue. The device stays open as long as this lives.
#[derive(Debug)]
pub struct EthRx {
    port: u16,
    queue: u16,
    device: Arc<Device>,
}

/// A transmit queue. The device stays open as long as this lives.
#[derive(Debug)]
pub struct EthTx {
    port: u16,
    queue: u16,
    device: Arc<Device>,
}

impl EthRx {
    /// The caller makes at most one for each queue that was set up.
    pub(super) fn new(device: &Arc<Device>, queue: u16) -> Self {
        Self { port: device.port(), queue, device: Arc::clone(device) }
    }

    /// See [`crate::RxQueue::rx_burst`].
    #[inline]
    pub fn rx_burst(&mut self, out: &mut Burst, max: usize) -> usize {
        let len = out.len();
        let n = max.min(out.remaining_capacity());
        // SAFETY: the device is started and this queue set up, as `device` is held; `&mut self` makes this its only
        // reader. There is room for `n` pointers, and those that DPDK returns are valid mbufs of ours alone.
        unsafe {
            let room = out.as_mut_ptr().add(len).cast::<*mut sys::rte_mbuf>();
            let got = usize::from(sys::weft_rx_burst(self.port, self.queue, room, n as u16)).min(n);
            out.set_len(len + got);
            got
        }
    }

    /// Number of the queue, from 0.
    pub fn index(&self) -> u16 {
        self.queue
    }

    pub(super) fn belongs_to(&self, device: &Arc<Device>) -> bool {
        Arc::ptr_eq(&self.device, device)
    }
}

impl EthTx {
    /// The caller makes at most one for each queue that was set up.
    pub(super) fn new(device: &Arc<Device>, queue: u16) -> Self {
        Self { port: device.port(), queue, device: Arc::clone(device) }
    }

    /// See [`crate::TxQueue::tx_burst`].
    #[inline]
    pub fn tx_burst<const N: usize>(&mut self, pkts: &mut ArrayVec<Mbuf, N>) -> usize {
        let n = pkts.len().min(usize::from(u16::MAX));
        if n == 0 {
            return 0;
        }
        // SAFETY: the device is started and this queue set up, as `device` is held; `&mut self` makes this its only
        // writer. The vector holds `n` owned mbufs; the first `sent` of them are the driver's afterwards.
        unsafe {
            let first = pkts.as_mut_ptr().cast::<*mut sys::rte_mbuf>();
            let sent = usize::from(sys::weft_tx_burst(self.port, self.queue, first, n as u16)).min(n);
            forget_prefix(pkts, sent);
            sent
        }
    }

    /// Number of the queue, from 0.
    pub fn index(&self) -> u16 {
        self.queue
    }

    pub(super) fn belongs_to(&self, device: &Arc<Device>) -> bool {
        Arc::ptr_eq(&self.device, device)
    }
}
