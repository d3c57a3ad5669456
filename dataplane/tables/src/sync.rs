//! The primitives the protocols are built from: `std`'s, or the model checker's under `cfg(loom)`.
//!
//! Only what takes part in a protocol is switched. Reference counts stay `std::sync::Arc` (loom's has no
//! `self: &Arc<Self>` receivers), so loom does not see the ordering that the last drop of an `Arc`
//! gives; the loom tests join their threads before they let go of a table, which loom does see.
//!
//! What loom does not model: `SeqCst` on single accesses (it treats them as acquire-release; the
//! protocols here use only `SeqCst` *fences*, which it does model), the clock, and load buffering.

use std::time::{Duration, Instant};

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicPtr, AtomicU8, AtomicU16, AtomicU64, Ordering, fence},
};

#[cfg(loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicPtr, AtomicU8, AtomicU16, AtomicU64, Ordering, fence},
};

/// Takes a lock of the control side. A panic under it leaves nothing half done (every critical section
/// here ends in plain stores), so a poisoned lock is simply taken.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    }
}

/// A point in time after which waiting ends. Under loom time stands still, so it never comes.
pub(crate) struct Deadline {
    started: Instant,
    timeout: Duration,
}

impl Deadline {
    pub(crate) fn after(timeout: Duration) -> Self {
        Self { started: Instant::now(), timeout }
    }

    pub(crate) fn waited(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn left(&self) -> Duration {
        if cfg!(loom) { self.timeout } else { self.timeout.saturating_sub(self.waited()) }
    }
}

/// Lets others run for about `duration`; under loom, for one step.
pub(crate) fn pause(duration: Duration) {
    #[cfg(not(loom))]
    std::thread::sleep(duration);
    #[cfg(loom)]
    {
        let _ = duration;
        loom::thread::yield_now();
    }
}

/// A value on cache lines of its own. 128 bytes: the adjacent-line prefetcher pulls lines in pairs, so
/// 64 would still let two owners disturb each other.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct CachePadded<T>(pub(crate) T);

impl<T> std::ops::Deref for CachePadded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
