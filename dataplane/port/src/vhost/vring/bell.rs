//! When to interrupt the guest (Virtual I/O Device specification 1.2, sections 2.7.7 and 2.7.10).
//!
//! The guest says in its memory whether it wants to be interrupted. It may come to want it at the very moment at which the
//! device looks, and then the device has to see that, or the guest has to see what was used: a store (of the used index) and
//! a load (of the guest's wish) that must not change places, which takes a full barrier. A full barrier waits for all that was
//! written before, that is for every line of the burst to come over from the guest's core, and it would do so in every burst.
//!
//! So the wish is looked at without the barrier. If the guest wants an interrupt, it gets one: that can only be too early, which
//! is harmless. If not, the bell is *owed* a second look: with every further burst (by then the earlier stores are long out),
//! and with a barrier as soon as the queue has a round without packets. A guest that wants to be interrupted thus waits for a
//! round of the worker more, in the worst case, and a guest that polls costs no barrier while packets flow.

use core::sync::atomic::{AtomicU16, Ordering, fence};

/// The guest's flag that it polls.
const NO_INTERRUPT: u16 = 1;

/// Most entries that a ring can have.
const LONGEST: u16 = 0x8000;

/// The interrupt of one ring.
#[derive(Debug)]
pub(super) struct Bell {
    /// eventfd, or negative for none: the guest polls.
    fd: i32,
    /// Notification by index was negotiated (`VIRTIO_F_EVENT_IDX`).
    by_index: bool,
    /// The used index up to which the guest was told, or need not be; unknown at first.
    told: Option<u16>,
    owed: bool,
}

impl Bell {
    pub(super) fn new(fd: i32, by_index: bool) -> Self {
        Self { fd, by_index, told: None, owed: false }
    }

    /// After `used` was published. `flags` and `event` are the guest's words.
    #[inline(always)]
    pub(super) fn published(&mut self, used: u16, flags: &AtomicU16, event: &AtomicU16) {
        if self.wanted(used, flags, event) {
            self.ring(used);
        } else {
            self.owed = true;
            // In 16 bits, what is long past looks like what is to come. A guest never waits for what is further back than a
            // ring is long.
            self.told = self.told.map(|told| {
                if used.wrapping_sub(told) > LONGEST { used.wrapping_sub(LONGEST) } else { told }
            });
        }
    }

    #[inline(always)]
    pub(super) fn is_owed(&self) -> bool {
        self.owed
    }

    /// The second look.
    pub(super) fn settle(&mut self, used: u16, flags: &AtomicU16, event: &AtomicU16) {
        if !self.owed {
            return;
        }
        // Pairs with the barrier that the driver has between writing its wish and looking at the used index once more.
        fence(Ordering::SeqCst);
        if self.wanted(used, flags, event) {
            self.ring(used);
        } else {
            self.told = Some(used);
            self.owed = false;
        }
    }

    #[inline(always)]
    fn wanted(&self, used: u16, flags: &AtomicU16, event: &AtomicU16) -> bool {
        // Relaxed: what is ordered, and how, is told at the head of this file.
        if !self.by_index {
            return flags.load(Ordering::Relaxed) & NO_INTERRUPT == 0;
        }
        let Some(told) = self.told else { return true };
        // The index that the guest waits for is among the new ones; all modulo 2^16 (section 2.7.10.1).
        used.wrapping_sub(event.load(Ordering::Relaxed)).wrapping_sub(1) < used.wrapping_sub(told)
    }

    #[cold]
    fn ring(&mut self, used: u16) {
        self.told = Some(used);
        self.owed = false;
        if self.fd >= 0 {
            // SAFETY: an eventfd that librte_vhost keeps open as long as this ring's description holds. It does not block, or
            // nearly never: it would take 2^64 - 1 interrupts that nobody fetched.
            unsafe { libc::eventfd_write(self.fd, 1) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event_fd() -> i32 {
        // SAFETY: plain numbers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK) };
        assert!(fd >= 0);
        fd
    }

    /// Interrupts since it was asked before.
    fn rung(fd: i32) -> u64 {
        let mut n = 0;
        // SAFETY: an eventfd, and room for its value.
        if unsafe { libc::eventfd_read(fd, &mut n) } == 0 { n } else { 0 }
    }

    #[test]
    fn by_flag_the_guest_is_told_unless_it_polls() {
        let (fd, flags, event) = (event_fd(), AtomicU16::new(0), AtomicU16::new(0));
        let mut bell = Bell::new(fd, false);
        bell.published(1, &flags, &event);
        assert_eq!((rung(fd), bell.is_owed()), (1, false));
        flags.store(NO_INTERRUPT, Ordering::Relaxed);
        bell.published(2, &flags, &event);
        assert_eq!((rung(fd), bell.is_owed()), (0, true));
        bell.settle(2, &flags, &event);
        assert_eq!((rung(fd), bell.is_owed()), (0, false));
    }

    #[test]
    fn a_wish_that_came_late_is_seen_at_the_second_look() {
        let (fd, flags, event) = (event_fd(), AtomicU16::new(NO_INTERRUPT), AtomicU16::new(0));
        let mut bell = Bell::new(fd, false);
        bell.published(1, &flags, &event);
        flags.store(0, Ordering::Relaxed);
        bell.settle(1, &flags, &event);
        assert_eq!((rung(fd), bell.is_owed()), (1, false));
        bell.settle(1, &flags, &event);
        assert_eq!(rung(fd), 0, "told once");
    }

    #[test]
    fn a_guest_that_polled_for_long_is_told_when_it_comes_to_wait() {
        for polled in [100u32, 40_000, 65_530, 65_536, 65_540, 200_000] {
            let (fd, flags, event) = (event_fd(), AtomicU16::new(0), AtomicU16::new(0));
            let mut bell = Bell::new(fd, true);
            bell.published(1, &flags, &event);
            assert_eq!(rung(fd), 1);
            let mut used = 1u16;
            for _ in 0..polled / 10 {
                // It polls: its index is ahead of all that is used.
                event.store(used.wrapping_add(5000), Ordering::Relaxed);
                used = used.wrapping_add(10);
                bell.published(used, &flags, &event);
            }
            assert_eq!(rung(fd), 0);
            event.store(used, Ordering::Relaxed);
            bell.published(used.wrapping_add(32), &flags, &event);
            assert_eq!(rung(fd), 1, "after {polled}");
        }
    }

    #[test]
    fn by_index_the_guest_is_told_when_its_index_is_passed() {
        for start in [0u16, 65_530] {
            let (fd, flags, event) = (event_fd(), AtomicU16::new(0), AtomicU16::new(start));
            let at = |n: u16| start.wrapping_add(n);
            let mut bell = Bell::new(fd, true);
            bell.published(at(1), &flags, &event);
            assert_eq!(rung(fd), 1, "the first time it is not known what it was told");
            event.store(at(10), Ordering::Relaxed);
            bell.published(at(5), &flags, &event);
            bell.published(at(10), &flags, &event);
            assert_eq!(rung(fd), 0, "it waits for entry 10, which is not used yet");
            bell.published(at(12), &flags, &event);
            assert_eq!(rung(fd), 1);
            // It moves its index back over what was published while nobody looked with a barrier.
            bell.published(at(14), &flags, &event);
            bell.published(at(16), &flags, &event);
            event.store(at(13), Ordering::Relaxed);
            bell.settle(at(16), &flags, &event);
            assert_eq!(rung(fd), 1);
            event.store(at(13), Ordering::Relaxed);
            bell.settle(at(16), &flags, &event);
            assert_eq!(rung(fd), 0);
        }
    }
}
