//! Allocation that can fail: a table that runs out of memory says so and stays as it was.

use std::alloc::{Layout, alloc};

/// There was no memory for a change; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutOfMemory {
    /// The allocator refused.
    #[error("out of memory: {bytes} bytes for the forwarding table could not be allocated")]
    Allocator {
        /// What was asked for.
        bytes: usize,
    },
    /// Too much memory already waits for readers to pass a quiescent state; see
    /// [`FdbConfig::retired_limit`](crate::fdb::FdbConfig::retired_limit).
    #[error(
        "{waiting} bytes of replaced tables still wait for a worker to report a quiescent state \
         (limit {limit}): look for a stalled worker"
    )]
    Backlog {
        /// Bytes that wait.
        waiting: usize,
        /// The limit they exceed.
        limit: usize,
    },
}

/// `Box::new` that reports failure.
pub(crate) fn try_box<T>(value: T) -> Result<Box<T>, OutOfMemory> {
    let layout = Layout::new::<T>();
    if layout.size() == 0 {
        return Ok(Box::new(value));
    }
    // SAFETY: the layout's size is not zero.
    let place = unsafe { alloc(layout) }.cast::<T>();
    if place.is_null() {
        return Err(OutOfMemory::Allocator { bytes: layout.size() });
    }
    // SAFETY: `place` is fresh, aligned and large enough for a T, and comes from the global allocator
    // with T's layout, which is what Box frees it with.
    unsafe {
        place.write(value);
        Ok(Box::from_raw(place))
    }
}

/// A boxed slice of `count` values made by `make`, or an error.
pub(crate) fn try_slice<T>(count: usize, make: impl FnMut() -> T) -> Result<Box<[T]>, OutOfMemory> {
    let mut items = Vec::new();
    items
        .try_reserve_exact(count)
        .map_err(|_| OutOfMemory::Allocator { bytes: count.saturating_mul(size_of::<T>()) })?;
    items.resize_with(count, make);
    Ok(items.into_boxed_slice())
}

/// A type whose `default` is all zero bytes.
///
/// # Safety
/// All-zero bytes are a valid value, equal to `default()`; and values need no drop.
pub(crate) unsafe trait ZeroIsDefault: Default + Sync {}

// SAFETY: zero is what an atomic defaults to.
unsafe impl ZeroIsDefault for crate::sync::AtomicU8 {}

#[cfg(not(loom))]
pub(crate) use zeroed::ZeroedArray;
#[cfg(not(loom))]
mod zeroed {
    use std::{
        alloc::{Layout, alloc_zeroed, dealloc},
        ptr::{self, NonNull},
    };

    use super::{OutOfMemory, ZeroIsDefault};

    /// An array of default values that was allocated fallibly.
    ///
    /// Not a `Vec`: memory that is fresh from the kernel is zero and need not be written, which halves what
    /// building a large table costs; and a large array is to lie in huge pages, since nearly every access
    /// to one goes to another page.
    pub(crate) struct ZeroedArray<T> {
        first: NonNull<T>,
        len: usize,
        memory: Memory,
    }

    /// What is to be freed.
    enum Memory {
        Heap(NonNull<u8>, Layout),
        Mapped(#[expect(dead_code, reason = "unmaps when it is dropped")] HugePages),
    }

    // SAFETY: a ZeroedArray owns its values like a Box<[T]>.
    unsafe impl<T: Send> Send for ZeroedArray<T> {}
    // SAFETY: as above.
    unsafe impl<T: Sync> Sync for ZeroedArray<T> {}

    impl<T: ZeroIsDefault> ZeroedArray<T> {
        /// `len` values, more than none.
        pub(crate) fn try_new(len: usize) -> Result<Self, OutOfMemory> {
            assert!(len > 0 && size_of::<T>() > 0);
            let refused = |bytes| OutOfMemory::Allocator { bytes };
            let bytes = len.checked_mul(size_of::<T>()).ok_or(refused(usize::MAX))?;
            // Miri knows no huge pages.
            if bytes >= HUGE_PAGE && !cfg!(miri) {
                let pages = HugePages::try_new(bytes)?;
                return Ok(Self { first: pages.start.cast(), len, memory: Memory::Mapped(pages) });
            }
            let layout = Layout::from_size_align(bytes, align_of::<T>()).map_err(|_| refused(bytes))?;
            // SAFETY: the layout's size is not zero.
            let allocation = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(refused(bytes))?;
            Ok(Self { first: allocation.cast(), len, memory: Memory::Heap(allocation, layout) })
        }
    }

    impl<T> std::ops::Deref for ZeroedArray<T> {
        type Target = [T];

        #[inline]
        fn deref(&self) -> &[T] {
            // SAFETY: `first` leads to `len` aligned values inside our memory, which lives as long as
            // self; all-zero bytes are valid ones (`ZeroIsDefault`).
            unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
        }
    }

    impl<T> Drop for ZeroedArray<T> {
        fn drop(&mut self) {
            if let Memory::Heap(allocation, layout) = self.memory {
                // SAFETY: allocated in try_new with this layout. The values have no drop of their own.
                unsafe { dealloc(allocation.as_ptr(), layout) }
            }
        }
    }

    /// The size of a huge page: what one entry of a page directory maps on x86-64. Elsewhere it is only the
    /// alignment that gives huge pages a chance.
    pub(super) const HUGE_PAGE: usize = 2 << 20;

    /// Zeroed memory fresh from the kernel, at a huge page's boundary, in huge pages where the kernel grants
    /// them (`/sys/kernel/mm/transparent_hugepage/enabled` says `madvise` or `always`). These are not the
    /// reserved ones: those are DPDK's.
    ///
    /// Mapped instead of allocated: an allocator would recycle memory that was used, and so is neither zero nor
    /// in huge pages; and what is freed goes back to the system at once.
    struct HugePages {
        /// What was mapped: more than was asked for, since the kernel aligns to small pages.
        mapping: NonNull<libc::c_void>,
        mapped: usize,
        start: NonNull<u8>,
    }

    impl HugePages {
        /// `bytes` of memory, more than none.
        fn try_new(bytes: usize) -> Result<Self, OutOfMemory> {
            let refused = OutOfMemory::Allocator { bytes };
            let mapped = bytes.checked_next_multiple_of(HUGE_PAGE).and_then(|b| b.checked_add(HUGE_PAGE));
            let mapped = mapped.ok_or(refused)?;
            // SAFETY: a new private mapping, somewhere; it touches no memory of ours.
            let mapping = unsafe {
                libc::mmap(
                    ptr::null_mut(),
                    mapped,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                )
            };
            if mapping == libc::MAP_FAILED {
                return Err(refused);
            }
            let mapping = NonNull::new(mapping).ok_or(refused)?;
            let offset = mapping.cast::<u8>().as_ptr().align_offset(HUGE_PAGE);
            // SAFETY: the offset is below HUGE_PAGE, and the mapping that much larger than `bytes`.
            let start = unsafe { mapping.cast::<u8>().add(offset) };
            // SAFETY: our own mapping; the advice changes nothing but pages' sizes. If it is refused (a kernel
            // without huge pages) the memory is as good, only slower.
            unsafe { libc::madvise(start.as_ptr().cast(), mapped - HUGE_PAGE, libc::MADV_HUGEPAGE) };
            Ok(Self { mapping, mapped, start })
        }
    }

    impl Drop for HugePages {
        fn drop(&mut self) {
            // SAFETY: mapped by us with this size, and nobody else's.
            let result = unsafe { libc::munmap(self.mapping.as_ptr(), self.mapped) };
            debug_assert_eq!(result, 0);
        }
    }
}

/// Under loom atomics are registered objects, not zeroed memory.
#[cfg(loom)]
pub(crate) struct ZeroedArray<T>(Box<[T]>);

#[cfg(loom)]
impl<T: ZeroIsDefault> ZeroedArray<T> {
    pub(crate) fn try_new(len: usize) -> Result<Self, OutOfMemory> {
        try_slice(len, T::default).map(Self)
    }
}

#[cfg(loom)]
impl<T> std::ops::Deref for ZeroedArray<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{zeroed::HUGE_PAGE, *};
    use crate::sync::{AtomicU8, Ordering};

    #[repr(align(64))]
    struct Line([AtomicU8; 64]);

    impl Default for Line {
        fn default() -> Self {
            Self([const { AtomicU8::new(0) }; 64])
        }
    }

    // SAFETY: zero is what atomics default to.
    unsafe impl ZeroIsDefault for Line {}

    #[test]
    fn arrays_are_aligned_and_zero() {
        for (len, align) in [(1, 64), (3, 64), (1 << 15, HUGE_PAGE), ((1 << 15) + 1, HUGE_PAGE)] {
            let array = ZeroedArray::<Line>::try_new(len).unwrap();
            assert_eq!(array.len(), len);
            assert!(cfg!(miri) || array.as_ptr().addr().is_multiple_of(align));
            for byte in array.iter().flat_map(|line| &line.0) {
                assert_eq!(byte.swap(0xff, Ordering::Relaxed), 0);
            }
        }
    }

    #[test]
    fn impossible_sizes_are_errors() {
        for len in [usize::MAX, usize::MAX / 64, isize::MAX as usize / 64, 1 << 41] {
            assert!(ZeroedArray::<Line>::try_new(len).is_err());
        }
    }
}
