//! What only the writer can see: sizes, wear and displacement.

use super::*;
use crate::{
    fdb::{Seed, entry::LAST_VERSION},
    qsbr::Domain,
};

fn key(i: u64) -> FdbKey {
    FdbKey::new(1, i)
}

fn new(initial_capacity: usize) -> FdbWriter {
    with_seed(initial_capacity, 1)
}

fn with_seed(initial_capacity: usize, seed: u64) -> FdbWriter {
    let seed = Some(Seed::fixed(seed));
    let config = FdbConfig { seed, initial_capacity, max_load_percent: 90, ..FdbConfig::default() };
    Fdb::new(&Domain::new(1), config).0
}

#[test]
fn a_table_holds_what_it_was_made_for() {
    for capacity in [0, 1, 6, 7, 100, 3071, 3072, 3073, 50_000] {
        let mut writer = new(capacity);
        for i in 0..capacity as u64 {
            writer.insert(key(i), 1).unwrap();
        }
        assert_eq!(writer.stats().grown, 0, "{capacity}: {:?}", writer.stats());
    }
}

#[test]
fn ninety_percent_need_no_chain() {
    let mut writer = new(100_000);
    for i in 0..100_000 {
        writer.insert(key(i), 1).unwrap();
    }
    let stats = writer.stats();
    assert!(stats.load > 0.89 && stats.grown == 0, "{stats:?}");
    assert_eq!((stats.overflow, stats.anomalies), (0, 0));
}

#[test]
fn ninety_five_percent_fit_when_growth_must_wait() {
    let mut writer = new(100_000);
    writer.retry_at = usize::MAX;
    writer.plan();
    let most = writer.table().slots() as u64 * 95 / 100;
    for i in 0..most {
        writer.insert(key(i), 1).unwrap();
    }
    let stats = writer.stats();
    assert!(stats.load > 0.949 && stats.grown == 0, "{stats:?}");
    assert_eq!(stats.overflow, 0, "{stats:?}");
}

#[test]
fn memory_stays_below_25_bytes_an_entry_once_large() {
    let mut writer = Fdb::new(&Domain::new(1), FdbConfig::default()).0;
    let (mut worst, mut at_a_million): (f64, f64) = (0.0, 0.0);
    for i in 0..1_600_000u64 {
        writer.insert(key(i), 1).unwrap();
        let bytes = writer.table().bytes(0) as f64 / writer.len() as f64;
        if i >= 1_000_000 {
            worst = worst.max(bytes);
        }
        if i == 1_000_000 {
            at_a_million = bytes;
        }
    }
    assert!(at_a_million < 24.0, "{at_a_million} bytes an entry");
    assert!(worst < 25.0, "{worst} bytes an entry");
}

/// Ages every free entry of the table until it can be filled just once more.
fn age_all(writer: &FdbWriter) {
    for entry in writer.table().buckets.iter().flat_map(|bucket| &bucket.entries) {
        if entry.is_free() {
            entry.age(LAST_VERSION - 1);
        }
    }
}

#[test]
fn worn_entries_are_left_alone_until_the_table_is_renewed() {
    // Under most seeds 12 keys need no chain in a table of 16 places, without displacement.
    let filled = (1..).map(|seed| {
        let mut writer = with_seed(12, seed);
        age_all(&writer);
        for i in 0..12 {
            writer.insert(key(i), i as u32).unwrap();
        }
        writer
    });
    let mut writer = filled.take(100).find(|writer| writer.stats().overflow == 0).unwrap();
    let slots = writer.table().slots();
    assert_eq!(writer.stats().worn, 0);
    (writer.retry_at, writer.reseed_at) = (usize::MAX, usize::MAX);
    writer.plan();
    for i in 0..12 {
        assert_eq!(writer.remove(key(i)), Some(i as u32));
    }
    assert_eq!(writer.stats().worn, 12);
    // What is left of places is used; the rest goes into chains and is found all the same.
    for i in 0..20 {
        writer.insert(key(i), i as u32).unwrap();
    }
    assert!(writer.stats().overflow >= 20 - (slots - 12));
    assert!((0..20).all(|i| writer.get(key(i)) == Some(i as u32)));
    // Allowed to, the table renews itself.
    writer.retry_at = 0;
    writer.plan();
    writer.insert(key(20), 20).unwrap();
    let stats = writer.stats();
    assert_eq!((stats.worn, stats.entries), (0, 21), "{stats:?}");
    assert!((0..21).all(|i| writer.get(key(i)) == Some(i as u32)));
}

#[test]
fn entries_about_to_wear_out_are_not_displaced() {
    let mut writer = new(3000);
    age_all(&writer);
    (writer.retry_at, writer.reseed_at) = (usize::MAX, usize::MAX);
    writer.plan();
    let mut all = 0;
    while writer.stats().overflow == 0 {
        writer.insert(key(all), all as u32).unwrap();
        all += 1;
    }
    assert_eq!(writer.stats().displacements, 0);
    assert!((0..all).all(|i| writer.get(key(i)) == Some(i as u32)));
}

#[test]
#[should_panic(expected = "the value that says there is none")]
fn the_value_for_absent_cannot_be_stored() {
    let _ = new(0).insert(key(1), MISS);
}
