//! A writer at full speed, readers that know what must be there. Seconds by default; minutes on demand:
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
    let seconds = env::var("WEFT_STRESS_SECONDS").map_or(2.0, |s| s.parse().expect("a number of seconds"));
    Duration::from_secs_f64(if cfg!(miri) { 0.05 } else { seconds })
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

/// Runs `write` until the time is up while readers run `read`; returns how often readers ran.
fn race(
    domain: &Arc<Domain>,
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
                    for _ in 0..64 {
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
        let end = Instant::now() + seconds();
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

/// Readers look up random bursts of residents and visitors.
fn check_burst(fdb: &Fdb, reader: &Reader, random: &mut Random, residents: u32, visitors: u32) {
    let mut keys = [resident(0); MAX_BURST];
    let mut which = [0; MAX_BURST];
    for (key, which) in keys.iter_mut().zip(&mut which) {
        *which = random.below(u64::from(residents + visitors)) as u32;
        *key = if *which < residents { resident(*which) } else { visitor(*which - residents) };
    }
    let mut values = [0; MAX_BURST];
    let count = 1 + random.below(MAX_BURST as u64) as usize;
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

fn table(domain: &Arc<Domain>, residents: u32, capacity: usize) -> (FdbWriter, Arc<Fdb>) {
    let config = FdbConfig { initial_capacity: capacity, ..FdbConfig::default() };
    let (mut writer, fdb) = Fdb::new(domain, config);
    for i in 0..residents {
        writer.insert(resident(i), i).unwrap();
    }
    (writer, fdb)
}

/// In a table of fixed size that is as full as it gets, nearly every insert displaces others.
#[test]
fn displacement_at_full_load() {
    let domain = Domain::new(READERS + 1);
    let capacity = if cfg!(miri) { 100 } else { 5400 };
    let residents = capacity as u32 / 2;
    let visitors = capacity as u32;
    let (mut writer, fdb) = table(&domain, residents, capacity);
    // Where this table would grow; kept just below.
    let most = capacity - 1;
    let rounds = race(
        &domain,
        |reader, random| check_burst(&fdb, reader, random, residents, visitors),
        |random| {
            for _ in 0..256 {
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
        },
    );
    let stats = writer.stats();
    println!("{rounds} bursts; {stats:?}");
    assert!(rounds > 10 && stats.displacements > 10, "nothing was tested");
    assert_eq!(stats.grown, 0);
}

/// Growing, shrinking and bulk replacement under the readers, and overflow with them as tables are small.
#[test]
fn rebuilding_all_the_time() {
    let domain = Domain::new(READERS + 1);
    let residents = 20;
    let visitors = if cfg!(miri) { 60 } else { 2000 };
    let (mut writer, fdb) = table(&domain, residents, 0);
    let rounds = race(
        &domain,
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
    assert!(rounds > 10 && stats.grown > 3 && stats.shrunk > 0 && stats.replaced > 0, "nothing was tested");
}

/// What is removed is found no more by any lookup that begins afterwards, and what is inserted is found.
#[test]
fn a_change_is_seen_by_whoever_hears_of_it() {
    let domain = Domain::new(READERS + 1);
    let residents = 500;
    let (mut writer, fdb) = table(&domain, residents, 660);
    // Upper bits: the turn; lowest bit: whether visitor 0 is there. 0 while a change is under way.
    let announced = AtomicU64::new(0);
    let mut turn = 0;
    let rounds = race(
        &domain,
        |reader, _| {
            let before = announced.load(Ordering::Acquire);
            let value = fdb.lookup(reader, visitor(0));
            // Acquire loads above are not passed by this one: the announcement still stood.
            std::sync::atomic::fence(Ordering::Acquire);
            if before != 0 && announced.load(Ordering::Relaxed) == before {
                let expected = if before & 1 == 1 { VISITOR_VALUE } else { MISS };
                assert_eq!(value, expected, "announced {before:#x}");
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
            for _ in 0..64 {
                let i = 1 + random.below(200) as u32;
                if writer.len() < 655 && random.below(4) != 0 {
                    writer.insert(visitor(i), VISITOR_VALUE | i).unwrap();
                } else {
                    writer.remove(visitor(i));
                }
            }
        },
    );
    assert!(rounds > 10 && turn > 10, "nothing was tested");
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
    assert!(rounds > 10 && number > 10, "nothing was tested");
}
