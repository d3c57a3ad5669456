//! Field accessors for `struct rte_mbuf`.
//!
//! Newer releases nest the fields in anonymous unions, so bindgen would name them differently from release to
//! release. Offsets have one name in all of them: libclang evaluates them at build time (`shim.h`), and the layout
//! test compares them with what the C compiler says.

use core::ffi::c_void;
use core::sync::atomic::AtomicU16;

use crate::bindings::{self, rte_mbuf, rte_mempool};

/// One accessor pair per plain field: a getter and, where weft changes the field, a setter.
macro_rules! field {
    ($(#[$doc:meta])* $offset:ident: $type:ty, $get:ident $(, $set:ident)?) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// `m` points to a live mbuf that no other thread is writing.
        #[inline(always)]
        pub unsafe fn $get(m: *const rte_mbuf) -> $type {
            // SAFETY: the offset is this field's own in the structure that `m` points to, so the read is in bounds and aligned.
            unsafe { m.byte_add(bindings::$offset as usize).cast::<$type>().read() }
        }
        $(
            /// Writes the field of the same name.
            ///
            /// # Safety
            /// `m` points to a live mbuf that nobody else reads or writes.
            #[inline(always)]
            pub unsafe fn $set(m: *mut rte_mbuf, value: $type) {
                // SAFETY: the offset is this field's own in the structure that `m` points to, so the write is in bounds and aligned.
                unsafe { m.byte_add(bindings::$offset as usize).cast::<$type>().write(value) }
            }
        )?
    };
}

field!(
    /// Start of the buffer that holds headroom, data and tailroom.
    WEFT_MBUF_BUF_ADDR: *mut u8, buf_addr);
field!(
    /// Next segment of the packet, or null.
    WEFT_MBUF_NEXT: *mut rte_mbuf, next, set_next);
field!(
    /// Bytes from the start of the buffer to the data.
    WEFT_MBUF_DATA_OFF: u16, data_off, set_data_off);
field!(
    /// Segments in the packet; meaningful in its first one.
    WEFT_MBUF_NB_SEGS: u16, nb_segs, set_nb_segs);
field!(
    /// Offload flags: how the buffer is held, and what the device said or shall do.
    WEFT_MBUF_OL_FLAGS: u64, ol_flags, set_ol_flags);
field!(
    /// Packet type as the device saw it.
    WEFT_MBUF_PACKET_TYPE: u32, packet_type, set_packet_type);
field!(
    /// Bytes in all segments together; meaningful in the first one.
    WEFT_MBUF_PKT_LEN: u32, pkt_len, set_pkt_len);
field!(
    /// Bytes in this segment.
    WEFT_MBUF_DATA_LEN: u16, data_len, set_data_len);
field!(
    /// VLAN tag that the device took out of the frame, in the CPU's byte order; valid with its flag only.
    WEFT_MBUF_VLAN_TCI: u16, vlan_tci, set_vlan_tci);
field!(
    /// Size of the buffer: headroom + data + tailroom.
    WEFT_MBUF_BUF_LEN: u16, buf_len);
field!(
    /// The pool that the mbuf returns to.
    WEFT_MBUF_POOL: *mut rte_mempool, pool);
field!(
    /// Header lengths for transmit offloads, combined.
    WEFT_MBUF_TX_OFFLOAD: u64, tx_offload, set_tx_offload);

/// Makes an mbuf as its pool keeps it an empty-handed packet of one segment: `data_off` bytes of headroom, `len` bytes of data, no
/// flags and no type. `next` and the offload lengths in the second cache line are left as they are: the one is null in a pool, the
/// others mean nothing without flags.
///
/// # Safety
/// `m` comes from its pool and nobody else has it; the data is within its buffer.
#[inline(always)]
pub unsafe fn renew(m: *mut rte_mbuf, data_off: u16, len: u16) {
    use bindings as b;
    const {
        assert!(
            b::WEFT_MBUF_REFCNT == b::WEFT_MBUF_DATA_OFF + 2
                && b::WEFT_MBUF_NB_SEGS == b::WEFT_MBUF_DATA_OFF + 4
        );
        assert!(
            b::WEFT_MBUF_PORT == b::WEFT_MBUF_DATA_OFF + 6
                && b::WEFT_MBUF_OL_FLAGS == b::WEFT_MBUF_DATA_OFF + 8
        );
        assert!(
            b::WEFT_MBUF_PKT_LEN == b::WEFT_MBUF_PACKET_TYPE + 4
                && b::WEFT_MBUF_DATA_LEN == b::WEFT_MBUF_PACKET_TYPE + 8
        );
        assert!(b::WEFT_MBUF_VLAN_TCI == b::WEFT_MBUF_PACKET_TYPE + 10);
    }
    // Reference count and segments 1, no port.
    let rearm = 0xffff_0001_0001_0000u64.to_le() | u64::from(data_off);
    let len = u64::from(len);
    // SAFETY: the fields named above, one behind the other. Nobody else reads the reference count of an mbuf that comes from its pool.
    unsafe {
        let at = m.byte_add(b::WEFT_MBUF_DATA_OFF as usize).cast::<[u64; 2]>();
        at.write_unaligned([rearm, 0]);
        let at = m.byte_add(b::WEFT_MBUF_PACKET_TYPE as usize).cast::<[u64; 2]>();
        // The last four bytes are the hash of a device that computes one.
        at.write_unaligned([len << 32, len]);
    }
}

/// The reference count. C code changes it atomically, so Rust reads it as an atomic.
///
/// # Safety
/// `m` points to an mbuf that lives for `'a`.
#[inline(always)]
pub unsafe fn refcnt<'a>(m: *const rte_mbuf) -> &'a AtomicU16 {
    // SAFETY: in bounds and aligned as above; every other access to this field, C's too, is atomic.
    unsafe { &*m.byte_add(bindings::WEFT_MBUF_REFCNT as usize).cast::<AtomicU16>() }
}

/// Asks the CPU for the mbuf's data before it is needed. Never faults, whatever the pointer.
#[inline(always)]
pub fn prefetch(address: *const c_void) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it does not access memory in the sense of the language.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks the CPU for a cache line to write to, which other cores then have to give up. Never faults, whatever the pointer.
#[inline(always)]
pub fn prefetch_to_write(address: *const c_void) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint (PREFETCHW), on processors without it no operation at all; it does not access memory in the sense of the language.
    unsafe {
        core::arch::asm!("prefetchw byte ptr [{}]", in(reg) address, options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
