//! The guest's memory, as it is mapped here, and copying to and from it.
//!
//! The guest writes to its memory whenever it likes, also while it is read here. What is decided by is therefore read
//! once, by one load each, and checked after that; what is only carried (frames) may be torn, which harms nobody but the guest.

use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;

use arrayvec::ArrayVec;
use dpdk_sys as sys;

/// Regions that librte_vhost takes (`VHOST_MEMORY_MAX_NREGIONS`).
const MAX_REGIONS: usize = 8;

/// A piece of guest-physical memory that is contiguous here, too.
#[derive(Debug, Clone, Copy)]
struct Region {
    start: u64,
    size: u64,
    host: NonNull<u8>,
}

/// The guest's memory. Addresses are guest-physical, as descriptors have them.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory(ArrayVec<Region, MAX_REGIONS>);

impl Memory {
    /// What the device's front-end has shared (`rte_vhost_get_mem_table`).
    ///
    /// # Safety
    /// The device exists. The result's addresses hold until its memory table changes or it is destroyed.
    pub(super) unsafe fn of(vid: i32) -> Self {
        let mut table: *mut sys::rte_vhost_memory = core::ptr::null_mut();
        // SAFETY: the device exists; the call makes a copy with malloc, which becomes ours.
        if unsafe { sys::rte_vhost_get_mem_table(vid, &mut table) } != 0 || table.is_null() {
            return Self::default();
        }
        // SAFETY: the copy has as many regions as it says.
        let memory = unsafe {
            let n = (*table).nregions as usize;
            let regions = core::slice::from_raw_parts(
                (&raw const (*table).regions).cast::<sys::rte_vhost_mem_region>(),
                n,
            );
            Self::new(regions.iter().map(|r| (r.guest_phys_addr, r.size, r.host_user_addr as *mut u8)))
        };
        // SAFETY: from malloc, and not used again.
        unsafe { libc::free(table.cast()) };
        memory
    }

    /// Regions as (guest-physical address, bytes, address here). What is too much is left out: descriptors there are refused.
    pub(super) fn new(regions: impl Iterator<Item = (u64, u64, *mut u8)>) -> Self {
        let usable = regions.filter_map(|(start, size, host)| {
            start.checked_add(size)?;
            Some(Region { start, size, host: NonNull::new(host)? })
        });
        Self(usable.take(MAX_REGIONS).collect())
    }

    /// Whether `len` bytes at `place`, an address here, are in one region.
    pub(super) fn holds(&self, place: NonNull<u8>, len: usize) -> bool {
        self.0.iter().any(|r| {
            let offset = place.addr().get().wrapping_sub(r.host.addr().get()) as u64;
            offset < r.size && len as u64 <= r.size - offset
        })
    }

    /// Where `len` bytes from `address` on are, if all of them are in one region.
    #[inline(always)]
    pub(super) fn at(&self, address: u64, len: u32) -> Option<NonNull<u8>> {
        let (at, left) = self.piece(address)?;
        (u64::from(len) <= left).then_some(at)
    }

    /// Where the byte at `address` is, and how many follow in its region, itself included.
    #[inline(always)]
    pub(super) fn piece(&self, address: u64) -> Option<(NonNull<u8>, u64)> {
        for r in &self.0 {
            let offset = address.wrapping_sub(r.start);
            if offset < r.size {
                // SAFETY: within the region.
                return Some((unsafe { r.host.add(offset as usize) }, r.size - offset));
            }
        }
        None
    }
}

/// Copies between the guest's memory and ours: frames mostly have one of a few sizes, for which a call of memcpy takes
/// longer than the copying.
///
/// # Safety
/// `len` bytes are readable at `from` and writable at `to`, and the two do not overlap.
#[inline(always)]
pub(super) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    /// `N` bytes at the beginning and `N` at the end, which overlap in between.
    #[inline(always)]
    unsafe fn ends<const N: usize>(from: *const u8, to: *mut u8, len: usize) {
        let (head, tail) = (from.cast::<MaybeUninit<[u8; N]>>(), len - N);
        // SAFETY: the caller's promise, and N <= len. Any bytes are valid for the type.
        unsafe {
            let (a, b) =
                (head.read_unaligned(), from.add(tail).cast::<MaybeUninit<[u8; N]>>().read_unaligned());
            to.cast::<MaybeUninit<[u8; N]>>().write_unaligned(a);
            to.add(tail).cast::<MaybeUninit<[u8; N]>>().write_unaligned(b);
        }
    }
    // SAFETY: the caller's promise; each length is at least N.
    unsafe {
        match len {
            33..=64 => ends::<32>(from, to, len),
            65..=128 => ends::<64>(from, to, len),
            16..=32 => ends::<16>(from, to, len),
            _ => core::ptr::copy_nonoverlapping(from, to, len),
        }
    }
}

/// A descriptor (section 2.7.5): 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Desc {
    /// Guest-physical address of the buffer.
    pub(super) address: u64,
    /// Bytes in the buffer.
    pub(super) len: u32,
    flags: u16,
    /// The chain's next descriptor.
    pub(super) next: u16,
}

const NEXT: u16 = 1;
const INDIRECT: u16 = 4;

impl Desc {
    fn from_words(address: u64, rest: u64) -> Self {
        Self { address, len: rest as u32, flags: (rest >> 32) as u16, next: (rest >> 48) as u16 }
    }

    /// Reads a descriptor in a table that is aligned, as the ring's own is.
    ///
    /// # Safety
    /// 16 bytes at `at` can be read, which is aligned to 16.
    #[inline(always)]
    pub(super) unsafe fn load(at: NonNull<u64>) -> Self {
        // SAFETY: the caller's promise. Atomics, as the guest may write there now.
        let words = unsafe { core::slice::from_raw_parts(at.as_ptr().cast::<AtomicU64>(), 2) };
        let [a, b] = [&words[0], &words[1]].map(|w| w.load(core::sync::atomic::Ordering::Relaxed));
        Self::from_words(a, b)
    }

    /// Reads a descriptor of a table that may lie anywhere in the guest's memory, not aligned, over the border of regions.
    pub(super) fn find(memory: &Memory, address: u64) -> Option<Self> {
        let mut bytes = [0u8; 16];
        for (i, byte) in bytes.iter_mut().enumerate() {
            let (at, _) = memory.piece(address.checked_add(i as u64)?)?;
            // SAFETY: a byte of the guest's memory. Volatile: it is read once, as the guest may write there now.
            *byte = unsafe { at.as_ptr().read_volatile() };
        }
        let [a0, a1, a2, a3, a4, a5, a6, a7, rest @ ..] = bytes;
        Some(Self::from_words(u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]), u64::from_le_bytes(rest)))
    }

    /// Whether it is a buffer by itself: no further ones in the chain, no table of descriptors.
    #[inline(always)]
    pub(super) fn is_simple(&self) -> bool {
        self.flags & (NEXT | INDIRECT) == 0
    }

    pub(super) fn has_next(&self) -> bool {
        self.flags & NEXT != 0
    }

    pub(super) fn is_indirect(&self) -> bool {
        self.flags & INDIRECT != 0
    }
}
