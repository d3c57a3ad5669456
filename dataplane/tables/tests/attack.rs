//! A tenant picks its own MACs. What can it do to a lookup?
#![cfg(not(loom))]

#[path = "common/constant.rs"]
mod constant;

use std::collections::HashSet;

use constant::Constant;
use weft_tables::{
    fdb::{Fdb, FdbConfig, FdbKey, KeyHash, KeyedHash, MISS, Seed},
    qsbr::Domain,
};

/// Buckets of the table under attack: three quarters of their places are the entries that it is made for. Under
/// Miri few, so that keys that fall together are soon found.
const BUCKETS: u64 = if cfg!(miri) { 16 } else { 256 };

/// The two candidate buckets, as the table computes them.
fn candidates(hash: &KeyedHash, key: FdbKey) -> (u64, u64) {
    let hash = hash.hash(key);
    (((hash & 0xffff_ffff) * BUCKETS) >> 32, ((hash >> 32) * BUCKETS) >> 32)
}

/// MACs of one network that all fall into buckets 0..4 under `seed`: for somebody who knows it, easy.
fn crafted(seed: &Seed, count: usize) -> Vec<FdbKey> {
    let hash = KeyedHash::new(seed);
    (0u64..)
        .map(|mac| FdbKey::new(77, 0x0200_0000_0000 | mac))
        .filter(|&key| {
            let (first, second) = candidates(&hash, key);
            first < 4 && second < 4
        })
        .take(count)
        .collect()
}

fn config(seed: Option<Seed>) -> FdbConfig {
    FdbConfig { seed, initial_capacity: BUCKETS as usize * 3 - 2, ..FdbConfig::default() }
}

#[test]
#[cfg_attr(miri, ignore = "about numbers: it touches no memory that the next one does not")]
fn keys_crafted_against_one_seed_are_harmless_under_another() {
    let known = Seed::fixed(1);
    let keys = crafted(&known, 200);
    let domain = Domain::new(1);
    for other in 2..32 {
        let (mut writer, _) = Fdb::new(&domain, config(Some(Seed::fixed(other))));
        assert_eq!(writer.stats().buckets as u64, BUCKETS);
        for &key in &keys {
            writer.insert(key, 1).unwrap();
        }
        let stats = writer.stats();
        assert_eq!((stats.overflow, stats.anomalies, stats.reseeded), (0, 0, 0), "seed {other}");
        // Nor do they gather: as many buckets are hit as random keys would hit.
        let hash = KeyedHash::new(&Seed::fixed(other));
        let hit: HashSet<u64> = keys.iter().map(|&key| candidates(&hash, key).0).collect();
        assert!(hit.len() > 110, "seed {other}: 200 keys in {} buckets", hit.len());
    }
}

#[test]
fn a_table_whose_seed_is_known_takes_another() {
    let known = Seed::fixed(1);
    let keys = crafted(&known, if cfg!(miri) { 30 } else { 200 });
    let domain = Domain::new(1);
    let mut reader = domain.register("test").unwrap();
    reader.online();
    let (mut writer, fdb) = Fdb::new(&domain, config(Some(known)));
    let mut worst = 0;
    for (i, &key) in keys.iter().enumerate() {
        writer.insert(key, i as u32).unwrap();
        worst = worst.max(writer.stats().overflow);
        assert!(keys[..=i].iter().zip(0..).all(|(&key, i)| fdb.lookup(&reader, key) == i));
        reader.quiescent();
    }
    let stats = writer.stats();
    // The bound that the module states: never more than 8 in chains, and one reseeding settles it.
    assert!(worst == 8, "the keys did not collide, or too many did: {worst}");
    assert_eq!((stats.anomalies, stats.reseeded, stats.overflow), (9, 1, 0), "{stats:?}");
    assert_eq!(fdb.lookup(&reader, FdbKey::new(77, 0)), MISS);
}

/// The same by a bulk replacement: it reseeds, and says so.
#[test]
fn a_replacement_whose_keys_collide_takes_another_seed() {
    let known = Seed::fixed(1);
    let keys = crafted(&known, 200);
    let domain = Domain::new(1);
    let (mut writer, _) = Fdb::new(&domain, config(Some(known)));
    writer.replace_all(keys.iter().map(|key| (*key, 1))).unwrap();
    let stats = writer.stats();
    assert_eq!((stats.entries, stats.reseeded, stats.overflow), (200, 1, 0), "{stats:?}");
    assert!(stats.anomalies > 8, "{stats:?}");
    assert!(keys.iter().all(|key| writer.get(*key) == Some(1)));
}

/// Buckets are compared whole, so that a key's word A is compared with words B, too. A tenant that picks its MAC so
/// that it looks like the B of another's entry must not be sent where that entry leads.
#[test]
fn a_mac_that_looks_like_an_entrys_other_word_finds_nothing() {
    let domain = Domain::new(1);
    let mut reader = domain.register("test").unwrap();
    reader.online();
    // Under Miri there is one width, and no time for all words.
    for &vector_bits in if cfg!(miri) { &[0][..] } else { &[0, 256, 512] } {
        // A table of two buckets: whatever is looked up is compared with all that is there.
        let (mut writer, fdb) = Fdb::new(&domain, FdbConfig { vector_bits, ..FdbConfig::default() });
        let victim = FdbKey::new(2, 0x0200_0000_0001);
        for fills in 1..=if cfg!(miri) { 1 } else { 8 } {
            let value = 0x0123_4567;
            writer.insert(victim, value).unwrap();
            // Every way in which network, value, version and flags might lie in a word, moved by up to 8 bits.
            for (shift, low) in (0..8)
                .flat_map(|shift| (0..if cfg!(miri) { 4 } else { 1 << 10 }).map(move |low| (shift, low)))
            {
                let word = u64::from(value) << (20 + shift) | low;
                let forged = FdbKey::new((word >> 1) as u32 & 0x7fff, word >> 16);
                let mut values = [0; 2];
                fdb.lookup_burst(&reader, &[forged, victim], &mut values);
                assert_eq!(values, [MISS, value], "{word:#x} after {fills} fills, {vector_bits} bits");
            }
            writer.remove(victim);
        }
    }
}

/// Where no seed can help, the table does not go on reseeding: it doubles its patience each time.
#[test]
fn reseeding_ends_where_it_does_not_help() {
    let domain = Domain::new(1);
    let (mut writer, _) = Fdb::<Constant>::with_hash(&domain, config(None));
    let count = if cfg!(miri) { 50 } else { 600 };
    for i in 0..count {
        writer.insert(FdbKey::new(1, i), 1).unwrap();
    }
    let stats = writer.stats();
    assert_eq!((stats.entries, stats.overflow), (count as usize, count as usize - 8));
    assert!((2..8).contains(&stats.reseeded), "{stats:?}");
}

/// As a CRC is not: a difference between two keys tells nothing of the difference of their hashes.
#[test]
fn the_hash_is_not_linear() {
    let hash = KeyedHash::new(&Seed::fixed(5));
    let count = if cfg!(miri) { 50 } else { 1000 };
    let differences: HashSet<u64> = (0..count as u64)
        .map(|mac| {
            let (one, other) = (FdbKey::new(1, mac << 8), FdbKey::new(1, mac << 8 ^ 0x81));
            hash.hash(one) ^ hash.hash(other)
        })
        .collect();
    assert_eq!(differences.len(), count);
}
