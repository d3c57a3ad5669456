//! Measures how far apart two cores are: the round trip of one cache line between them, in nanoseconds.
//!
//! `core-distance A B` prints one number: the fastest of many batches, so that what else runs on the cores hardly
//! matters. On a virtual machine the host may move the cores between measurements; packet rates are comparable only
//! where this number is about the same.
#![deny(unsafe_code)]

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crossbeam::utils::CachePadded;
use weft_port::pin_current_thread;

const BATCHES: u64 = 200;
const ROUNDS: u64 = 500;

fn main() -> ExitCode {
    let cores: Option<Vec<usize>> = std::env::args().skip(1).map(|a| a.parse().ok()).collect();
    let Some([a, b]) = cores.as_deref() else {
        eprintln!("usage: core-distance CORE CORE");
        return ExitCode::from(2);
    };
    if a == b {
        eprintln!("core-distance: {a} and {b} are one core, give two");
        return ExitCode::from(2);
    }
    match measure(*a, *b) {
        Ok(ns) => {
            println!("{ns:.1}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("core-distance: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Both sides count one number up in turn: odd values are written by `a`, even ones by `b`.
fn measure(a: usize, b: usize) -> Result<f64, weft_port::PortError> {
    let line = CachePadded::new(AtomicU64::new(0));
    let total = BATCHES * ROUNDS;
    let best = std::thread::scope(|s| {
        let echo = s.spawn(|| {
            let pinned = pin_current_thread(b);
            for n in 0..total {
                wait(&line, 2 * n + 1);
                line.store(2 * n + 2, Ordering::Release);
            }
            pinned
        });
        let pinned = pin_current_thread(a);
        let mut best = f64::MAX;
        for batch in 0..BATCHES {
            let start = Instant::now();
            for n in batch * ROUNDS..(batch + 1) * ROUNDS {
                line.store(2 * n + 1, Ordering::Release);
                wait(&line, 2 * n + 2);
            }
            best = best.min(start.elapsed().as_nanos() as f64 / ROUNDS as f64);
        }
        pinned?;
        echo.join().expect("the other thread does not panic")?;
        Ok(best)
    })?;
    Ok(best)
}

fn wait(line: &AtomicU64, value: u64) {
    // Acquire pairs with the other side's release: nothing rides on it, but it is what a ring between cores pays.
    while line.load(Ordering::Acquire) != value {
        std::hint::spin_loop();
    }
}
