//! The forwarding table under the model checker. See `loom_qsbr.rs` for how to run it.
//!
//! Tables are tiny here: buckets have one place instead of four, and the hash is written into the key, so
//! that each test decides which buckets a key has. What is the same is every store, load and fence.
#![cfg(loom)]

use std::sync::Arc;

use loom::thread;
use weft_tables::{
    fdb::{Fdb, FdbConfig, FdbKey, FdbWriter, KeyHash, MISS, Seed},
    qsbr::{Domain, Reader},
};

/// Takes the candidate buckets, out of four, from the MAC.
struct Chosen;

impl KeyHash for Chosen {
    fn new(_: &Seed) -> Self {
        Self
    }

    fn hash(&self, key: FdbKey) -> u64 {
        let (first, second) = (key.mac() & 3, key.mac() >> 2 & 3);
        // Which stripe counts its displacements.
        let stripe = key.mac() >> 4 & 1;
        second << 62 | first << 30 | stripe
    }
}

/// A key with these candidates out of four buckets.
fn key(id: u32, first: u64, second: u64) -> FdbKey {
    FdbKey::new(id, u64::from(id) << 4 | second << 2 | first)
}

type Writer = FdbWriter<Chosen>;
type Table = Arc<Fdb<Chosen>>;

/// A table of four buckets of one place. It grows when three are taken and a fourth is needed.
fn table(entries: &[(FdbKey, u32)]) -> (Arc<Domain>, Writer, Table) {
    let domain = Domain::new(2);
    let config = FdbConfig { initial_capacity: 3, ..FdbConfig::default() };
    let (mut writer, fdb) = Fdb::<Chosen>::with_hash(&domain, config);
    assert_eq!(writer.stats().buckets, 4);
    for &(key, value) in entries {
        writer.insert(key, value).unwrap();
    }
    (domain, writer, fdb)
}

fn online(domain: &Arc<Domain>) -> Reader {
    let mut reader = domain.register("reader").unwrap();
    reader.online();
    reader
}

/// Runs `read` in one thread against `write` in another, in all interleavings with up to `bound`
/// preemptions (none: really all).
fn check<R, W>(bound: Option<usize>, entries: &[(FdbKey, u32)], read: R, write: W)
where
    R: Fn(&Table, &mut Reader) + Send + Sync + Copy + 'static,
    W: Fn(&mut Writer) + Send + Sync + Copy + 'static,
{
    let entries = entries.to_vec();
    let mut model = loom::model::Builder::new();
    model.preemption_bound = bound;
    model.check(move || {
        let (domain, mut writer, fdb) = table(&entries);
        let mut reader = online(&domain);
        let worker = {
            let fdb = Arc::clone(&fdb);
            thread::spawn(move || {
                read(&fdb, &mut reader);
                reader
            })
        };
        write(&mut writer);
        let reader = worker.join().unwrap();
        // Everything has been joined: whatever the writer has is what a reader finds now.
        for (key, value) in writer.iter() {
            assert_eq!(fdb.lookup(&reader, key), value);
        }
        drop(reader);
        domain.collect();
        assert_eq!(domain.pending().items, 0);
    });
}

fn one_of(value: u32, allowed: &[u32]) {
    assert!(allowed.contains(&value), "{value:#x}, not one of {allowed:x?}");
}

#[test]
fn insert() {
    let k = key(1, 0, 1);
    check(
        None,
        &[],
        move |fdb, reader| {
            let first = fdb.lookup(reader, k);
            one_of(first, &[MISS, 7]);
            let second = fdb.lookup(reader, k);
            one_of(second, &[first, 7]);
        },
        move |writer| {
            writer.insert(k, 7).unwrap();
        },
    );
}

#[test]
fn update_in_place() {
    let k = key(1, 0, 1);
    check(
        None,
        &[(k, 7)],
        move |fdb, reader| {
            let first = fdb.lookup(reader, k);
            one_of(first, &[7, 8, 9]);
            let second = fdb.lookup(reader, k);
            assert!(second >= first && second <= 9);
        },
        move |writer| {
            writer.insert(k, 8).unwrap();
            writer.insert(k, 9).unwrap();
        },
    );
}

/// One place is emptied and filled with another key: nobody sees a mixture of the two. Their network ids
/// have the same high bits, so that word B does not tell them apart.
#[test]
fn remove_and_reuse_the_place() {
    let (old, new) = (key(1, 0, 1), key(2, 0, 1));
    check(
        None,
        &[(old, 7)],
        move |fdb, reader| {
            one_of(fdb.lookup(reader, new), &[MISS, 8]);
            let first = fdb.lookup(reader, old);
            one_of(first, &[MISS, 7]);
            if first == MISS {
                assert_eq!(fdb.lookup(reader, old), MISS, "back after it was removed");
            }
        },
        move |writer| {
            writer.remove(old);
            writer.insert(new, 8).unwrap();
        },
    );
}

/// As above, and the old key comes back with another value: the place has been through three versions.
#[test]
fn reuse_the_place_twice() {
    let (a, b) = (key(1, 0, 1), key(2, 0, 1));
    check(
        Some(3),
        &[(a, 7)],
        move |fdb, reader| {
            one_of(fdb.lookup(reader, b), &[MISS, 8]);
            one_of(fdb.lookup(reader, a), &[MISS, 7, 9]);
        },
        move |writer| {
            writer.remove(a);
            writer.insert(b, 8).unwrap();
            writer.remove(b);
            writer.insert(a, 9).unwrap();
        },
    );
}

/// The newcomer's buckets are full; one of the two who are there moves over. Both stay visible.
#[test]
fn displacement() {
    let (a, b, newcomer) = (key(1, 0, 1), key(2, 2, 3), key(3, 0, 2));
    check(
        None,
        &[(a, 7), (b, 8)],
        move |fdb, reader| {
            assert_eq!(fdb.lookup(reader, a), 7);
            one_of(fdb.lookup(reader, newcomer), &[MISS, 9]);
        },
        move |writer| {
            let before = writer.stats().displacements;
            writer.insert(newcomer, 9).unwrap();
            assert_eq!(writer.stats().displacements, before + 1);
        },
    );
}

/// Displaced there and, after room was made, back: a reader that is slow enough misses it both times.
#[test]
fn displacement_there_and_back() {
    let (a, c) = (key(1, 0, 1), key(2, 2, 3));
    let (d, e) = (key(3, 0, 2), key(4, 1, 2));
    check(
        Some(3),
        &[(a, 7), (c, 8)],
        move |fdb, reader| assert_eq!(fdb.lookup(reader, a), 7),
        move |writer| {
            writer.insert(d, 9).unwrap();
            writer.remove(d);
            writer.insert(e, 10).unwrap();
            assert_eq!(writer.stats().displacements, 2);
        },
    );
}

/// The burst takes another way through the counters than the single lookup.
#[test]
fn displacement_against_a_burst() {
    let (a, b, newcomer) = (key(1, 0, 1), key(2, 2, 3), key(3, 0, 2));
    check(
        Some(3),
        &[(a, 7), (b, 8)],
        move |fdb, reader| {
            let mut values = [0; 2];
            fdb.lookup_burst(reader, &[a, b], &mut values);
            assert_eq!(values, [7, 8]);
        },
        move |writer| {
            writer.insert(newcomer, 9).unwrap();
        },
    );
}

fn burst<const N: usize>(fdb: &Table, reader: &Reader, keys: [FdbKey; N]) -> [u32; N] {
    let mut values = [0; N];
    fdb.lookup_burst(reader, &keys, &mut values);
    values
}

/// A burst takes A and B once each. The place of one key is given to another one with the same B.
#[test]
fn a_burst_while_the_place_is_reused() {
    let (old, new) = (key(1, 0, 1), key(2, 0, 1));
    check(
        None,
        &[(old, 7)],
        move |fdb, reader| {
            let [first, second] = burst(fdb, reader, [old, new]);
            one_of(first, &[MISS, 7]);
            one_of(second, &[MISS, 8]);
        },
        move |writer| {
            writer.remove(old);
            writer.insert(new, 8).unwrap();
        },
    );
}

/// As above, and there and back: A may be read in one of three fillings and B in another.
#[test]
fn a_burst_while_the_place_is_reused_twice() {
    let (a, b) = (key(1, 0, 1), key(2, 0, 1));
    check(
        Some(3),
        &[(a, 7)],
        move |fdb, reader| {
            let [first, second] = burst(fdb, reader, [a, b]);
            one_of(first, &[MISS, 7, 9]);
            one_of(second, &[MISS, 8]);
        },
        move |writer| {
            writer.remove(a);
            writer.insert(b, 8).unwrap();
            writer.remove(b);
            writer.insert(a, 9).unwrap();
        },
    );
}

/// Another key's displacement frees a place that is filled at once: both what was there and what comes.
#[test]
fn a_burst_while_entries_are_displaced_and_places_reused() {
    let (a, c) = (key(1, 0, 1), key(2, 2, 3));
    let (d, e) = (key(3, 0, 2), key(4, 1, 2));
    check(
        Some(2),
        &[(a, 7), (c, 8)],
        move |fdb, reader| {
            let [first, second, third] = burst(fdb, reader, [a, c, d]);
            assert_eq!((first, second), (7, 8));
            one_of(third, &[MISS, 9]);
        },
        move |writer| {
            writer.insert(d, 9).unwrap();
            writer.remove(d);
            writer.insert(e, 10).unwrap();
            assert_eq!(writer.stats().displacements, 2);
        },
    );
}

/// Keys that differ in word B only: one bucket holds the one, and the other is asked for.
#[test]
fn a_burst_for_the_same_mac_in_another_network() {
    // Ids from 2^15 on are in word B; the MAC, which chooses the buckets, is the same.
    let (a, b) = (FdbKey::new(1, 4), FdbKey::new(1 | 1 << 15, 4));
    check(
        Some(3),
        &[(a, 7)],
        move |fdb, reader| {
            let [first, second] = burst(fdb, reader, [a, b]);
            assert_eq!(first, 7);
            one_of(second, &[MISS, 8]);
        },
        move |writer| {
            writer.insert(b, 8).unwrap();
        },
    );
}

/// A value changes under a burst: the one or the other.
#[test]
fn a_burst_while_a_value_is_updated() {
    let k = key(1, 0, 1);
    check(
        None,
        &[(k, 7)],
        move |fdb, reader| {
            let [first] = burst(fdb, reader, [k]);
            one_of(first, &[7, 8]);
            let [second] = burst(fdb, reader, [k]);
            assert!(second >= first && second <= 8);
        },
        move |writer| {
            writer.insert(k, 8).unwrap();
        },
    );
}

/// Two moves on one way: the second goes to the place that the first has left.
#[test]
fn displacement_of_two() {
    // 0: a, which can go to 1; 1: b, which can go to 2. The newcomer has 0 and 3, and 3 is c's, which can
    // only go to 0.
    let (a, b, c, newcomer) = (key(1, 0, 1), key(2, 1, 2), key(3, 3, 0), key(4, 0, 3));
    check(
        Some(3),
        &[(b, 8), (a, 7), (c, 9)],
        move |fdb, reader| {
            assert_eq!(fdb.lookup(reader, a), 7);
            assert_eq!(fdb.lookup(reader, b), 8);
        },
        move |writer| {
            writer.insert(newcomer, 10).unwrap();
            assert_eq!(writer.stats().displacements, 2);
        },
    );
}

/// Keys of one hash beyond their two places: in and out of a chain, whose nodes are reclaimed.
#[test]
fn overflow() {
    let (a, b, c) = (key(1, 0, 1), key(2, 0, 1), key(3, 0, 1));
    check(
        Some(3),
        &[(a, 1), (b, 2)],
        move |fdb, reader| {
            let first = fdb.lookup(reader, c);
            one_of(first, &[MISS, 3]);
            reader.quiescent();
            one_of(fdb.lookup(reader, c), &[MISS, 3]);
            assert_eq!(fdb.lookup(reader, b), 2);
        },
        move |writer| {
            writer.insert(c, 3).unwrap();
            assert_eq!((writer.stats().overflow, writer.stats().grown), (1, 0));
            writer.remove(c);
        },
    );
}

/// The chain grows in front of an entry of it, and the table grows under it.
#[test]
fn overflow_with_growth() {
    let (a, b, c, d) = (key(1, 0, 1), key(2, 0, 1), key(3, 0, 1), key(4, 0, 1));
    check(
        Some(2),
        &[(a, 1), (b, 2), (c, 3)],
        move |fdb, reader| {
            assert_eq!(fdb.lookup(reader, c), 3);
            one_of(fdb.lookup(reader, d), &[MISS, 4]);
            reader.quiescent();
            assert_eq!(fdb.lookup(reader, c), 3);
        },
        move |writer| {
            writer.insert(d, 4).unwrap();
            assert_eq!(writer.stats().overflow, 2);
            writer.remove(d);
        },
    );
}

/// A reader stands on a node that is unlinked; what is behind it must still be found.
#[test]
fn overflow_unlinks_before_a_reader() {
    let (a, b, c, d) = (key(1, 0, 1), key(2, 0, 1), key(3, 0, 1), key(4, 0, 1));
    check(
        Some(3),
        &[(a, 1), (b, 2), (c, 3), (d, 4)],
        // The chain is d, c.
        move |fdb, reader| assert_eq!(fdb.lookup(reader, c), 3),
        move |writer| {
            writer.remove(d);
        },
    );
}

/// The table grows under the reader: what was there stays, what came is found or not, and the old table
/// is freed when the reader has let go of it.
#[test]
fn growth() {
    let (a, b, c, d) = (key(1, 0, 1), key(2, 1, 2), key(3, 2, 3), key(4, 3, 0));
    check(
        Some(2),
        &[(a, 1), (b, 2), (c, 3)],
        move |fdb, reader| {
            assert_eq!(fdb.lookup(reader, a), 1);
            reader.quiescent();
            one_of(fdb.lookup(reader, d), &[MISS, 4]);
            assert_eq!(fdb.lookup(reader, c), 3);
        },
        move |writer| {
            assert_eq!(writer.stats().grown, 0);
            writer.insert(d, 4).unwrap();
            assert_eq!(writer.stats().grown, 1);
        },
    );
}

/// Shrinking is the same swap the other way, after a removal.
#[test]
fn shrinking() {
    let a = key(1, 0, 1);
    let visitors = [key(2, 0, 1), key(3, 1, 2), key(4, 2, 3), key(5, 3, 0), key(6, 0, 2), key(7, 1, 3)];
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(move || {
        let (domain, mut writer, fdb) = table(&[(a, 1)]);
        for key in visitors {
            writer.insert(key, 9).unwrap();
        }
        // 16 places now, and shrinking begins below 2 entries.
        for key in &visitors[1..] {
            writer.remove(*key);
        }
        assert_eq!((writer.len(), writer.stats().shrunk), (2, 0));
        let reader = online(&domain);
        let worker = thread::spawn(move || {
            assert_eq!(fdb.lookup(&reader, a), 1);
            one_of(fdb.lookup(&reader, visitors[0]), &[MISS, 9]);
        });
        writer.remove(visitors[0]);
        assert_eq!(writer.stats().shrunk, 1);
        worker.join().unwrap();
    });
}

/// A bulk replacement is seen whole by a burst.
#[test]
fn replace_all() {
    let (a, b) = (key(1, 0, 1), key(2, 2, 3));
    check(
        Some(3),
        &[(a, 1), (b, 1)],
        move |fdb, reader| {
            let mut values = [0; 2];
            fdb.lookup_burst(reader, &[a, b], &mut values);
            one_of(values[0], &[1, 2]);
            assert_eq!(values[0], values[1]);
        },
        move |writer| writer.replace_all([(a, 2), (b, 2)]).unwrap(),
    );
}
