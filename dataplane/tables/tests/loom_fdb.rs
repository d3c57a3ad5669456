//! The forwarding table under the model checker. See `loom_qsbr.rs` for how to run it.
//!
//! Tables are tiny here: buckets have one place instead of four, and the hash is written into the key, so
//! that each test decides which buckets a key has. What is the same is every store, load and fence.
#![cfg(loom)]

#[path = "common/chosen.rs"]
mod chosen;

use chosen::{FOUR, check, key, model, one_of, online, table};
use loom::thread;
use weft_tables::fdb::MISS;

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
