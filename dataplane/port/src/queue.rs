//! Queues: what a worker owns, whatever is behind them.

use arrayvec::ArrayVec;

use crate::burst::Burst;
use crate::eth::{EthRx, EthTx};
use crate::mbuf::Mbuf;
use crate::vhost::{Losses, VhostRx, VhostTx};

/// A queue to receive from. One owner at a time, any thread.
#[derive(Debug)]
pub enum RxQueue {
    /// Receive queue of an Ethernet device.
    Eth(EthRx),
    /// A guest's transmit ring.
    Vhost(VhostRx),
}

impl RxQueue {
    /// Appends up to `max` packets (and not more than there is room for) to `out`; returns how many. Zero for a
    /// port that is down or a guest that is away.
    #[inline]
    pub fn rx_burst(&mut self, out: &mut Burst, max: usize) -> usize {
        match self {
            Self::Eth(queue) => queue.rx_burst(out, max),
            Self::Vhost(queue) => queue.rx_burst(out, max),
        }
    }

    /// Frames that were lost in the last call of [`RxQueue::rx_burst`] since the guest described them wrongly, or for want of
    /// buffers in the middle of one. What is lost in a NIC is in its statistics.
    #[inline(always)]
    pub fn losses(&self) -> Losses {
        match self {
            Self::Eth(_) => Losses::default(),
            Self::Vhost(queue) => queue.losses(),
        }
    }

    /// Number of the queue in its port, from 0.
    pub fn index(&self) -> u16 {
        match self {
            Self::Eth(queue) => queue.index(),
            Self::Vhost(queue) => queue.index(),
        }
    }
}

/// A queue to send to. One owner at a time, any thread.
#[derive(Debug)]
pub enum TxQueue {
    /// Transmit queue of an Ethernet device.
    Eth(EthTx),
    /// A guest's receive ring.
    Vhost(VhostTx),
}

impl TxQueue {
    /// Sends packets from the front and removes those from `pkts`; returns how many. What the queue does not take
    /// now stays, in order: the caller frees and counts it, or tries again later.
    #[inline]
    pub fn tx_burst<const N: usize>(&mut self, pkts: &mut ArrayVec<Mbuf, N>) -> usize {
        match self {
            Self::Eth(queue) => queue.tx_burst(pkts),
            Self::Vhost(queue) => queue.tx_burst(pkts),
        }
    }

    /// Whether [`TxQueue::settle`] has something to do.
    #[inline(always)]
    pub fn unsettled(&self) -> bool {
        match self {
            Self::Eth(_) => false,
            Self::Vhost(queue) => queue.unsettled(),
        }
    }

    /// Has another look at whether the guest wants to be interrupted for what it was sent. To be called, if
    /// [`TxQueue::unsettled`], in the first round in which nothing is sent to the queue, and before its owner sleeps: else the guest
    /// may wait for an interrupt that does not come.
    pub fn settle(&mut self) {
        match self {
            Self::Eth(_) => {}
            Self::Vhost(queue) => queue.settle(),
        }
    }

    /// Number of the queue in its port, from 0.
    pub fn index(&self) -> u16 {
        match self {
            Self::Eth(queue) => queue.index(),
            Self::Vhost(queue) => queue.index(),
        }
    }

    /// False for a guest that is away or has this ring disabled: whatever is sent now would stay. True for an
    /// Ethernet device, whose link is another matter.
    #[inline]
    pub fn ready(&self) -> bool {
        match self {
            Self::Eth(_) => true,
            Self::Vhost(queue) => queue.ready(),
        }
    }
}
