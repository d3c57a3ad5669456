//! What a worker does when there is nothing to do.
//!
//! It spins for a while, since most gaps are short, and then sleeps ever longer up to [`LONGEST`]. The longest sleep is
//! what a full-rate burst after silence has to wait in the sender's ring: at 10 million packets a second 50 us are 500
//! descriptors, less than a NIC queue holds, so that waking up costs latency but no packet. A worker under load never
//! gets here. It is offline while it sleeps, so that nobody waits for it.

use crossbeam::utils::CachePadded;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use weft_tables::qsbr::Reader;

/// Silence until the first sleep, in microseconds.
const SPIN_US: u64 = 200;
/// Silence until sleeps are the longest, in microseconds.
const DEEP_US: u64 = 100_000;
/// First sleep.
const SHORTEST: Duration = Duration::from_micros(5);
/// Longest sleep.
const LONGEST: Duration = Duration::from_micros(50);

/// What to do without work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleMode {
    /// Poll on: lowest latency, the core is always busy.
    Poll,
    /// Sleep ever longer.
    Backoff,
}

pub(super) struct Idler {
    mode: IdleMode,
    /// TSC when silence began; 0 while there is work.
    since: u64,
    per_us: u64,
    asleep: Arc<CachePadded<AtomicBool>>,
    shown: bool,
}

impl Idler {
    pub fn new(mode: IdleMode, asleep: Arc<CachePadded<AtomicBool>>) -> Self {
        Self { mode, since: 0, per_us: (weft_port::tsc_hz() / 1_000_000).max(1), asleep, shown: false }
    }

    /// There was work.
    #[inline]
    pub fn busy(&mut self) {
        self.since = 0;
        if self.shown {
            self.show(false);
        }
    }

    /// There was none. Returns whether it slept.
    #[inline]
    pub fn idle(&mut self, reader: &mut Reader, now: u64) -> bool {
        if self.mode == IdleMode::Poll {
            return false;
        }
        if self.since == 0 {
            self.since = now;
        }
        let silent = now.wrapping_sub(self.since) / self.per_us;
        if silent < SPIN_US {
            std::hint::spin_loop();
            return false;
        }
        if !self.shown {
            self.show(true);
        }
        reader.offline();
        std::thread::sleep(if silent < DEEP_US { SHORTEST } else { LONGEST });
        reader.online();
        true
    }

    fn show(&mut self, asleep: bool) {
        self.shown = asleep;
        // Relaxed: a hint for people.
        self.asleep.store(asleep, Ordering::Relaxed);
    }
}
