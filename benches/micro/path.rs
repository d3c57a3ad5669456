//! The packet path without I/O: whole bursts of 32 and the stages one by one, by destination MACs in the FDB.
//!
//! | group | what is in the time of a burst |
//! |---|---|
//! | `round` | a worker's round with one received burst: load the tables, the whole path, send what is staged, report a quiescent state |
//! | `stage/admit`, `stage/decap` | the first stage, from a received burst to bridge domains and keys |
//! | `stage/lookup` | the FDB |
//! | `stage/encap` | inner headers, outer headers |
//! | `stage/dispatch` | next hops to ports, encapsulation (so `stage/encap` is part of it), staging |
//! | `stage/flush` | the transmit queue, with DPDK's ring device as the port |
//! | `empty` | nothing but the measuring: subtract it from any other |
//!
//! Packets are made outside of what is measured (`weft_benches::bed` says how, and what is not in the figures). Each
//! measurement spans four bursts between two readings of the time stamp counter.
#![deny(unsafe_code)]
#![allow(missing_docs, reason = "criterion_group! makes a public function without")]

use criterion::{Bencher, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;
use weft_benches::bed::{BATCH, Bed, Way};
use weft_benches::eal;
use weft_dataplane::bench::Work;
use weft_port::{BURST, Burst, Eal, tsc, tsc_hz};

const FLOWS: [u32; 5] = [1, 1_000, 10_000, 100_000, 1_000_000];
/// Of the stages; what depends on it is the lookup.
const STAGE_FLOWS: u32 = 1_000;
const SIZE: usize = 64;

/// Four bursts on their way through the stages.
struct Batch {
    bursts: [Burst; BATCH],
    work: [Work; BATCH],
}

impl Batch {
    fn new() -> Self {
        Self { bursts: Default::default(), work: Default::default() }
    }
}

/// Measures `run`, which handles a whole batch, for as many bursts as criterion asks for. `before` readies a batch that has
/// been received, `after` has its packets sent.
fn measure(
    b: &mut Bencher<'_>,
    bed: &mut Bed,
    mut before: impl FnMut(&mut Bed, &mut Batch),
    mut run: impl FnMut(&mut Bed, &mut Batch),
    mut after: impl FnMut(&mut Bed, &mut Batch),
) {
    let mut batch = Batch::new();
    b.iter_custom(|bursts| {
        let batches = bursts.div_ceil(BATCH as u64);
        let mut ticks = 0;
        for _ in 0..batches {
            bed.prepare(&mut batch.bursts);
            before(bed, &mut batch);
            let start = tsc();
            run(bed, black_box(&mut batch));
            ticks += tsc().wrapping_sub(start);
            after(bed, &mut batch);
        }
        // A batch cut short would weigh its overhead anew: whole ones, scaled.
        let scale = bursts as f64 / (batches * BATCH as u64) as f64;
        Duration::from_secs_f64(ticks as f64 / tsc_hz() as f64 * scale)
    });
}

fn nothing(_: &mut Bed, _: &mut Batch) {}

fn rounds(bed: &mut Bed, batch: &mut Batch) {
    bed.rounds(&mut batch.bursts);
}

fn enter(bed: &mut Bed, batch: &mut Batch) {
    bed.enter(&mut batch.bursts, &mut batch.work);
}

fn look_up(bed: &mut Bed, batch: &mut Batch) {
    batch.work.iter_mut().for_each(|w| bed.worker.lookup(w));
}

fn dispatch(bed: &mut Bed, batch: &mut Batch) {
    batch.work.iter_mut().for_each(|w| bed.worker.dispatch(bed.source, w));
}

fn encap(bed: &mut Bed, batch: &mut Batch) {
    for (work, burst) in batch.work.iter_mut().zip(&mut batch.bursts) {
        bed.worker.encap(work, burst);
    }
}

fn flush(bed: &mut Bed, _: &mut Batch) {
    assert_eq!(bed.worker.flush(), 0);
}

fn round(c: &mut Criterion, eal: &Eal) {
    let mut group = c.benchmark_group("round");
    group.throughput(Throughput::Elements(BURST as u64));
    for way in Way::ALL {
        for flows in FLOWS {
            let mut bed = Bed::new(eal, way, flows, SIZE);
            group.bench_function(BenchmarkId::new(way.to_string(), flows), |b| {
                measure(b, &mut bed, nothing, rounds, nothing)
            });
        }
    }
}

fn stages(c: &mut Criterion, eal: &Eal) {
    let mut group = c.benchmark_group("stage");
    group.throughput(Throughput::Elements(BURST as u64));
    let entered = |bed: &mut Bed, batch: &mut Batch| enter(bed, batch);
    let found = |bed: &mut Bed, batch: &mut Batch| {
        enter(bed, batch);
        look_up(bed, batch);
    };
    let staged = |bed: &mut Bed, batch: &mut Batch| {
        enter(bed, batch);
        look_up(bed, batch);
        dispatch(bed, batch);
    };
    let rest = |bed: &mut Bed, batch: &mut Batch| {
        look_up(bed, batch);
        dispatch(bed, batch);
        flush(bed, batch);
    };
    for way in Way::ALL {
        let mut bed = Bed::new(eal, way, STAGE_FLOWS, SIZE);
        let first = if matches!(way, Way::Decap(_)) { "decap" } else { "admit" };
        group.bench_function(format!("{first}/{way}"), |b| measure(b, &mut bed, nothing, enter, rest));
        group.bench_function(format!("dispatch/{way}"), |b| measure(b, &mut bed, found, dispatch, flush));
        group.bench_function(format!("flush/{way}"), |b| measure(b, &mut bed, staged, flush, nothing));
        if let Way::Encap(_) = way {
            let again = |bed: &mut Bed, batch: &mut Batch| bed.resend(&mut batch.bursts);
            group.bench_function(format!("encap/{way}"), |b| measure(b, &mut bed, found, encap, again));
        }
    }
    for flows in FLOWS {
        let mut bed = Bed::new(eal, Way::L2, flows, SIZE);
        let send = |bed: &mut Bed, batch: &mut Batch| {
            dispatch(bed, batch);
            flush(bed, batch);
        };
        group.bench_function(BenchmarkId::new("lookup", flows), |b| {
            measure(b, &mut bed, entered, look_up, send)
        });
    }
}

/// What the measuring itself costs.
fn empty(c: &mut Criterion, eal: &Eal) {
    let mut group = c.benchmark_group("empty");
    group.throughput(Throughput::Elements(BURST as u64));
    let mut bed = Bed::new(eal, Way::L2, STAGE_FLOWS, SIZE);
    group.bench_function("nothing", |b| measure(b, &mut bed, nothing, nothing, rounds));
}

fn all(c: &mut Criterion) {
    let (eal, huge) = eal::start(64);
    if !huge {
        eprintln!("64 MB of hugepages are not free: packets lie in 4 kB pages, as they never do in a switch");
    }
    empty(c, &eal);
    round(c, &eal);
    stages(c, &eal);
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    targets = all
}
criterion_main!(benches);
