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
