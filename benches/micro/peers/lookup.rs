//! Lookups in bursts, nobody writing.

use std::time::Instant;

use crate::Run;
use crate::contenders::{BURST, Fill, Keys, Lookup, NAMES, build};
use crate::report::{Better, Row};

/// How long a contender's turn takes, and before it, unmeasured, its way back into the caches.
const TURN_NS: f64 = 25e6;
const WARM_SHARE: usize = 5;
/// Most keys that are looked up in turn, in tables that hold more.
pub const MOST_KEYS: usize = 4 << 20;

/// The keys over and over: every turn goes on where the last one stopped.
pub struct Turns<'a> {
    lookup: Box<dyn Lookup + 'a>,
    bursts: usize,
    at: usize,
    turn: usize,
}

impl<'a> Turns<'a> {
    pub fn new(lookup: Box<dyn Lookup + 'a>, bursts: usize) -> Self {
        let mut turns = Self { lookup, bursts, at: 0, turn: 64 };
        // Until a turn is long enough to tell from it how many bursts a whole one takes.
        while turns.measure() * ((turns.turn * BURST) as f64) < TURN_NS / 8.0 {
            turns.turn *= 2;
        }
        let per_key = turns.measure();
        turns.turn = (TURN_NS / per_key) as usize / BURST + 1;
        turns
    }

    /// One turn: nanoseconds a key.
    pub fn measure(&mut self) -> f64 {
        self.run(self.turn / WARM_SHARE);
        let start = Instant::now();
        self.run(self.turn);
        start.elapsed().as_nanos() as f64 / (self.turn * BURST) as f64
    }

    fn run(&mut self, mut bursts: usize) {
        while bursts > 0 {
            // Short enough that a reader is quiescent every millisecond or so.
            let next = bursts.min(self.bursts - self.at).min(1024);
            self.lookup.look_up(self.at..self.at + next);
            self.at = (self.at + next) % self.bursts;
            bursts -= next;
        }
    }
}

fn checked<'a>(mut lookups: [Box<dyn Lookup + 'a>; 4], keys: &Keys) -> [Turns<'a>; 4] {
    for (lookup, name) in lookups.iter_mut().zip(NAMES) {
        lookup.check(name, keys);
    }
    lookups.map(|lookup| Turns::new(lookup, keys.bursts()))
}

/// Everyone's turns, round after round.
fn rounds(run: &Run, lookups: [Box<dyn Lookup + '_>; 4], keys: &Keys) -> [Vec<f64>; 4] {
    let mut all = checked(lookups, keys);
    let mut results: [Vec<f64>; 4] = Default::default();
    for _ in 0..run.rounds {
        for (turns, results) in all.iter_mut().zip(&mut results) {
            results.push(turns.measure());
        }
    }
    results
}

/// Hits and misses in tables with as much room again.
pub fn half_full(run: &mut Run) {
    const SIZES: [(usize, &str); 5] =
        [(1 << 10, "1k"), (1 << 16, "64k"), (1 << 20, "1M"), (8 << 20, "8M"), (16 << 20, "16M")];
    const CASES: [&str; 2] = ["hits, half full", "misses, half full"];
    for (n, size) in run.sizes(&SIZES) {
        if !CASES.iter().any(|case| run.wants(case, size)) {
            continue;
        }
        run.progress(&format!("half full, {size}"));
        let (readers, writers) = build(n, Fill::Half, 0);
        for case in CASES {
            if !run.wants(case, size) {
                continue;
            }
            let keys = if case == CASES[0] { Keys::present } else { Keys::absent }(n, MOST_KEYS);
            let results = rounds(run, readers.lookups(&keys), &keys);
            let row = Row::new(case, size, "ns/key", &results)
                .with_ratios(&results, Better::Less)
                .with_load(writers.weft.stats().load);
            run.rows.push(if case == CASES[0] { row.wants_ratio(3.0) } else { row });
        }
    }
}

/// Hits in tables that are nine tenths full, where there are such.
pub fn nearly_full(run: &mut Run) {
    const SIZES: [(usize, &str); 4] = [(1 << 12, "4k"), (1 << 16, "64k"), (1 << 20, "1M"), (8 << 20, "8M")];
    const TARGETS: [f64; 4] = [1.6, 1.6, 2.8, 2.5];
    const CASE: &str = "hits, 90% full";
    for ((places, size), target) in run.sizes(&SIZES).zip(TARGETS) {
        if !run.wants(CASE, size) {
            continue;
        }
        run.progress(&format!("90% full, {size} places"));
        let n = places / 10 * 9;
        let (readers, writers) = build(n, Fill::Ninety, 0);
        let keys = Keys::present(n, MOST_KEYS);
        let results = rounds(run, readers.lookups(&keys), &keys);
        let row = Row::new(CASE, size, "ns/key", &results)
            .with_ratios(&results, Better::Less)
            .with_load(writers.weft.stats().load);
        run.rows.push(row.wants_ratio(target));
    }
}
