//! Bursts of lookups, and keys in their second bucket, under the model checker. See `loom_fdb.rs` for what its tables
//! are like.
#![cfg(loom)]

#[path = "common/chosen.rs"]
mod chosen;

use chosen::{EIGHT, FOUR, Table, Writer, burst, check, check_in, insert_each, key, one_of};
use weft_tables::{
    fdb::{FdbKey, MISS},
    qsbr::Reader,
};

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
