//! Who is inside a call with a device's id: the handshake between queue owners and `destroy_device`.
//!
//! ```text
//! queue owner                          destroy_device
//! slot = 1                             id = -1
//! light barrier                        heavy barrier
//! read id; use it                      wait until slot == 0
//! slot = 0 (Release)                   (Acquire) free the device
//! ```
//!
//! This is Dekker's pattern: with a store-load barrier on both sides, either the owner reads -1 or the waiter reads
//! 1, never neither. The owner's side runs at every burst, the other almost never, so the cost is moved there:
//! `membarrier(PRIVATE_EXPEDITED)` makes every running thread of the process execute a full barrier, and the light
//! barrier only keeps the compiler from reordering. Where the kernel lacks membarrier, both are fences.
//!
//! The tests below fail at once without the wait. They cannot prove the barriers: on x86 the window is a few
//! nanoseconds, and no model checker for Rust knows membarrier. Those rest on the argument above.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering, compiler_fence, fence};
use std::time::Duration;

/// One word for each queue, each on cache lines of its own: written by the queue's owner at every burst.
#[derive(Debug)]
pub(super) struct Presence {
    slots: Box<[Slot]>,
    expedited: bool,
}

/// Two lines, as CPUs prefetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Slot(AtomicU32);

/// Inside until dropped.
pub(super) struct Inside<'a>(&'a AtomicU32);

impl Presence {
    pub(super) fn new(slots: usize) -> Self {
        Self { slots: (0..slots).map(|_| Slot::default()).collect(), expedited: expedited() }
    }

    /// Announces a call. Read the device's id after this, not before. A slot has one user at a time.
    #[inline(always)]
    pub(super) fn enter(&self, slot: usize) -> Inside<'_> {
        let slot = &self.slots[slot].0;
        // Relaxed: ordered before the read of the id by the barrier that follows.
        slot.store(1, Ordering::Relaxed);
        if self.expedited {
            compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
        Inside(slot)
    }

    /// Returns when in none of these slots a call is under way that may have read an id which the caller took away before. Calls are
    /// short (one burst), but their thread may have been scheduled out.
    pub(super) fn wait_for(&self, slots: Range<usize>) {
        if self.expedited {
            membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED);
        }
        fence(Ordering::SeqCst);
        for slot in &self.slots[slots] {
            let mut rounds = 0u32;
            // Acquire: pairs with the Release in `Inside::drop`; what the call did is done before the device goes.
            while slot.0.load(Ordering::Acquire) != 0 {
                rounds = rounds.saturating_add(1);
                if rounds < 100 {
                    std::hint::spin_loop()
                } else {
                    std::thread::sleep(Duration::from_micros(20))
                }
            }
        }
    }
}

impl Drop for Inside<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `Presence::wait_for`.
        self.0.store(0, Ordering::Release);
    }
}

/// True when the process may use expedited barriers. Registers for them once; threads made later are included.
fn expedited() -> bool {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    *REGISTERED.get_or_init(|| {
        membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
            && membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
    })
}

fn membarrier(command: libc::c_int) -> bool {
    // SAFETY: the call takes three numbers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64};

    use super::*;

    /// A device of which the waiter "frees" one after another, while owners look for freed ones in their hands.
    fn no_call_outlives_the_wait(expedited: bool) {
        let presence = Presence { expedited, ..Presence::new(2) };
        let id = AtomicI32::new(-1);
        let freed = [const { AtomicBool::new(true) }; 64];
        let stop = AtomicBool::new(false);
        let used = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for slot in 0..2 {
                let (presence, id, freed, stop, used) = (&presence, &id, &freed, &stop, &used);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let _inside = presence.enter(slot);
                        let id = id.load(Ordering::Acquire);
                        if id >= 0 {
                            for _ in 0..20 {
                                let freed = freed[id as usize].load(Ordering::Relaxed);
                                if freed {
                                    stop.store(true, Ordering::Relaxed);
                                }
                                assert!(!freed, "in use after it was freed");
                            }
                            used.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            let start = std::time::Instant::now();
            let mut turn = 0usize;
            while !stop.load(Ordering::Relaxed)
                && (used.load(Ordering::Relaxed) < 2000 || start.elapsed() < Duration::from_millis(300))
                && start.elapsed() < Duration::from_secs(20)
            {
                let device = turn % freed.len();
                freed[device].store(false, Ordering::Relaxed);
                id.store(device as i32, Ordering::Release);
                for _ in 0..turn % 50 {
                    std::hint::spin_loop();
                }
                id.store(-1, Ordering::SeqCst);
                presence.wait_for(0..2);
                freed[device].store(true, Ordering::Relaxed);
                turn += 1;
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(used.load(Ordering::Relaxed) >= 2000, "the owners hardly ran");
    }

    #[test]
    fn no_call_outlives_the_wait_with_membarrier() {
        if expedited() {
            no_call_outlives_the_wait(true);
        } else {
            eprintln!("this kernel has no membarrier: not tested");
        }
    }

    #[test]
    fn no_call_outlives_the_wait_with_fences() {
        no_call_outlives_the_wait(false);
    }
}
