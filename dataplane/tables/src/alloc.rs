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
