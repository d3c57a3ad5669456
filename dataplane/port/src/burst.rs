//! Vectors of packets, the unit in which queues give and take.

use arrayvec::ArrayVec;
use dpdk_sys as sys;

use crate::mbuf::Mbuf;

/// Packets to ask a queue for at once. More amortises no better and needs more cache.
pub const BURST: usize = 32;

/// Packets in hand: room for twice a burst, so that one can be gathered behind another.
pub type Burst = ArrayVec<Mbuf, 64>;

/// Frees all packets at once (as `rte_pktmbuf_free_bulk`): cheaper than dropping one by one.
#[inline]
pub fn free_burst<const N: usize>(pkts: &mut ArrayVec<Mbuf, N>) {
    let n = pkts.len();
    free_prefix(pkts, n);
}

/// Frees the first `n` packets at once and moves the rest to the front.
#[inline]
pub(crate) fn free_prefix<const N: usize>(pkts: &mut ArrayVec<Mbuf, N>, n: usize) {
    if n == 0 {
        return;
    }
    debug_assert!(n <= pkts.len());
    // SAFETY: the first `n` places hold owned mbufs (an Mbuf is a pointer); forget_prefix then drops our claim.
    unsafe {
        sys::weft_mbuf_free_burst(pkts.as_mut_ptr().cast(), n as u32);
        forget_prefix(pkts, n);
    }
}

/// Removes the first `n` packets without freeing them and moves the rest to the front.
///
/// # Safety
/// `n` is at most the length, and somebody else owns the first `n` packets by now.
#[inline]
pub(crate) unsafe fn forget_prefix<const N: usize>(pkts: &mut ArrayVec<Mbuf, N>, n: usize) {
    let rest = pkts.len() - n;
    // SAFETY: both ranges are within the vector; `rest` places at the front hold the mbufs that remain, and the
    // others are not dropped as the length excludes them.
    unsafe {
        if rest > 0 && n > 0 {
            let start = pkts.as_mut_ptr();
            core::ptr::copy(start.add(n), start, rest);
        }
        pkts.set_len(rest);
    }
}
