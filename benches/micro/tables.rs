//! The forwarding table: lookups in bursts of 32 as a worker makes them, beside the same of other tables, and inserts.
//!
//! Criterion measures one thing after the other. Where a comparison must be right to a few percent, see `peers`, which
//! measures in turns.
//!
//! Keys are looked up in random order, so that a table that is larger than the caches pays for memory as it would
//! under traffic to so many addresses.
#![deny(unsafe_code)]
#![allow(missing_docs, reason = "criterion_group! makes a public function without")]

#[allow(dead_code, reason = "`peers` uses more of it")]
mod contenders;

use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use weft_tables::fdb::{Fdb, FdbConfig};
use weft_tables::qsbr::Domain;

use contenders::{BURST, Fill, Keys, NAMES, build, weft_key};

const SIZES: [(usize, &str); 3] = [(1 << 10, "1k"), (1 << 16, "64k"), (1 << 20, "1M")];

fn lookup(c: &mut Criterion) {
    contenders::start_eal(128);
    let mut group = c.benchmark_group("lookup_burst");
    group.throughput(Throughput::Elements(BURST as u64));
    for (size, name) in SIZES {
        let (readers, _writers) = build(size, Fill::Half, 0);
        for (what, keys) in [("hit", Keys::present(size, size)), ("miss", Keys::absent(size, size))] {
            for (mut lookup, who) in readers.lookups(&keys).into_iter().zip(NAMES) {
                lookup.check(who, &keys);
                let mut bursts = (0..keys.bursts()).cycle();
                group.bench_function(format!("{what}/{name}/{who}"), |b| {
                    b.iter(|| {
                        let burst = bursts.next().expect("endless");
                        lookup.look_up(burst..burst + 1);
                    })
                });
            }
        }
    }
}

fn insert(c: &mut Criterion) {
    let mut group = c.benchmark_group("insert");
    group.throughput(Throughput::Elements(1));
    // In a table that has room: the cost without growth. Each goes in and out, the removal is not counted.
    for (size, name) in SIZES {
        let domain = Domain::new(1);
        let capacity = size + 1024;
        let (mut writer, _fdb) =
            Fdb::new(&domain, FdbConfig { initial_capacity: capacity, ..Default::default() });
        for i in 0..size as u32 {
            writer.insert(weft_key(i), i).expect("memory");
        }
        group.bench_function(format!("into/{name}"), |b| {
            b.iter_custom(|n| {
                let (mut spent, mut left, mut next) = (Duration::ZERO, n, size as u32);
                while left > 0 {
                    let batch = left.min(256) as u32;
                    let start = Instant::now();
                    for i in next..next + batch {
                        writer.insert(weft_key(i), i).expect("memory");
                    }
                    spent += start.elapsed();
                    for i in next..next + batch {
                        assert!(writer.remove(weft_key(i)).is_some());
                    }
                    next += batch;
                    left -= u64::from(batch);
                }
                spent
            })
        });
    }
    // From nothing, with all growth on the way.
    group.throughput(Throughput::Elements(1 << 16));
    group.sample_size(10);
    group.bench_function("from-empty/64k", |b| {
        b.iter_batched(
            || Fdb::new(&Domain::new(1), FdbConfig::default()),
            |(mut writer, fdb)| {
                for i in 0..1u32 << 16 {
                    writer.insert(weft_key(i), i).expect("memory");
                }
                (writer, fdb)
            },
            BatchSize::PerIteration,
        )
    });
}

criterion_group!(benches, lookup, insert);
criterion_main!(benches);
