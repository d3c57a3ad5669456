//! Lookups beside a writer that changes other keys.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use weft_port::pin_current_thread;

use crate::contenders::{Fill, Keys, Table, Writers, build};
use crate::lookup::{MOST_KEYS, Turns};
use crate::report::Row;
use crate::{Run, WRITE_CORE};

const CASES: [&str; 2] = ["hits with 100k changes/s", "misses with 100k changes/s"];
const PERIOD: Duration = Duration::from_micros(10);
/// The first index of the keys that come and go.
const FIRST: u32 = 1 << 28;

/// What the writer does: `STOP`, `PAUSE`, or else change the contender of this number.
const STOP: usize = usize::MAX;
const PAUSE: usize = usize::MAX - 1;

/// Takes a key out, puts a new one in, and so on.
struct Churn<T> {
    table: T,
    oldest: u32,
    newest: u32,
    remove: bool,
}

impl<T: Table> Churn<T> {
    fn new(mut table: T, kept: u32) -> Self {
        for i in 0..kept {
            assert!(table.insert(FIRST + i));
        }
        Self { table, oldest: FIRST, newest: FIRST + kept, remove: true }
    }

    fn step(&mut self) {
        if self.remove {
            self.table.remove(self.oldest);
            self.oldest += 1;
        } else {
            assert!(self.table.insert(self.newest));
            self.newest += 1;
        }
        self.remove = !self.remove;
    }
}

/// Changes one table after the other as `what` says, until that is `STOP`. Returns how fast: changes a second.
fn write(writers: Writers, kept: u32, what: &AtomicUsize) -> f64 {
    pin_current_thread(WRITE_CORE).expect("a core to write on");
    let mut weft = Churn::new(writers.weft, kept);
    let mut rte = Churn::new(writers.rte, kept);
    let mut dashmap = Churn::new(writers.dashmap, kept);
    let (mut changes, mut busy) = (0u32, Duration::ZERO);
    loop {
        let now = what.load(Ordering::Acquire);
        match now {
            STOP => return f64::from(changes) / busy.as_secs_f64().max(1e-9),
            PAUSE => {
                spin_loop();
                continue;
            }
            _ => {}
        }
        let start = Instant::now();
        let mut next = start;
        while what.load(Ordering::Relaxed) == now {
            match now {
                0 => weft.step(),
                1 => rte.step(),
                _ => dashmap.step(),
            }
            changes += 1;
            next += PERIOD;
            while Instant::now() < next {
                spin_loop();
            }
        }
        busy += start.elapsed();
    }
}

/// How much of its rate without the writer each contender keeps.
pub fn beside_a_writer(run: &mut Run) {
    const SIZES: [(usize, &str); 5] =
        [(1 << 10, "1k"), (1 << 16, "64k"), (1 << 20, "1M"), (8 << 20, "8M"), (16 << 20, "16M")];
    for (n, size) in run.sizes(&SIZES) {
        if !CASES.iter().any(|case| run.wants(case, size)) {
            continue;
        }
        run.progress(&format!("beside a writer, {size}"));
        // What comes and goes, and what rte_hash holds back for its readers, must not matter to how full tables are.
        let kept = (n / 8).min(1024);
        let (readers, writers) = build(n, Fill::Half, kept);
        let load = writers.weft.stats().load;
        let keys = [Keys::present(n, MOST_KEYS), Keys::absent(n, MOST_KEYS)];
        let what = AtomicUsize::new(PAUSE);
        let rate = std::thread::scope(|scope| {
            let writer = scope.spawn(|| write(writers, kept as u32, &what));
            for (case, keys) in CASES.into_iter().zip(&keys) {
                if run.wants(case, size) {
                    let mut all = readers.lookups(keys).map(|lookup| Turns::new(lookup, keys.bursts()));
                    let shares = rounds(run.rounds, &mut all, &what);
                    let row = Row::new(case, size, "share of rate", &shares).with_load(load);
                    run.rows.push(if case == CASES[0] { row.wants_least(0.9) } else { row });
                }
            }
            what.store(STOP, Ordering::Release);
            writer.join().expect("the writer ends")
        });
        // A writer that cannot keep the pace makes the case easier than it says.
        if rate < 99_000.0 {
            eprintln!("the writer made {rate:.0} changes a second only");
        }
    }
}

/// Everyone's turns with and without the writer: rate with by rate without, round by round.
fn rounds(rounds: usize, all: &mut [Turns<'_>; 4], what: &AtomicUsize) -> [Vec<f64>; 4] {
    let mut shares: [Vec<f64>; 4] = Default::default();
    for round in 0..rounds {
        for (who, turns) in all.iter_mut().enumerate() {
            if who == 2 {
                continue; // hashbrown has no changes beside lookups.
            }
            let mut turn = |now| {
                what.store(now, Ordering::Release);
                let per_key = turns.measure();
                what.store(PAUSE, Ordering::Release);
                per_key
            };
            // Who comes first alternates, so that drift within a round evens out.
            let (without, with) = if round % 2 == 0 {
                let without = turn(PAUSE);
                (without, turn(who))
            } else {
                let with = turn(who);
                (turn(PAUSE), with)
            };
            shares[who].push(without / with);
        }
    }
    shares
}
