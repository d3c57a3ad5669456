//! The forwarding table beside other hash tables, interleaved.
//!
//! A machine's speed drifts over the seconds that one measurement takes, most of all a virtual machine's. So the
//! contenders take turns of some 25 ms, round after round, and what counts is the median over rounds of the ratio to
//! rte_hash within the same round.
#![deny(unsafe_code)]

mod changes;
#[path = "../contenders.rs"]
mod contenders;
mod lookup;
mod report;
mod swap;
mod writer;

use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use serde_json::json;
use weft_port::pin_current_thread;

use report::Row;

/// The forwarding table beside rte_hash, hashbrown and dashmap, in turns.
#[derive(Parser)]
struct Args {
    /// Sizes up to 1M and few rounds: about half a minute
    #[arg(long)]
    quick: bool,
    /// Turns of each contender in each case
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Only cases whose "case size" contains this, such as "90%" or "hits, half full 1M"
    #[arg(long, value_name = "SUBSTRING")]
    only: Option<String>,
    /// Write the results as tab-separated values (from `cargo bench`, paths begin in benches/)
    #[arg(long, value_name = "FILE")]
    tsv: Option<PathBuf>,
    /// Write the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Hugepages to take at start, in MB
    #[arg(long, value_name = "MB")]
    memory: Option<u32>,
    /// Ignored: what cargo passes
    #[arg(long, hide = true)]
    bench: bool,
}

/// The core that looks up, and the one that changes tables meanwhile.
const READ_CORE: usize = 0;
const WRITE_CORE: usize = 1;

/// What cases share.
struct Run {
    quick: bool,
    rounds: usize,
    only: Option<String>,
    rows: Vec<Row>,
    start: Instant,
}

impl Run {
    /// Whether a row is asked for.
    fn wants(&self, case: &str, size: &str) -> bool {
        self.only.as_ref().is_none_or(|only| format!("{case} {size}").contains(only.as_str()))
    }

    /// Tells whoever waits what is being measured.
    fn progress(&self, what: &str) {
        eprintln!("[{:5.1} s] {what}", self.start.elapsed().as_secs_f64());
    }

    /// The sizes to measure of those there are.
    fn sizes<'a>(&self, all: &'a [(usize, &'a str)]) -> impl Iterator<Item = (usize, &'a str)> + use<'a> {
        let most = if self.quick { 1 << 20 } else { usize::MAX };
        all.iter().copied().filter(move |(n, _)| *n <= most)
    }
}

fn main() {
    let args = Args::parse();
    // rte_hash with room for 32M entries takes 1.6 GB. What is beyond this is taken as it is needed, if it is free.
    let memory = args.memory.unwrap_or(if args.quick { 256 } else { 1792 });
    let huge = contenders::start_eal(memory);
    pin_current_thread(READ_CORE).expect("a core to look up on");
    let ticks = Ticks::now();
    let mut run = Run {
        quick: args.quick,
        rounds: args.rounds.unwrap_or(if args.quick { 9 } else { 25 }).max(1),
        only: args.only,
        rows: Vec::new(),
        start: Instant::now(),
    };

    lookup::half_full(&mut run);
    lookup::nearly_full(&mut run);
    writer::beside_a_writer(&mut run);
    changes::inserts_and_deletes(&mut run);
    changes::memory(&mut run);
    swap::swaps(&mut run);

    let others = others_since(&ticks);
    let pages = if huge { "2 MB pages" } else { "4 kB pages" };
    println!(
        "\nMedian [least-greatest] of {} rounds; N.NNx: times as good as rte_hash, median of the rounds' ratios.\n\
         {}, DPDK {}, rte_hash in {pages}, the others' memory from malloc.\n\
         Other processes and the host took {others:.0}% of a core meanwhile; from some 5% on, measure again.\n",
        run.rounds,
        cpu(),
        dpdk_sys::DPDK_VERSION
    );
    print!("{}", report::table(&run.rows));
    let about = json!({"cpu": cpu(), "dpdk": dpdk_sys::DPDK_VERSION, "rte_hash_pages": pages, "rounds": run.rounds,
                       "quick": run.quick, "others_percent_of_a_core": others});
    let write = |path: Option<PathBuf>, text: String| {
        if let Some(path) = path {
            std::fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
    };
    write(args.tsv, report::tsv(&run.rows));
    write(args.json, format!("{:#}\n", report::json(&run.rows, about)));
}

/// What the kernel counts, in clock ticks.
struct Ticks {
    /// All that passed, summed over cores.
    all: u64,
    /// Not idle, or taken by the host.
    busy: u64,
    /// This process's part.
    own: u64,
    cores: u64,
}

impl Ticks {
    fn now() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let numbers = |text: &str| -> Vec<u64> {
            // Some are negative, and have their place all the same.
            text.split_whitespace().filter_map(|n| n.parse::<i64>().ok()).map(i64::unsigned_abs).collect()
        };
        let stat = read("/proc/stat");
        // user nice system idle iowait irq softirq steal; what follows is counted in user already.
        let cpu: Vec<u64> = numbers(stat.lines().next().unwrap_or_default()).into_iter().take(8).collect();
        let all: u64 = cpu.iter().sum();
        let idle: u64 = cpu.iter().skip(3).take(2).sum();
        // Behind the name in brackets: numbers 10 and 11, counted from 0, are utime and stime.
        let own = read("/proc/self/stat");
        let own = numbers(own.rsplit(')').next().unwrap_or_default());
        Self {
            all,
            busy: all - idle,
            own: own.iter().skip(10).take(2).sum(),
            cores: stat.lines().filter(|l| l.starts_with("cpu")).count().saturating_sub(1) as u64,
        }
    }
}

/// How much of a core others had since then, in percent: what disturbs measurements.
fn others_since(start: &Ticks) -> f64 {
    let now = Ticks::now();
    let others = (now.busy - start.busy).saturating_sub(now.own - start.own);
    let passed = (now.all - start.all).max(1) as f64 / now.cores.max(1) as f64;
    others as f64 / passed * 100.0
}

fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| info.lines().find(|l| l.starts_with(name))?.split(": ").nth(1);
    format!(
        "{} (family {}, model {})",
        field("model name").unwrap_or("unknown CPU"),
        field("cpu family").unwrap_or("?"),
        field("model\t").unwrap_or("?")
    )
}
