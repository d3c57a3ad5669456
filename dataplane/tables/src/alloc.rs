//! Allocation that can fail: a table that runs out of memory says so and stays as it was.

use std::{
    alloc::{Layout, alloc},
    io,
    ptr::{self, NonNull},
};

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

/// The size of a huge page: what one entry of a page directory maps on x86-64. Elsewhere it is only the
/// alignment that gives huge pages a chance.
pub(crate) const HUGE_PAGE: usize = 2 << 20;

/// Zeroed memory fresh from the kernel, at a huge page's boundary, in huge pages where the kernel grants
/// them (`/sys/kernel/mm/transparent_hugepage/enabled` says `madvise` or `always`). These are not the
/// reserved ones: those are DPDK's.
///
/// Mapped instead of allocated: an allocator would recycle memory that was used, and so is neither zero nor
/// in huge pages; and what is freed goes back to the system at once.
pub(crate) struct HugePages {
    /// What was mapped: more than was asked for, since the kernel aligns to small pages.
    mapping: NonNull<libc::c_void>,
    mapped: usize,
    start: NonNull<u8>,
}

impl HugePages {
    /// `bytes` of memory, more than none.
    pub(crate) fn try_new(bytes: usize) -> Result<Self, OutOfMemory> {
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

    /// Where the memory begins.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        // SAFETY: mapped by us with this size, and nobody else's.
        let result = unsafe { libc::munmap(self.mapping.as_ptr(), self.mapped) };
        debug_assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }
}
