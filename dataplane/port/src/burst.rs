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

/// The packets of a burst as they leave it, from the front: one by one, or a run at once into another vector. Those
/// that are left when this goes are freed; the burst is empty then.
pub struct Leaving<'a> {
    burst: &'a mut Burst,
    /// Packets `next..end` of the burst's places are owned by this; the burst itself counts as empty.
    next: usize,
    end: usize,
}

impl<'a> Leaving<'a> {
    /// Begins with the first packet.
    #[inline]
    pub fn new(burst: &'a mut Burst) -> Self {
        let end = burst.len();
        // SAFETY: a smaller length. The packets are ours to account for now; if this is forgotten they are lost.
        unsafe { burst.set_len(0) };
        Self { burst, next: 0, end }
    }

    /// Packets that are left.
    #[inline]
    pub fn len(&self) -> usize {
        self.end - self.next
    }

    /// Whether none is left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.next == self.end
    }

    /// The next packets, at most `n`, still here.
    #[inline]
    pub fn front(&mut self, n: usize) -> &mut [Mbuf] {
        let n = n.min(self.len());
        // SAFETY: those places hold packets, and nothing else leads to them while the slice is borrowed.
        unsafe { core::slice::from_raw_parts_mut(self.burst.as_mut_ptr().add(self.next), n) }
    }

    /// Moves the next packets behind those in `to`, at most `n` and no more than it has room for; returns how many.
    #[inline]
    pub fn move_to<const N: usize>(&mut self, n: usize, to: &mut ArrayVec<Mbuf, N>) -> usize {
        let n = n.min(self.len()).min(to.remaining_capacity());
        let len = to.len();
        // SAFETY: `n` places from `next` hold packets, `n` from `len` on are free, in different vectors. From here on
        // `to` owns them, and this does not.
        unsafe {
            let from = self.burst.as_mut_ptr().add(self.next);
            core::ptr::copy_nonoverlapping(from, to.as_mut_ptr().add(len), n);
            to.set_len(len + n);
        }
        self.next += n;
        n
    }

    /// Frees the next packets at once, at most `n`; returns how many.
    #[inline]
    pub fn free(&mut self, n: usize) -> usize {
        let n = n.min(self.len());
        if n > 0 {
            // SAFETY: those places hold owned packets (an Mbuf is a pointer), which this does not count from here on.
            unsafe { sys::rte_pktmbuf_free_bulk(self.burst.as_mut_ptr().add(self.next).cast(), n as u32) };
            self.next += n;
        }
        n
    }
}

impl Iterator for Leaving<'_> {
    type Item = Mbuf;

    #[inline]
    fn next(&mut self) -> Option<Mbuf> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: the place holds a packet, which is the caller's from here on.
        let m = unsafe { self.burst.as_ptr().add(self.next).read() };
        self.next += 1;
        Some(m)
    }
}

impl Drop for Leaving<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_empty() {
            self.free(self.len());
        }
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
