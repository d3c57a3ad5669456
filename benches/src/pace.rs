//! When to send how many frames to keep a rate.

/// Largest number of frames at once.
const MAX_BURST: u64 = 32;
/// Frames are sent once this many seconds' worth are due: short, so that the switch sees no bursts that are not the
/// rate's own.
const GRAIN: f64 = 2e-6;
/// Frames that are due for longer than this many seconds were held up by the generator itself. They are not sent: that
/// would be a burst, and its latency would not be the switch's.
const PATIENCE: f64 = 100e-6;

/// Deals out the frames of a constant rate.
#[derive(Clone, Debug)]
pub struct Pacer {
    frames_per_tick: f64,
    burst: u64,
    most: u64,
    start: u64,
    /// Frames dealt out or given up since the start.
    done: u64,
    late: u64,
}

impl Pacer {
    /// `rate` in frames a second, by a clock of `hz` ticks a second.
    pub fn new(rate: f64, hz: u64) -> Self {
        let burst = ((rate * GRAIN) as u64).clamp(1, MAX_BURST);
        let most = ((rate * PATIENCE) as u64).max(2 * MAX_BURST);
        Self { frames_per_tick: rate / hz as f64, burst, most, start: 0, done: 0, late: 0 }
    }

    /// Begins at the time `now`, with nothing due yet.
    pub fn restart(&mut self, now: u64) {
        *self = Self { start: now, done: 0, late: 0, ..*self };
    }

    /// How many frames are to be sent now: 0, or a burst.
    #[inline]
    pub fn due(&mut self, now: u64) -> usize {
        let owed =
            ((now.saturating_sub(self.start) as f64 * self.frames_per_tick) as u64).saturating_sub(self.done);
        if owed < self.burst {
            return 0;
        }
        if owed > self.most {
            self.late += owed - self.most;
            self.done += owed - self.most;
        }
        let n = owed.min(MAX_BURST);
        self.done += n;
        n as usize
    }

    /// Frames that were given up since the start, as the generator came too late for them.
    pub fn late(&self) -> u64 {
        self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ: u64 = 1_000_000_000;

    fn run(pacer: &mut Pacer, from: u64, to: u64, step: usize) -> (u64, usize) {
        let dealt: Vec<usize> = (from..=to).step_by(step).map(|now| pacer.due(now)).collect();
        (dealt.iter().map(|&n| n as u64).sum(), dealt.into_iter().max().unwrap_or(0))
    }

    #[test]
    fn the_rate_is_kept() {
        for rate in [1_000.0, 100_000.0, 1_234_567.0, 9_000_000.0] {
            let mut pacer = Pacer::new(rate, HZ);
            pacer.restart(5 * HZ);
            let (sent, most) = run(&mut pacer, 5 * HZ, 6 * HZ, 100);
            assert!(rate - sent as f64 <= MAX_BURST as f64 && sent as f64 <= rate, "{sent} of {rate}");
            assert!(most as f64 <= (rate * 2.2e-6).max(1.0), "{most} at once at {rate}");
            assert_eq!(pacer.late(), 0);
        }
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let mut pacer = Pacer::new(1e6, HZ);
        pacer.restart(0);
        // 10 ms later 10,000 are due, of which 100 us' worth are sent.
        let (sent, _) = run(&mut pacer, 10_000_000, 10_000_010, 1);
        assert_eq!((sent, pacer.late()), (100, 9_900));
        let (sent, _) = run(&mut pacer, 10_000_011, 11_000_000, 1);
        assert_eq!((sent, pacer.late()), (1000, 9_900));
        pacer.restart(HZ);
        assert_eq!((pacer.due(HZ), pacer.late()), (0, 0));
    }

    #[test]
    fn time_before_the_start_is_no_time() {
        let mut pacer = Pacer::new(1e6, HZ);
        pacer.restart(100);
        assert_eq!(pacer.due(50), 0);
    }
}
