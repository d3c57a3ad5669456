//! Buckets of entries, one cache line each, and the array of them.

use super::entry::Entry;
use crate::alloc::OutOfMemory;

/// Entries in a bucket: four fill a cache line. Fewer under loom, whose work grows with every load.
pub(super) const SLOTS: usize = if cfg!(loom) { 1 } else { 4 };

/// A cache line of entries.
#[derive(Default)]
#[repr(C, align(64))]
pub(super) struct Bucket {
    pub(super) entries: [Entry; SLOTS],
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
    use crate::alloc::{HUGE_PAGE, HugePages};

    /// An array of empty buckets that was allocated fallibly.
    ///
    /// Not a `Vec`: memory that is fresh from the kernel is zero and need not be written, which halves what
    /// building a large table costs; and a large array is to lie in huge pages, since nearly every access
    /// to one goes to another page.
    pub(in crate::fdb) struct BucketArray {
        first: NonNull<Bucket>,
        len: usize,
        memory: Memory,
    }

    /// What is to be freed.
    enum Memory {
        Heap(NonNull<u8>, Layout),
        Mapped(#[expect(dead_code, reason = "unmaps when it is dropped")] HugePages),
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
            // Miri knows no huge pages.
            if bytes >= HUGE_PAGE && !cfg!(miri) {
                let pages = HugePages::try_new(bytes)?;
                return Ok(Self { first: pages.start().cast(), len, memory: Memory::Mapped(pages) });
            }
            let layout = Layout::from_size_align(bytes, align_of::<Bucket>()).map_err(|_| refused(bytes))?;
            // SAFETY: the layout's size is not zero.
            let allocation = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(refused(bytes))?;
            Ok(Self { first: allocation.cast(), len, memory: Memory::Heap(allocation, layout) })
        }
    }

    impl std::ops::Deref for BucketArray {
        type Target = [Bucket];

        #[inline]
        fn deref(&self) -> &[Bucket] {
            // SAFETY: `first` leads to `len` aligned buckets inside our memory, which lives as long as
            // self; all-zero bytes are valid AtomicU64s: an invalid entry of version zero.
            unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
        }
    }

    impl Drop for BucketArray {
        fn drop(&mut self) {
            if let Memory::Heap(allocation, layout) = self.memory {
                // SAFETY: allocated in try_new with this layout. Buckets have no drop of their own.
                unsafe { dealloc(allocation.as_ptr(), layout) }
            }
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
        for len in [usize::MAX, usize::MAX / 64, isize::MAX as usize / 64, 1 << 41] {
            assert!(BucketArray::try_new(len).is_err());
        }
    }
}
