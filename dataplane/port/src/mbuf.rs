//! A packet: one owned `struct rte_mbuf`, or a chain of them.

use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::Ordering;

use dpdk_sys as sys;
use sys::mbuf as raw;
use sys::rte_mbuf;

/// How the buffer is held: such an mbuf's bytes belong to another one, or to somebody else.
const BORROWED: u64 = sys::WEFT_MBUF_F_INDIRECT | sys::WEFT_MBUF_F_EXTERNAL;

/// An owned packet, freed when dropped. As large as a pointer, and an `Option` of it no larger.
///
/// It may move to another thread but not be shared: reading one field at a time is not atomic.
#[repr(transparent)]
pub struct Mbuf(NonNull<rte_mbuf>);

const _: () = assert!(size_of::<Option<Mbuf>>() == size_of::<*mut rte_mbuf>());

// SAFETY: an mbuf has no ties to a thread; pools take it back from any. What it shares with other mbufs (a reference
// count) is atomic, and their common bytes are read only.
unsafe impl Send for Mbuf {}

// `Mbuf: !Sync` by its pointer. If it were Sync, this function's call would be ambiguous and not compile.
const _: fn() = || {
    trait Ambiguous<A> {
        fn check() {}
    }
    impl<T: ?Sized> Ambiguous<()> for T {}
    struct IsSync;
    impl<T: ?Sized + Sync> Ambiguous<IsSync> for T {}
    <Mbuf as Ambiguous<_>>::check();
};

impl Mbuf {
    /// Takes over a packet, or `None` if there is none.
    ///
    /// # Safety
    /// `m` is null, or the first segment of a valid chain that nobody else owns.
    #[inline(always)]
    pub(crate) unsafe fn from_raw(m: *mut rte_mbuf) -> Option<Self> {
        NonNull::new(m).map(Self)
    }

    /// Gives up ownership.
    #[inline(always)]
    pub(crate) fn into_raw(self) -> *mut rte_mbuf {
        ManuallyDrop::new(self).0.as_ptr()
    }

    #[inline(always)]
    pub(crate) fn as_ptr(&self) -> *mut rte_mbuf {
        self.0.as_ptr()
    }

    /// Bytes of the packet in its first segment.
    #[inline(always)]
    pub fn data(&self) -> &[u8] {
        // SAFETY: the segment lives as long as the borrow.
        unsafe { segment(self.as_ptr()) }
    }

    /// The same bytes to write to; `None` if another packet shares them.
    #[inline(always)]
    pub fn data_mut(&mut self) -> Option<&mut [u8]> {
        if !self.is_exclusive() {
            return None;
        }
        let m = self.as_ptr();
        // SAFETY: data_off + data_len is within the buffer in every valid mbuf; nobody else holds the buffer.
        Some(unsafe {
            slice::from_raw_parts_mut(raw::buf_addr(m).add(raw::data_off(m).into()), raw::data_len(m).into())
        })
    }

    /// Bytes in the whole packet, over all segments.
    #[inline(always)]
    pub fn pkt_len(&self) -> u32 {
        // SAFETY: owned and live.
        unsafe { raw::pkt_len(self.as_ptr()) }
    }

    /// Bytes in the first segment.
    #[inline(always)]
    pub fn data_len(&self) -> u16 {
        // SAFETY: owned and live.
        unsafe { raw::data_len(self.as_ptr()) }
    }

    /// Segments in the chain.
    #[inline(always)]
    pub fn nb_segs(&self) -> u16 {
        // SAFETY: owned and live.
        unsafe { raw::nb_segs(self.as_ptr()) }
    }

    /// The bytes of each segment in turn.
    #[inline]
    pub fn segments(&self) -> Segments<'_> {
        Segments { next: self.as_ptr(), packet: PhantomData }
    }

    /// Free bytes in front of the data.
    #[inline(always)]
    pub fn headroom(&self) -> u16 {
        // SAFETY: owned and live.
        unsafe { raw::data_off(self.as_ptr()) }
    }

    /// Free bytes behind the data of the last segment.
    pub fn tailroom(&self) -> u16 {
        // SAFETY: the last segment is part of the owned chain.
        unsafe { tailroom(last(self.as_ptr())) }
    }

    /// True when the first segment's bytes belong to this packet alone.
    #[inline(always)]
    pub fn is_exclusive(&self) -> bool {
        // SAFETY: owned and live.
        unsafe { exclusive(self.as_ptr()) }
    }

    /// Grows the packet by `n` bytes at its front and returns them: they hold whatever was there. `None`, with
    /// nothing changed, if there is not as much headroom or another packet shares the buffer.
    #[inline]
    pub fn prepend(&mut self, n: usize) -> Option<&mut [u8]> {
        let m = self.as_ptr();
        if n > usize::from(self.headroom()) || !self.is_exclusive() {
            return None;
        }
        let pkt_len = self.pkt_len().checked_add(n as u32)?;
        // Cannot overflow in a valid mbuf, as the buffer's size has 16 bits, too; but that is C's promise.
        let data_len = self.data_len().checked_add(n as u16)?;
        // SAFETY: owned; n was checked against the headroom, so that the data stays within the buffer.
        unsafe {
            raw::set_data_off(m, raw::data_off(m) - n as u16);
            raw::set_data_len(m, data_len);
            raw::set_pkt_len(m, pkt_len);
            Some(slice::from_raw_parts_mut(raw::buf_addr(m).add(raw::data_off(m).into()), n))
        }
    }

    /// As [`Mbuf::prepend`], for a number of bytes that is known when compiling.
    #[inline(always)]
    pub fn prepend_array<const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        const { assert!(N <= u16::MAX as usize) };
        let m = self.as_ptr();
        if N > usize::from(self.headroom()) || !self.is_exclusive() {
            return None;
        }
        // SAFETY: owned; N was checked against the headroom, so that the data stays within the buffer. Its length
        // does not overflow, as the buffer's has 16 bits, too; in an mbuf that a driver broke the sums wrap.
        unsafe {
            let data_off = raw::data_off(m) - N as u16;
            raw::set_data_off(m, data_off);
            raw::set_data_len(m, raw::data_len(m).wrapping_add(N as u16));
            raw::set_pkt_len(m, raw::pkt_len(m).wrapping_add(N as u32));
            Some(&mut *raw::buf_addr(m).add(data_off.into()).cast::<[u8; N]>())
        }
    }

    /// Removes `n` bytes at the front. False, with nothing changed, if the first segment does not have as many.
    #[inline]
    #[must_use]
    pub fn adj(&mut self, n: usize) -> bool {
        let m = self.as_ptr();
        if n > usize::from(self.data_len()) || n as u64 > u64::from(self.pkt_len()) {
            return false;
        }
        // SAFETY: owned; n was checked against both lengths.
        unsafe {
            raw::set_data_off(m, raw::data_off(m) + n as u16);
            raw::set_data_len(m, raw::data_len(m) - n as u16);
            raw::set_pkt_len(m, raw::pkt_len(m) - n as u32);
        }
        true
    }

    /// Cuts the packet to `len` bytes, over segments. False, with nothing changed, if it is shorter than that.
    #[inline]
    #[must_use]
    pub fn trim_to(&mut self, len: u32) -> bool {
        let pkt_len = self.pkt_len();
        if len >= pkt_len {
            return len == pkt_len;
        }
        self.cut(len)
    }

    fn cut(&mut self, len: u32) -> bool {
        let head = self.as_ptr();
        let (mut m, mut before, mut segments) = (head, 0u32, 1u16);
        // SAFETY: the loop walks the owned chain and stops at its end; what is cut off is freed once, after it
        // was unlinked.
        unsafe {
            loop {
                let here = u32::from(raw::data_len(m));
                let next = raw::next(m);
                if before + here >= len || next.is_null() {
                    // A chain that is shorter than its packet length claims ends here, as it is.
                    raw::set_data_len(m, here.min(len - before) as u16);
                    raw::set_next(m, core::ptr::null_mut());
                    raw::set_nb_segs(head, segments);
                    raw::set_pkt_len(head, before + here.min(len - before));
                    if !next.is_null() {
                        sys::weft_mbuf_free(next);
                    }
                    return true;
                }
                before += here;
                segments = segments.saturating_add(1);
                m = next;
            }
        }
    }

    /// Adds bytes behind the last segment's. False, with nothing changed, if they do not fit there or another
    /// packet shares that segment.
    #[must_use]
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        match self.grow(bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }

    /// Grows the packet by `n` bytes behind the last segment's and returns them: they hold whatever was there. `None`,
    /// with nothing changed, if they do not fit there or another packet shares that segment.
    #[inline]
    pub fn grow(&mut self, n: usize) -> Option<&mut [u8]> {
        let head = self.as_ptr();
        // SAFETY: the last segment is part of the owned chain; the new bytes are within its buffer, which nobody
        // else holds, as both were checked. DPDK's memory starts zeroed, so that they have values.
        unsafe {
            // The link to the next segment is in the mbuf's second cache line, which is left alone where it can be.
            let m = if self.nb_segs() == 1 { head } else { last(head) };
            if n > usize::from(tailroom(m)) || !exclusive(m) {
                return None;
            }
            let pkt_len = raw::pkt_len(head).checked_add(n as u32)?;
            let data_len = raw::data_len(m);
            let end = usize::from(raw::data_off(m)) + usize::from(data_len);
            raw::set_data_len(m, data_len + n as u16);
            raw::set_pkt_len(head, pkt_len);
            Some(slice::from_raw_parts_mut(raw::buf_addr(m).add(end), n))
        }
    }

    /// Makes `tail` the end of this packet. False if the chain would be too long; `tail` is freed then.
    #[must_use]
    pub fn chain(&mut self, tail: Mbuf) -> bool {
        let Some(segments) = self.nb_segs().checked_add(tail.nb_segs()) else { return false };
        let Some(pkt_len) = self.pkt_len().checked_add(tail.pkt_len()) else { return false };
        let head = self.as_ptr();
        // SAFETY: both chains are owned, and ownership of the second one goes over to the first.
        unsafe {
            let tail = tail.into_raw();
            raw::set_next(last(head), tail);
            raw::set_nb_segs(head, segments);
            raw::set_pkt_len(head, pkt_len);
            raw::set_pkt_len(tail, raw::data_len(tail).into());
            raw::set_nb_segs(tail, 1);
        }
        true
    }

    /// Gathers the packet in its first segment (`rte_pktmbuf_linearize`). False, with nothing changed, if it does
    /// not fit there or another packet shares that segment.
    #[inline]
    #[must_use]
    pub fn linearize(&mut self) -> bool {
        if self.nb_segs() == 1 {
            return true;
        }
        // SAFETY: owned; the first segment's buffer, which is written to, is nobody else's.
        self.is_exclusive() && unsafe { sys::weft_mbuf_linearize(self.as_ptr()) == 0 }
    }

    /// A deep copy (`rte_pktmbuf_copy`) from the pool that this packet came from, metadata included, with fresh
    /// headroom; in one segment if it fits one, else chained. `None` when that pool is exhausted.
    #[inline]
    pub fn duplicate(&self) -> Option<Mbuf> {
        // SAFETY: owned and live; a pool with a packet on its way is not freed. The source is only read, and the copy
        // is ours alone.
        unsafe { Mbuf::from_raw(sys::rte_pktmbuf_copy(self.as_ptr(), raw::pool(self.as_ptr()), 0, u32::MAX)) }
    }

    #[inline(always)]
    fn flags(&self) -> u64 {
        // SAFETY: owned and live.
        unsafe { raw::ol_flags(self.as_ptr()) }
    }

    /// The device checked the IPv4 header's checksum, and it is right.
    #[inline(always)]
    pub fn ip_checksum_good(&self) -> bool {
        self.flags() & sys::WEFT_MBUF_F_RX_IP_CKSUM_MASK == sys::WEFT_MBUF_F_RX_IP_CKSUM_GOOD
    }

    /// The device checked the IPv4 header's checksum, and it is wrong.
    #[inline(always)]
    pub fn ip_checksum_bad(&self) -> bool {
        self.flags() & sys::WEFT_MBUF_F_RX_IP_CKSUM_MASK == sys::WEFT_MBUF_F_RX_IP_CKSUM_BAD
    }

    /// The device checked the UDP (or TCP) checksum, and it is right.
    #[inline(always)]
    pub fn udp_checksum_good(&self) -> bool {
        self.flags() & sys::WEFT_MBUF_F_RX_L4_CKSUM_MASK == sys::WEFT_MBUF_F_RX_L4_CKSUM_GOOD
    }

    /// The device checked the UDP (or TCP) checksum, and it is wrong.
    #[inline(always)]
    pub fn l4_checksum_bad(&self) -> bool {
        self.flags() & sys::WEFT_MBUF_F_RX_L4_CKSUM_MASK == sys::WEFT_MBUF_F_RX_L4_CKSUM_BAD
    }

    /// The VLAN tag (TCI, host byte order) that the device took out of the frame, if it did. weft does not ask for
    /// that, so that tags mostly stay where they are; some virtual drivers do it all the same.
    #[inline(always)]
    pub fn vlan_stripped(&self) -> Option<u16> {
        // SAFETY: owned and live.
        (self.flags() & sys::WEFT_MBUF_F_RX_VLAN_STRIPPED != 0)
            .then(|| unsafe { raw::vlan_tci(self.as_ptr()) })
    }

    /// Asks the CPU for the first bytes of the data.
    #[inline(always)]
    pub fn prefetch(&self) {
        let m = self.as_ptr();
        // SAFETY: owned and live; the address is only a hint.
        raw::prefetch(unsafe { raw::buf_addr(m).add(raw::data_off(m).into()) }.cast());
    }

    /// Asks the CPU for the line that byte `at` of the data is in.
    #[inline(always)]
    pub fn prefetch_at(&self, at: u16) {
        let m = self.as_ptr();
        // SAFETY: owned and live; the address is only a hint, and not dereferenced.
        raw::prefetch(
            unsafe { raw::buf_addr(m).wrapping_add(raw::data_off(m).into()).wrapping_add(at.into()) }.cast(),
        );
    }

    /// Asks the CPU for the mbuf itself, which [`Mbuf::prefetch`] has to read.
    #[inline(always)]
    pub fn prefetch_header(&self) {
        raw::prefetch(self.as_ptr().cast_const().cast());
    }

    /// Forgets what the receiving device said, so that a transmitting one does not take it for a request. Without a
    /// flag there is none: then lengths and types, some of which lie on the mbuf's other line, stay as they are.
    #[inline(always)]
    pub fn clear_offload(&mut self) {
        let m = self.as_ptr();
        let kept = self.flags() & BORROWED;
        if self.flags() != kept {
            // SAFETY: owned; the flags that say how the buffer is held stay.
            unsafe {
                raw::set_ol_flags(m, kept);
                raw::set_packet_type(m, 0);
                raw::set_tx_offload(m, 0);
            }
        }
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: owned, and never used again.
        unsafe { sys::weft_mbuf_free(self.as_ptr()) }
    }
}

impl core::fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Mbuf({} bytes in {} segments)", self.pkt_len(), self.nb_segs())
    }
}

/// The bytes of each segment of a packet. See [`Mbuf::segments`].
#[derive(Debug, Clone)]
pub struct Segments<'a> {
    next: *mut rte_mbuf,
    packet: PhantomData<&'a Mbuf>,
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.next.is_null() {
            return None;
        }
        let m = self.next;
        // SAFETY: part of a chain whose owner is borrowed for 'a.
        unsafe {
            self.next = raw::next(m);
            Some(segment(m))
        }
    }
}

/// # Safety
/// `m` points to a live mbuf that is not changed during `'a`.
#[inline(always)]
unsafe fn segment<'a>(m: *const rte_mbuf) -> &'a [u8] {
    // SAFETY: data_off + data_len is within the buffer in every valid mbuf. DPDK's memory starts zeroed, so that
    // all its bytes have values.
    unsafe { slice::from_raw_parts(raw::buf_addr(m).add(raw::data_off(m).into()), raw::data_len(m).into()) }
}

/// # Safety
/// `m` points to a live mbuf.
#[inline(always)]
unsafe fn exclusive(m: *const rte_mbuf) -> bool {
    // SAFETY: live. Relaxed is enough to see 1: only a holder can raise the count, and we are the only one then.
    // To see the other holders' last reads done before we write, the load is Acquire, with their Release decrement.
    unsafe { raw::ol_flags(m) & BORROWED == 0 && raw::refcnt(m).load(Ordering::Acquire) == 1 }
}

/// # Safety
/// `m` points to a live mbuf.
#[inline(always)]
unsafe fn tailroom(m: *const rte_mbuf) -> u16 {
    // SAFETY: live. Saturating, so that even an mbuf that a driver broke gives no large number.
    unsafe { raw::buf_len(m).saturating_sub(raw::data_off(m)).saturating_sub(raw::data_len(m)) }
}

/// # Safety
/// `m` points to a live chain.
#[inline]
unsafe fn last(mut m: *mut rte_mbuf) -> *mut rte_mbuf {
    // SAFETY: walks a live chain to its end.
    unsafe {
        while !raw::next(m).is_null() {
            m = raw::next(m);
        }
    }
    m
}
