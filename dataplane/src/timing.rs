//! Where a worker's cycles go, stage by stage: sampled on one round in 61, if `[workers] stage_timing` asks for it.
//!
//! Off, it costs a predicted branch per stage and burst. On, a sampled round reads the time stamp counter once per stage
//! and burst, each time waiting a moment for what is under way: the sums are some cycles a packet above what rounds
//! take that are not sampled. For telling stages apart, and one load from another.

use crate::counters::{Counter, ThreadCounters};

/// One round in so many is sampled. A prime, so that it does not keep step with anything.
const EVERY: u32 = 61;

/// What the cycles of a round are attributed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Asking receive queues, those that had nothing included.
    Rx,
    /// Frames of local ports admitted, tunnel packets decapsulated.
    Enter,
    /// Next hops looked up.
    Lookup,
    /// Dispatch to next hops: encapsulation, flooding, staging.
    Dispatch,
    /// What other workers and the agent handed over, and sending all that is staged.
    Tx,
}

impl Stage {
    /// All of them, in the order of the path.
    pub const ALL: [Stage; 5] = [Stage::Rx, Stage::Enter, Stage::Lookup, Stage::Dispatch, Stage::Tx];

    /// A stable name.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Rx => "rx",
            Stage::Enter => "enter",
            Stage::Lookup => "lookup",
            Stage::Dispatch => "dispatch",
            Stage::Tx => "tx",
        }
    }
}

/// A worker's sums over its sampled rounds that had packets. Written by the worker, read by control.
#[derive(Debug, Default)]
pub struct StageCounters {
    /// TSC cycles, by `Stage as usize`.
    pub cycles: [Counter; Stage::ALL.len()],
    /// Packets of those rounds.
    pub packets: Counter,
}

/// The worker's side.
#[derive(Debug, Default)]
pub(crate) struct StageClock {
    on: bool,
    /// Rounds until the next sample.
    left: u32,
    /// This round is sampled.
    running: bool,
    last: u64,
    cycles: [u64; Stage::ALL.len()],
}

impl StageClock {
    pub fn new(on: bool) -> Self {
        Self { on, left: EVERY, ..Self::default() }
    }

    /// A round begins.
    #[inline(always)]
    pub fn begin(&mut self) {
        if self.on {
            self.count();
        }
    }

    #[cold]
    fn count(&mut self) {
        self.left -= 1;
        self.running = self.left == 0;
        if self.running {
            self.left = EVERY;
            self.cycles = Default::default();
            self.last = weft_port::tsc();
        }
    }

    /// What was done since the last call was this stage's.
    #[inline(always)]
    pub fn lap(&mut self, stage: Stage) {
        if self.running {
            self.stop(stage);
        }
    }

    #[cold]
    fn stop(&mut self, stage: Stage) {
        let now = weft_port::tsc();
        self.cycles[stage as usize] += now.wrapping_sub(self.last);
        self.last = now;
    }

    /// A round with so many packets has ended. Those without are not counted: they would be added to the others' cost.
    #[inline(always)]
    pub fn end(&mut self, c: &ThreadCounters, packets: usize) {
        if self.running && packets > 0 {
            self.note(&c.stages, packets);
        }
    }

    #[cold]
    fn note(&mut self, c: &StageCounters, packets: usize) {
        c.packets.add(packets as u64);
        for (sum, n) in c.cycles.iter().zip(self.cycles) {
            sum.add(n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(clock: &mut StageClock, c: &ThreadCounters, n: usize, packets: usize) {
        for _ in 0..n {
            clock.begin();
            Stage::ALL.into_iter().for_each(|s| clock.lap(s));
            clock.end(c, packets);
        }
    }

    #[test]
    fn one_round_in_so_many_is_sampled_and_only_with_packets() {
        let (c, mut clock) = (ThreadCounters::default(), StageClock::new(true));
        rounds(&mut clock, &c, 60, 32);
        assert_eq!(c.stages.packets.get(), 0);
        rounds(&mut clock, &c, 61 * 3, 32);
        assert_eq!(c.stages.packets.get(), 3 * 32);
        assert!(c.stages.cycles.iter().all(|n| n.get() > 0), "{:?}", c.stages);
        rounds(&mut clock, &c, 61 * 3, 0);
        assert_eq!(c.stages.packets.get(), 3 * 32);
    }

    #[test]
    fn off_it_counts_nothing() {
        let (c, mut clock) = (ThreadCounters::default(), StageClock::new(false));
        rounds(&mut clock, &c, 61 * 3, 32);
        assert_eq!(c.stages.packets.get(), 0);
        assert!(c.stages.cycles.iter().all(|n| n.get() == 0));
    }
}
