//! Lookups while the other core replaces the whole table again and again.
//!
//! Two cores share the cache and the way to memory, so building a table beside a reader costs that reader something
//! even if it never sees that table. Hence two controls: the other core idle, and the other core building the same
//! table without publishing it where anybody looks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use weft_port::{pin_current_thread, tsc, tsc_hz};
use weft_tables::fdb::{Fdb, FdbConfig, FdbKey, FdbWriter, MISS};
use weft_tables::qsbr::Domain;

use crate::contenders::{BURST, Keys, WeftLookup, shuffled, weft_key};
use crate::report::{Row, Spread};
use crate::{Run, WRITE_CORE};

const ENTRIES: usize = 1 << 20;
const PHASE: Duration = Duration::from_millis(500);

const IDLE: usize = 0;
const SWAP: usize = 1;
const BUILD: usize = 2;
const STOP: usize = 3;
const MODES: [&str; 3] = ["other core idle", "swapping", "building only"];

/// What is told of a phase.
const STATISTICS: [&str; 3] = [
    "swaps: p99 of bursts",
    "swaps: p99 of 1 ms windows' mean burst",
    "swaps: p99 of 1 ms windows' longest burst",
];
const CASE: &str = "swaps";

fn p99(values: &mut [u64]) -> f64 {
    let at = (values.len() * 99).div_ceil(100).saturating_sub(1);
    *values.select_nth_unstable(at).1 as f64
}

/// Replaces the table, or one that nobody looks at, as `wanted` says; `doing` tells what is under way.
fn replace(
    mut published: FdbWriter,
    entries: &[(FdbKey, u32)],
    wanted: &AtomicUsize,
    doing: &AtomicUsize,
) -> [u32; 3] {
    pin_current_thread(WRITE_CORE).expect("a core to write on");
    let config = FdbConfig { initial_capacity: ENTRIES, ..Default::default() };
    let (mut unpublished, _fdb) = Fdb::new(&Domain::new(1), config);
    let mut count = [0; 3];
    loop {
        let mode = wanted.load(Ordering::Acquire);
        doing.store(mode, Ordering::Release);
        match mode {
            STOP => return count,
            SWAP => published.replace_all(entries.iter().copied()).expect("memory"),
            BUILD => unpublished.replace_all(entries.iter().copied()).expect("memory"),
            _ => std::hint::spin_loop(),
        }
        count[mode] = count[mode].wrapping_add(1);
    }
}

/// The reader: bursts one by one, each timed.
struct Timed<'a> {
    lookup: WeftLookup<'a>,
    bursts: usize,
    at: usize,
    misses: u64,
}

impl Timed<'_> {
    /// Ticks of the next burst.
    fn burst(&mut self) -> u64 {
        let mut values = [0; BURST];
        let start = tsc();
        self.lookup.one(self.at, &mut values);
        std::hint::black_box(&values);
        let ticks = tsc() - start;
        self.misses += values.iter().filter(|v| **v == MISS).count() as u64;
        self.at = (self.at + 1) % self.bursts;
        ticks
    }

    /// A phase's statistics, in ticks.
    fn phase(&mut self) -> [f64; 3] {
        let window = tsc_hz() / 1000;
        let (mut all, mut means, mut longest) = (Vec::new(), Vec::new(), Vec::new());
        let start = Instant::now();
        while start.elapsed() < PHASE {
            let (from, first) = (tsc(), all.len());
            while tsc() - from < window {
                all.push(self.burst());
            }
            let own = &all[first..];
            means.push(own.iter().sum::<u64>() / own.len() as u64);
            longest.push(own.iter().copied().max().unwrap_or(0));
        }
        [p99(&mut all), p99(&mut means), p99(&mut longest)]
    }
}

/// How much longer bursts take while tables are swapped.
pub fn swaps(run: &mut Run) {
    if !run.wants(CASE, "1M") {
        return;
    }
    run.progress("swaps");
    let keys = Keys::present(ENTRIES, ENTRIES);
    let entries: Vec<(FdbKey, u32)> = shuffled(ENTRIES).into_iter().map(|i| (weft_key(i), i)).collect();
    let domain = Domain::new(1);
    let (mut writer, fdb) = Fdb::new(&domain, FdbConfig { initial_capacity: ENTRIES, ..Default::default() });
    writer.replace_all(entries.iter().copied()).expect("memory");
    let load = writer.stats().load;
    let rounds = if run.quick { 3 } else { run.rounds.min(15) };
    // By statistic, mode and round.
    let mut measured: [[Vec<f64>; 3]; 3] = Default::default();
    let (wanted, doing) = (AtomicUsize::new(IDLE), AtomicUsize::new(IDLE));
    let (count, misses) = std::thread::scope(|scope| {
        let replacer = scope.spawn(|| replace(writer, &entries, &wanted, &doing));
        let lookup = WeftLookup::new(&fdb, &domain, &keys);
        let mut timed = Timed { lookup, bursts: keys.bursts(), at: 0, misses: 0 };
        for _ in 0..rounds {
            for mode in [IDLE, SWAP, BUILD] {
                wanted.store(mode, Ordering::Release);
                // What the last phase began goes on beside unmeasured bursts: the reader must stay quiescent.
                while doing.load(Ordering::Acquire) != mode {
                    timed.burst();
                }
                for (statistic, value) in measured.iter_mut().zip(timed.phase()) {
                    statistic[mode].push(value);
                }
            }
        }
        wanted.store(STOP, Ordering::Release);
        let misses = timed.misses;
        drop(timed);
        (replacer.join().expect("the replacer ends"), misses)
    });
    assert_eq!(misses, 0, "failed lookups");
    assert_eq!(Arc::strong_count(&fdb), 1, "the writer is gone");
    eprintln!("{} swaps and {} builds, no failed lookup", count[SWAP], count[BUILD]);

    let ns = 1e9 / tsc_hz() as f64;
    for (case, modes) in STATISTICS.into_iter().zip(&measured) {
        for (mode, ticks) in MODES.into_iter().zip(modes) {
            let values: Vec<f64> = ticks.iter().map(|t| t * ns).collect();
            run.rows.push(Row::weft(case, mode, "ns/burst", Spread::of(&values)).with_load(load));
        }
        for mode in [SWAP, BUILD] {
            let ratios: Vec<f64> = modes[mode].iter().zip(&modes[IDLE]).map(|(t, idle)| t / idle).collect();
            let size = format!("{} / idle", MODES[mode]);
            let row = Row::weft(case, &size, "ratio", Spread::of(&ratios));
            let is_target = mode == SWAP && case == STATISTICS[1];
            run.rows.push(if is_target { row.wants_most(1.25) } else { row });
        }
    }
}
