//! The forwarding table: lookups in bursts of 32 as a worker makes them, and inserts.
//!
//! Keys are looked up in random order, so that a table that is larger than the caches pays for memory as it would
//! under traffic to so many addresses.
#![deny(unsafe_code)]
#![allow(missing_docs, reason = "criterion_group! makes a public function without")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use weft_tables::fdb::{Fdb, FdbConfig, FdbKey, MISS};
use weft_tables::qsbr::Domain;

const BURST: usize = 32;
const SIZES: [(usize, &str); 3] = [(1 << 10, "1k"), (1 << 16, "64k"), (1 << 20, "1M")];

fn key(i: u64) -> FdbKey {
    FdbKey::new(100, 0x0210_0000_0000 + i)
}

/// Indices below `n` in an order that no prefetcher guesses.
fn shuffled(n: usize) -> Vec<u64> {
    let mut order: Vec<u64> = (0..n as u64).collect();
    let mut x = 0x9e37_79b9_7f4a_7c15u64;
    for i in (1..n).rev() {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        order.swap(i, (x % (i as u64 + 1)) as usize);
    }
    order
}

fn lookup(c: &mut Criterion) {
    let mut group = c.benchmark_group("lookup_burst");
    group.throughput(Throughput::Elements(BURST as u64));
    for (size, name) in SIZES {
        let domain = Domain::new(1);
        let (mut writer, fdb) = Fdb::new(&domain, FdbConfig { initial_capacity: size, ..Default::default() });
        for i in 0..size as u64 {
            writer.insert(key(i), i as u32).expect("memory");
        }
        let mut reader = domain.register("bench").expect("a place for a reader");
        reader.online();
        for (what, from) in [("hit", 0), ("miss", 1 << 30)] {
            let keys: Vec<FdbKey> = shuffled(size).into_iter().map(|i| key(from + i)).collect();
            let mut bursts = keys.chunks_exact(BURST).cycle();
            let mut values = [0u32; BURST];
            group.bench_function(format!("{what}/{name}"), |b| {
                b.iter(|| {
                    fdb.lookup_burst(&reader, bursts.next().expect("endless"), &mut values);
                    black_box(&values);
                })
            });
            assert_eq!(values.iter().filter(|v| **v == MISS).count(), if what == "miss" { BURST } else { 0 });
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
        for i in 0..size as u64 {
            writer.insert(key(i), i as u32).expect("memory");
        }
        group.bench_function(format!("into/{name}"), |b| {
            b.iter_custom(|n| {
                let (mut spent, mut left, mut next) = (Duration::ZERO, n, size as u64);
                while left > 0 {
                    let batch = left.min(256);
                    let start = Instant::now();
                    for i in next..next + batch {
                        writer.insert(key(i), i as u32).expect("memory");
                    }
                    spent += start.elapsed();
                    for i in next..next + batch {
                        assert!(writer.remove(key(i)).is_some());
                    }
                    next += batch;
                    left -= batch;
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
                for i in 0..1u64 << 16 {
                    writer.insert(key(i), i as u32).expect("memory");
                }
                (writer, fdb)
            },
            BatchSize::PerIteration,
        )
    });
}

criterion_group!(benches, lookup, insert);
criterion_main!(benches);
