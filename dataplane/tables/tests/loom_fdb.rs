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
const fn key(id: u32, first: u64, second: u64) -> FdbKey {
    FdbKey::new(id, (id as u64) << 4 | second << 2 | first)
}

type Writer = FdbWriter<Chosen>;
type Table = Arc<Fdb<Chosen>>;

/// Entries that a table of four buckets takes before it grows; and one of eight, in which keys have every other
/// bucket. Of a source in which that is large, bursts in the latter take a large table's way.
const FOUR: usize = 3;
const EIGHT: usize = 6;

fn table(capacity: usize) -> (Arc<Domain>, Writer, Table) {
    let domain = Domain::new(2);
    let config = FdbConfig { initial_capacity: capacity, ..FdbConfig::default() };
    let (writer, fdb) = Fdb::<Chosen>::with_hash(&domain, config);
    assert_eq!(writer.stats().buckets, if capacity == FOUR { 4 } else { 8 });
    (domain, writer, fdb)
}

fn insert_each(writer: &mut Writer, entries: &[(FdbKey, u32)]) {
    for &(key, value) in entries {
        writer.insert(key, value).unwrap();
    }
}

fn online(domain: &Arc<Domain>) -> Reader {
    let mut reader = domain.register("reader").unwrap();
    reader.online();
    reader
}

/// All interleavings with up to `bound` preemptions (none: really all). A table's making and growing alone take more
/// steps than the thousand that loom expects of a model.
fn model(bound: Option<usize>) -> loom::model::Builder {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = bound;
    model.max_branches = 10_000;
    model
}

/// Runs `read` in one thread against `write` in another, on a table of four buckets with these entries.
fn check<R, W>(bound: Option<usize>, entries: &[(FdbKey, u32)], read: R, write: W)
where
    R: Fn(&Table, &mut Reader) + Send + Sync + Copy + 'static,
    W: Fn(&mut Writer) + Send + Sync + Copy + 'static,
{
    let entries = entries.to_vec();
    check_in(FOUR, bound, move |writer| insert_each(writer, &entries), read, write);
}

/// As [`check`], on a table of another size, with what `prepare` does to it.
fn check_in<P, R, W>(capacity: usize, bound: Option<usize>, prepare: P, read: R, write: W)
where
    P: Fn(&mut Writer) + Send + Sync + 'static,
    R: Fn(&Table, &mut Reader) + Send + Sync + Copy + 'static,
    W: Fn(&mut Writer) + Send + Sync + Copy + 'static,
{
    model(bound).check(move || {
        let (domain, mut writer, fdb) = table(capacity);
        prepare(&mut writer);
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
        // Everything has been joined: whatever the writer has is what a reader finds now, by either way.
        for (key, value) in writer.iter() {
            assert_eq!(fdb.lookup(&reader, key), value);
            assert_eq!(burst(&fdb, &reader, [key]), [value]);
        }
        drop(reader);
        domain.collect();
        assert_eq!(domain.pending().items, 0);
    });
}

fn burst<const N: usize>(fdb: &Table, reader: &Reader, keys: [FdbKey; N]) -> [u32; N] {
    let mut values = [0; N];
    fdb.lookup_burst(reader, &keys, &mut values);
    values
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

/// Another key's displacement frees a place that is filled at once: both what was there and what comes. A burst
/// of two keys would take minutes.
fn a_burst_while_entries_are_displaced_and_places_reused(
    read: impl Fn(&Table, &mut Reader) + Send + Sync + Copy + 'static,
) {
    let (d, e) = (key(3, 0, 2), key(4, 1, 2));
    check(Some(2), &[(key(1, 0, 1), 7), (key(2, 2, 3), 8)], read, move |writer| {
        writer.insert(d, 9).unwrap();
        writer.remove(d);
        writer.insert(e, 10).unwrap();
        assert_eq!(writer.stats().displacements, 2);
    });
}

#[test]
fn a_burst_for_what_is_displaced_while_places_are_reused() {
    a_burst_while_entries_are_displaced_and_places_reused(|fdb, reader| {
        assert_eq!(burst(fdb, reader, [key(1, 0, 1)]), [7]);
    });
}

#[test]
fn a_burst_for_what_comes_while_places_are_reused() {
    a_burst_while_entries_are_displaced_and_places_reused(|fdb, reader| {
        let [comes] = burst(fdb, reader, [key(3, 0, 2)]);
        one_of(comes, &[MISS, 9]);
    });
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

/// In bucket 0 is a key, so that the next one of that bucket is a stray, in 1.
const OWNER: FdbKey = key(1, 0, 1);
/// Of an id as even as other strays': these are counted together.
const STRAY: FdbKey = key(2, 0, 1);

/// A stray is taken out: gone for a burst, it is gone for the single lookup that follows, which does not ask
/// whether there are strays; and the other way round.
#[test]
fn a_stray_is_removed() {
    for capacity in [FOUR, EIGHT] {
        check_in(
            capacity,
            Some(3),
            |writer| insert_each(writer, &[(OWNER, 7), (STRAY, 8)]),
            move |fdb, reader| {
                let [first] = burst(fdb, reader, [STRAY]);
                one_of(first, &[MISS, 8]);
                let second = fdb.lookup(reader, STRAY);
                one_of(second, &[MISS, first]);
                let [third] = burst(fdb, reader, [STRAY]);
                one_of(third, &[MISS, second]);
            },
            move |writer| {
                assert_eq!(writer.remove(STRAY), Some(8));
            },
        );
    }
}

/// As above by another way to take entries out.
#[test]
fn a_stray_is_not_retained() {
    check(
        Some(3),
        &[(OWNER, 7), (STRAY, 8)],
        move |fdb, reader| {
            let [owner, first] = burst(fdb, reader, [OWNER, STRAY]);
            assert_eq!(owner, 7);
            one_of(first, &[MISS, 8]);
            one_of(fdb.lookup(reader, STRAY), &[MISS, first]);
        },
        move |writer| writer.retain(|_, value| value != 8),
    );
}

/// A key becomes a stray as it is inserted: found by a single lookup, it is found by the burst that follows, which
/// asks whether there are strays; and the other way round.
#[test]
fn a_stray_is_inserted() {
    for capacity in [FOUR, EIGHT] {
        check_in(
            capacity,
            Some(3),
            |writer| insert_each(writer, &[(OWNER, 7)]),
            move |fdb, reader| {
                let first = fdb.lookup(reader, STRAY);
                one_of(first, &[MISS, 8]);
                let [second] = burst(fdb, reader, [STRAY]);
                one_of(second, &[first, 8]);
                one_of(fdb.lookup(reader, STRAY), &[second, 8]);
            },
            move |writer| {
                writer.insert(STRAY, 8).unwrap();
            },
        );
    }
}

/// As above, where it has to displace another from its second bucket: two keys become strays, one after the other.
#[test]
fn a_stray_is_inserted_that_displaces() {
    let (a, c, newcomer) = (key(1, 0, 2), key(2, 2, 3), key(3, 0, 2));
    for capacity in [FOUR, EIGHT] {
        check_in(
            capacity,
            Some(3),
            move |writer| insert_each(writer, &[(a, 7), (c, 8)]),
            move |fdb, reader| {
                let first = fdb.lookup(reader, newcomer);
                one_of(first, &[MISS, 9]);
                let [second, displaced] = burst(fdb, reader, [newcomer, c]);
                one_of(second, &[first, 9]);
                assert_eq!(displaced, 8);
            },
            move |writer| {
                writer.insert(newcomer, 9).unwrap();
                assert_eq!(writer.stats().displacements, 1);
            },
        );
    }
}

/// A stray's first bucket has become free, and somebody else needs its second: it goes back.
fn a_stray_goes_back(
    bound: Option<usize>,
    read: impl Fn(&Table, &mut Reader) + Send + Sync + Copy + 'static,
) {
    let (other, newcomer) = (key(3, 2, 3), key(4, 1, 2));
    // The owner's removal leaves in bucket 0 an entry that has been used.
    let prepare = move |writer: &mut Writer| {
        insert_each(writer, &[(OWNER, 7), (STRAY, 8), (other, 9)]);
        writer.remove(OWNER);
    };
    let write = move |writer: &mut Writer| {
        writer.insert(newcomer, 10).unwrap();
        assert_eq!(writer.stats().displacements, 1);
    };
    for capacity in [FOUR, EIGHT] {
        check_in(capacity, bound, prepare, read, write);
    }
}

#[test]
fn a_stray_goes_back_under_a_single_lookup() {
    a_stray_goes_back(Some(3), |fdb, reader| assert_eq!(fdb.lookup(reader, STRAY), 8));
}

#[test]
fn a_stray_goes_back_under_a_burst() {
    a_stray_goes_back(Some(3), |fdb, reader| assert_eq!(burst(fdb, reader, [STRAY]), [8]));
}

#[test]
fn a_stray_goes_back_under_a_burst_for_its_successor() {
    let newcomer = key(4, 1, 2);
    a_stray_goes_back(Some(2), move |fdb, reader| {
        let [stray, first] = burst(fdb, reader, [STRAY, newcomer]);
        assert_eq!(stray, 8);
        one_of(first, &[MISS, 10]);
    });
}

/// Another key that is counted with a stray becomes one too, and leaves again.
#[test]
fn a_stray_gets_company() {
    let company = key(4, 0, 2);
    for capacity in [FOUR, EIGHT] {
        check_in(
            capacity,
            Some(3),
            |writer| insert_each(writer, &[(OWNER, 7), (STRAY, 8)]),
            move |fdb, reader| {
                let [stray, first] = burst(fdb, reader, [STRAY, company]);
                assert_eq!(stray, 8);
                one_of(first, &[MISS, 9]);
                assert_eq!(fdb.lookup(reader, STRAY), 8);
            },
            move |writer| {
                writer.insert(company, 9).unwrap();
                writer.remove(company);
            },
        );
    }
}

/// A stray is taken out and comes back with another value; the count goes through zero.
#[test]
fn a_stray_comes_back() {
    check(
        Some(3),
        &[(OWNER, 7), (STRAY, 8)],
        move |fdb, reader| {
            let [owner, first] = burst(fdb, reader, [OWNER, STRAY]);
            assert_eq!(owner, 7);
            one_of(first, &[MISS, 8, 9]);
            one_of(fdb.lookup(reader, STRAY), if first == 9 { &[9] } else { &[MISS, 8, 9] });
        },
        move |writer| {
            writer.remove(STRAY);
            writer.insert(STRAY, 9).unwrap();
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

/// A burst uses one table, whichever it is; with strays in both.
#[test]
fn growth_under_a_burst() {
    let (third, newcomer) = (key(3, 2, 3), key(4, 3, 0));
    check(
        Some(3),
        &[(OWNER, 1), (STRAY, 2), (third, 3)],
        move |fdb, reader| {
            let [owner, stray, first] = burst(fdb, reader, [OWNER, STRAY, newcomer]);
            assert_eq!((owner, stray), (1, 2));
            one_of(first, &[MISS, 4]);
            reader.quiescent();
            let [stray, second] = burst(fdb, reader, [STRAY, newcomer]);
            assert_eq!(stray, 2);
            one_of(second, &[first, 4]);
        },
        move |writer| {
            assert_eq!(writer.stats().grown, 0);
            writer.insert_all(&[(newcomer, 4)]).unwrap();
            assert_eq!(writer.stats().grown, 1);
        },
    );
}

/// Shrinking is the same swap the other way, after a removal.
#[test]
fn shrinking() {
    let a = key(1, 0, 1);
    let visitors = [key(2, 0, 1), key(3, 1, 2), key(4, 2, 3), key(5, 3, 0), key(6, 0, 2), key(7, 1, 3)];
    model(Some(2)).check(move || {
        let (domain, mut writer, fdb) = table(FOUR);
        writer.insert(a, 1).unwrap();
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
