//! A writer at full speed, readers that know what must be there. Two seconds a test by default, or as many as wanted:
//!
//! ```text
//! WEFT_STRESS_SECONDS=300 cargo test -p weft-tables --release --test stress
//! ```
#![cfg(not(loom))]

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use weft_tables::{
    Published, SlotTable,
    fdb::{Fdb, FdbConfig, FdbKey, FdbWriter, MAX_BURST, MISS},
    qsbr::{Domain, Reader},
};

const READERS: usize = 2;

fn seconds() -> Duration {
    let default = if cfg!(miri) { 20.0 } else { 2.0 };
    let seconds =
        env::var("WEFT_STRESS_SECONDS").map_or(default, |s| s.parse().expect("a number of seconds"));
    Duration::from_secs_f64(seconds)
}

/// A small generator, so that the test's own work does not hide the races.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % limit
    }
}

/// Every way to compare that a machine may have. Miri knows one.
const WIDTHS: &[u32] = if cfg!(miri) { &[0] } else { &[0, 256, 512] };

/// Runs a test for each way to compare, in all for as long as [`seconds`] says.
fn for_each_width(test: impl Fn(u32, Duration)) {
    for &bits in WIDTHS {
        println!("{bits} bits:");
        test(bits, seconds() / WIDTHS.len() as u32);
    }
}

/// Of the numbers of a test: what Miri, a thousand times slower, can do.
const fn scaled(number: u32, under_miri: u32) -> u32 {
    if cfg!(miri) { under_miri } else { number }
}

/// Turns of a reader's loop before it goes offline for a moment.
const TURNS: u32 = scaled(64, 1);

/// What a test must have seen of everything it is about, or it has tested nothing.
const ENOUGH: u64 = scaled(10, 1) as u64;

/// Runs `write` until the time is up while readers run `read`; returns how often readers ran.
fn race(
    domain: &Arc<Domain>,
    time: Duration,
    read: impl Fn(&mut Reader, &mut Random) + Sync,
    mut write: impl FnMut(&mut Random),
) -> u64 {
    let stop = AtomicBool::new(false);
    let rounds = AtomicU64::new(0);
    thread::scope(|scope| {
        for id in 0..READERS {
            let (stop, rounds, read) = (&stop, &rounds, &read);
            let mut reader = domain.register(&format!("reader {id}")).unwrap();
            scope.spawn(move || {
                // A failed reader must end the test and not leave the writer running.
                let _guard = StopOnDrop(stop);
                let mut random = Random(id as u64 + 1);
                let mut turns = 0;
                while !stop.load(Ordering::Relaxed) {
                    reader.online();
                    for _ in 0..TURNS {
                        read(&mut reader, &mut random);
                        reader.quiescent();
                        turns += 1;
                    }
                    // Now and then it sleeps, as an idle worker does.
                    reader.offline();
                    if random.below(64) == 0 {
                        thread::sleep(Duration::from_micros(50));
                    }
                }
                rounds.fetch_add(turns, Ordering::Relaxed);
            });
        }
        let mut random = Random(0x9e37_79b9);
        let end = Instant::now() + time;
        while Instant::now() < end && !stop.load(Ordering::Relaxed) {
            write(&mut random);
        }
        stop.store(true, Ordering::Relaxed);
    });
    domain.synchronize(Duration::from_secs(10)).unwrap();
    assert_eq!(domain.pending().items, 0);
    rounds.load(Ordering::Relaxed)
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Keys that are always there, with the value that belongs to them (or, once changed, its complement).
fn resident(i: u32) -> FdbKey {
    FdbKey::new(i % 7, 0x0200_0000_0000 + u64::from(i))
}

/// Keys that come and go. Their values say which key they belong to.
fn visitor(i: u32) -> FdbKey {
    FdbKey::new(i % 7, 0x0600_0000_0000 + u64::from(i))
}

const VISITOR_VALUE: u32 = 1 << 30;

/// Keys in a burst.
const BURST: usize = if cfg!(miri) { 4 } else { MAX_BURST };

/// Readers look up random bursts of residents and visitors.
fn check_burst(fdb: &Fdb, reader: &Reader, random: &mut Random, residents: u32, visitors: u32) {
    let mut keys = [resident(0); BURST];
    let mut which = [0; BURST];
    for (key, which) in keys.iter_mut().zip(&mut which) {
        *which = random.below(u64::from(residents + visitors)) as u32;
        *key = if *which < residents { resident(*which) } else { visitor(*which - residents) };
    }
    let mut values = [0; BURST];
    let count = 1 + random.below(BURST as u64) as usize;
    if count == 1 {
        values[0] = fdb.lookup(reader, keys[0]);
    } else {
        fdb.lookup_burst(reader, &keys[..count], &mut values[..count]);
    }
    for (which, value) in which.into_iter().zip(values).take(count) {
        if which < residents {
            assert!(value == which || value == which | 1 << 29, "resident {which} reads {value:#x}");
        } else {
            let own = VISITOR_VALUE | (which - residents);
            assert!(value == MISS || value == own, "visitor {} reads {value:#x}", which - residents);
        }
    }
}

fn table(domain: &Arc<Domain>, vector_bits: u32, residents: u32, capacity: usize) -> (FdbWriter, Arc<Fdb>) {
    let config = FdbConfig { initial_capacity: capacity, vector_bits, ..FdbConfig::default() };
    let (mut writer, fdb) = Fdb::new(domain, config);
    let entries: Vec<_> = (0..residents).map(|i| (resident(i), i)).collect();
    writer.insert_all(&entries).unwrap();
    (writer, fdb)
}

/// Changes a table that holds `residents` for good: values of these, and visitors in and out, so that it is always
/// all but full at `most` entries.
fn disturb(writer: &mut FdbWriter, random: &mut Random, residents: u32, visitors: u32, most: usize) {
    for _ in 0..scaled(256, 16) {
        let i = random.below(u64::from(visitors)) as u32;
        match random.below(16) {
            0 => {
                let i = random.below(u64::from(residents)) as u32;
                writer.insert(resident(i), i | (random.below(2) as u32) << 29).unwrap();
            }
            _ if writer.len() >= most || random.below(8) == 0 => {
                writer.remove(visitor(i));
            }
            _ => {
                writer.insert(visitor(i), VISITOR_VALUE | i).unwrap();
            }
        }
    }
}

/// A table of fixed size that is as full as it gets, in which nearly every insert displaces others.
fn displacement_in(capacity: u32) {
    for_each_width(|bits, time| {
        let domain = Domain::new(READERS + 1);
        let (residents, visitors) = (capacity / 2, capacity);
        let (mut writer, fdb) = table(&domain, bits, residents, capacity as usize);
        // Where this table would grow; kept just below. Filled up at once, so that no time is spent on that.
        let most = capacity as usize - 1;
        let fill: Vec<_> = (0..most as u32 - residents).map(|i| (visitor(i), VISITOR_VALUE | i)).collect();
        writer.insert_all(&fill).unwrap();
        let before = writer.stats();
        let rounds = race(
            &domain,
            time,
            |reader, random| check_burst(&fdb, reader, random, residents, visitors),
            |random| disturb(&mut writer, random, residents, visitors, most),
        );
        let stats = writer.stats();
        println!("{rounds} bursts; {stats:?}");
        let displaced = stats.displacements - before.displacements;
        assert!(rounds >= ENOUGH && displaced >= ENOUGH, "nothing was tested: {rounds}, {displaced}");
        assert_eq!((stats.grown, stats.buckets), (0, before.buckets));
    });
}

#[test]
fn displacement_at_full_load() {
    displacement_in(scaled(5400, 50));
}

/// Of more than 65,536 buckets, where bursts ask for the second buckets' lines beforehand. (For Miri, which has no
/// time for so many, it is just another small one.)
#[test]
fn displacement_in_a_large_table() {
    let capacity = scaled(300_000, 30);
    displacement_in(capacity);
    let (writer, _) = table(&Domain::new(1), 0, 0, capacity as usize);
    assert!(cfg!(miri) || writer.stats().buckets > 1 << 16);
}

/// Changes in bursts: what is inserted together is found one after the other, with growth in between.
#[test]
fn bursts_of_changes() {
    for_each_width(|bits, time| {
        let domain = Domain::new(READERS + 1);
        let residents = scaled(1000, 8);
        let visitors = scaled(4000, 40);
        let (mut writer, fdb) = table(&domain, bits, residents, 0);
        let rounds = race(
            &domain,
            time,
            |reader, random| check_burst(&fdb, reader, random, residents, visitors),
            |random| {
                let from = random.below(u64::from(visitors)) as u32;
                let to = (from + 1 + random.below(u64::from(visitors) / 4) as u32).min(visitors);
                if random.below(8) < 5 {
                    // Residents' values among the new ones: a burst that adds and updates.
                    let residents =
                        (from..to).map(|i| i % residents).map(|i| (resident(i), i | (from & 1) << 29));
                    let visitors = (from..to).map(|i| (visitor(i), VISITOR_VALUE | i));
                    let entries: Vec<_> = visitors.zip(residents).flat_map(|(one, two)| [one, two]).collect();
                    writer.insert_all(&entries).unwrap();
                    assert!((from..to).all(|i| writer.get(visitor(i)) == Some(VISITOR_VALUE | i)));
                } else if random.below(16) == 0 {
                    writer.retain(|_, value| value & VISITOR_VALUE == 0);
                } else {
                    for i in from..to {
                        writer.remove(visitor(i));
                    }
                }
            },
        );
        let stats = writer.stats();
        println!("{rounds} bursts; {stats:?}");
        assert!(
            rounds > ENOUGH && stats.grown > scaled(3, 0).into(),
            "nothing was tested: {rounds}, {stats:?}"
        );
    });
}

/// Growing, shrinking and bulk replacement under the readers, and overflow with them as tables are small.
#[test]
fn rebuilding_all_the_time() {
    for_each_width(|bits, time| {
        let domain = Domain::new(READERS + 1);
        let residents = scaled(20, 4);
        let visitors = scaled(2000, 24);
        let (mut writer, fdb) = table(&domain, bits, residents, 0);
        let rounds = race(
            &domain,
            time,
            |reader, random| check_burst(&fdb, reader, random, residents, visitors),
            |random| match random.below(3) {
                0 => {
                    for i in 0..visitors {
                        writer.insert(visitor(i), VISITOR_VALUE | i).unwrap();
                    }
                }
                1 => {
                    for i in 0..visitors {
                        writer.remove(visitor(i));
                    }
                }
                _ => {
                    let some = random.below(u64::from(visitors)) as u32;
                    let residents = (0..residents).map(|i| (resident(i), i));
                    let entries = residents.chain((0..some).map(|i| (visitor(i), VISITOR_VALUE | i)));
                    writer.replace_all(entries).unwrap();
                }
            },
        );
        let stats = writer.stats();
        println!("{rounds} bursts; {stats:?}");
        assert!(rounds > ENOUGH && stats.grown > 3, "nothing was tested: {rounds}, {stats:?}");
        assert!(stats.shrunk > 0 && stats.replaced > 0, "nothing was tested: {stats:?}");
    });
}

/// What is removed is found no more by any lookup that begins afterwards, and what is inserted is found; alone, and
/// in a burst.
#[test]
fn a_change_is_seen_by_whoever_hears_of_it() {
    for_each_width(|bits, time| {
        let domain = Domain::new(READERS + 1);
        let residents = scaled(500, 30);
        let most = scaled(655, 55) as usize;
        let (mut writer, fdb) = table(&domain, bits, residents, most + 5);
        // Upper bits: the turn; lowest bit: whether visitor 0 is there. 0 while a change is under way.
        let announced = AtomicU64::new(0);
        let heard = AtomicU64::new(0);
        let mut turn = 0;
        let rounds = race(
            &domain,
            time,
            |reader, random| {
                let before = announced.load(Ordering::Acquire);
                let mut value = [0, 0];
                if random.below(2) == 0 {
                    value[0] = fdb.lookup(reader, visitor(0));
                } else {
                    fdb.lookup_burst(reader, &[visitor(0), resident(0)], &mut value);
                }
                // Acquire loads above are not passed by this one: the announcement still stood.
                std::sync::atomic::fence(Ordering::Acquire);
                if before != 0 && announced.load(Ordering::Relaxed) == before {
                    let expected = if before & 1 == 1 { VISITOR_VALUE } else { MISS };
                    assert_eq!(value[0], expected, "announced {before:#x}");
                    heard.fetch_add(1, Ordering::Relaxed);
                }
            },
            |random| {
                turn += 1;
                announced.store(0, Ordering::Release);
                // The reader that sees anything of the change sees this 0, or what follows.
                std::sync::atomic::fence(Ordering::Release);
                let present = random.below(2);
                if present == 1 {
                    writer.insert(visitor(0), VISITOR_VALUE).unwrap();
                } else {
                    writer.remove(visitor(0));
                }
                announced.store(turn << 1 | present, Ordering::Release);
                // Others come and go, and push it about.
                for _ in 0..scaled(64, 4) {
                    let i = 1 + random.below(200) as u32;
                    if writer.len() < most && random.below(4) != 0 {
                        writer.insert(visitor(i), VISITOR_VALUE | i).unwrap();
                    } else {
                        writer.remove(visitor(i));
                    }
                }
            },
        );
        let heard = heard.into_inner();
        println!("{rounds} lookups, {heard} of them told what to find; {turn} turns");
        assert!(
            rounds > ENOUGH && turn > ENOUGH && heard > ENOUGH,
            "nothing was tested: {rounds}, {turn}, {heard}"
        );
    });
}

/// Snapshots and slots: what was loaded is whole and alive until the quiescent state.
#[test]
fn published_values_and_slots() {
    struct Snapshot {
        number: u64,
        copies: Vec<u64>,
    }
    impl Snapshot {
        fn new(number: u64) -> Self {
            Self { number, copies: vec![number; 32] }
        }
        fn check(&self) -> u64 {
            assert!(self.copies.iter().all(|&copy| copy == self.number));
            self.number
        }
    }
    impl Drop for Snapshot {
        fn drop(&mut self) {
            self.copies.fill(u64::MAX);
        }
    }

    let domain = Domain::new(READERS);
    let published = Published::new(&domain, Snapshot::new(0));
    let slots = SlotTable::<Snapshot>::new(&domain, 16);
    let mut number = 0;
    let rounds = race(
        &domain,
        seconds(),
        |reader, random| {
            let snapshot = published.load(reader);
            let first = snapshot.check();
            if let Some(slot) = slots.view(reader).get(random.below(17) as u32) {
                slot.check();
            }
            assert_eq!(snapshot.check(), first);
            assert!(published.load(reader).check() >= first);
        },
        |random| {
            number += 1;
            published.swap(Snapshot::new(number));
            slots.set(random.below(16) as u32, (random.below(4) != 0).then(|| Snapshot::new(number)));
        },
    );
    assert!(rounds > ENOUGH && number > ENOUGH, "nothing was tested");
}
