//! Buckets of entries, one cache line each, and the array of them.

use super::{entry::Entry, key::FdbKey};
use crate::alloc::OutOfMemory;

/// Entries in a bucket: four fill a cache line. Fewer under loom, whose work grows with every load.
pub(super) const SLOTS: usize = if cfg!(loom) { 1 } else { 4 };

/// A cache line of entries.
#[derive(Default)]
#[repr(C, align(64))]
pub(super) struct Bucket {
    pub(super) entries: [Entry; SLOTS],
}

impl Bucket {
    /// Bit i is set if entry i may hold the key.
    #[inline]
    pub(super) fn hints(&self, key: FdbKey) -> u32 {
        let mut hints = 0;
        for (i, entry) in self.entries.iter().enumerate() {
            hints |= u32::from(entry.may_hold(key)) << i;
        }
        hints
    }
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Bucket>() == 64 && size_of::<Entry>() == 16);

#[cfg(not(loom))]
pub(super) use array::BucketArray;
#[cfg(not(loom))]
mod array {
    use std::{
        alloc::{Layout, alloc_zeroed, dealloc},
        ptr::NonNull,
    };

    use super::{Bucket, OutOfMemory};

    /// From this size on the array starts at a huge page's boundary, so that the kernel can back it with
    /// huge pages. The gap before it is never touched and so costs address space only.
    const HUGE_PAGE: usize = 2 << 20;

    /// An array of empty buckets that was allocated fallibly.
    ///
    /// Not a `Vec`: zeroed memory that is fresh from the kernel need not be written, which halves what
    /// building a large table costs, and the standard allocator takes that way only for alignments up to
    /// 16. So we ask for a little more and align by hand.
    pub(in crate::fdb) struct BucketArray {
        allocation: NonNull<u8>,
        layout: Layout,
        first: NonNull<Bucket>,
        len: usize,
    }

    // SAFETY: BucketArray owns its buckets like a Box<[Bucket]>, and Bucket consists of atomics.
    unsafe impl Send for BucketArray {}
    // SAFETY: as above.
    unsafe impl Sync for BucketArray {}

    impl BucketArray {
        pub(in crate::fdb) fn try_new(len: usize) -> Result<Self, OutOfMemory> {
            assert!(len > 0);
            let refused = |bytes| OutOfMemory::Allocator { bytes };
            let bytes = len.checked_mul(size_of::<Bucket>()).ok_or(refused(usize::MAX))?;
            let align = if bytes >= HUGE_PAGE { HUGE_PAGE } else { align_of::<Bucket>() };
            let layout = bytes
                .checked_add(align)
                .and_then(|padded| Layout::from_size_align(padded, 16).ok())
                .ok_or(refused(bytes))?;
            // SAFETY: the layout's size is not zero.
            let allocation = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(refused(bytes))?;
            let offset = allocation.as_ptr().align_offset(align);
            // SAFETY: align_offset is below `align` here (pointers to bytes can always be aligned), and the
            // allocation has `align` bytes more than the buckets need.
            let first = unsafe { allocation.add(offset) }.cast::<Bucket>();
            Ok(Self { allocation, layout, first, len })
        }
    }

    impl std::ops::Deref for BucketArray {
        type Target = [Bucket];

        #[inline]
        fn deref(&self) -> &[Bucket] {
            // SAFETY: `first` leads to `len` aligned buckets inside our allocation, which lives as long as
            // self; all-zero bytes are valid AtomicU64s: an invalid entry of version zero.
            unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
        }
    }

    impl Drop for BucketArray {
        fn drop(&mut self) {
            // SAFETY: allocated in try_new with this layout. Buckets have no drop of their own.
            unsafe { dealloc(self.allocation.as_ptr(), self.layout) }
        }
    }
}

/// Under loom atomics are registered objects, not zeroed memory.
#[cfg(loom)]
pub(super) struct BucketArray(Box<[Bucket]>);

#[cfg(loom)]
impl BucketArray {
    pub(super) fn try_new(len: usize) -> Result<Self, OutOfMemory> {
        crate::alloc::try_slice(len, Bucket::default).map(Self)
    }
}

#[cfg(loom)]
impl std::ops::Deref for BucketArray {
    type Target = [Bucket];

    fn deref(&self) -> &[Bucket] {
        &self.0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_aligned_and_empty() {
        for (len, align) in [(1, 64), (3, 64), (1 << 15, 2 << 20), ((1 << 15) + 1, 2 << 20)] {
            let array = BucketArray::try_new(len).unwrap();
            assert_eq!(array.len(), len);
            assert!(array.as_ptr().addr().is_multiple_of(align));
            assert!(array.iter().flat_map(|bucket| &bucket.entries).all(Entry::is_free));
        }
    }

    #[test]
    fn impossible_sizes_are_errors() {
        for len in [usize::MAX, usize::MAX / 64, isize::MAX as usize / 64] {
            assert!(BucketArray::try_new(len).is_err());
        }
    }
}
