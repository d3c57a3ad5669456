//! Tables for the model checker, small and with buckets that each test decides on: the hash is written into the MAC.
#![allow(dead_code, reason = "each test program takes what it needs")]

use std::sync::Arc;

use loom::thread;
use weft_tables::{
    fdb::{Fdb, FdbConfig, FdbKey, FdbWriter, KeyHash, Seed},
    qsbr::{Domain, Reader},
};

/// Takes the candidate buckets, out of four, from the MAC.
pub struct Chosen;

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
pub const fn key(id: u32, first: u64, second: u64) -> FdbKey {
    FdbKey::new(id, (id as u64) << 4 | second << 2 | first)
}

pub type Writer = FdbWriter<Chosen>;
pub type Table = Arc<Fdb<Chosen>>;

/// Entries that a table of four buckets takes before it grows; and one of eight, in which keys have every other
/// bucket. Under loom the latter is a large table, in which bursts go another way.
pub const FOUR: usize = 3;
pub const EIGHT: usize = 6;

pub fn table(capacity: usize) -> (Arc<Domain>, Writer, Table) {
    let domain = Domain::new(2);
    let config = FdbConfig { initial_capacity: capacity, ..FdbConfig::default() };
    let (writer, fdb) = Fdb::<Chosen>::with_hash(&domain, config);
    assert_eq!(writer.stats().buckets, if capacity == FOUR { 4 } else { 8 });
    (domain, writer, fdb)
}

pub fn insert_each(writer: &mut Writer, entries: &[(FdbKey, u32)]) {
    for &(key, value) in entries {
        writer.insert(key, value).unwrap();
    }
}

pub fn online(domain: &Arc<Domain>) -> Reader {
    let mut reader = domain.register("reader").unwrap();
    reader.online();
    reader
}

/// All interleavings with up to `bound` preemptions (none: really all). A table's making and growing alone take more
/// steps than the thousand that loom expects of a model.
pub fn model(bound: Option<usize>) -> loom::model::Builder {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = bound;
    model.max_branches = 10_000;
    model
}

/// Runs `read` in one thread against `write` in another, on a table of four buckets with these entries.
pub fn check<R, W>(bound: Option<usize>, entries: &[(FdbKey, u32)], read: R, write: W)
where
    R: Fn(&Table, &mut Reader) + Send + Sync + Copy + 'static,
    W: Fn(&mut Writer) + Send + Sync + Copy + 'static,
{
    let entries = entries.to_vec();
    check_in(FOUR, bound, move |writer| insert_each(writer, &entries), read, write);
}

/// As [`check`], on a table of another size, with what `prepare` does to it.
pub fn check_in<P, R, W>(capacity: usize, bound: Option<usize>, prepare: P, read: R, write: W)
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

pub fn burst<const N: usize>(fdb: &Table, reader: &Reader, keys: [FdbKey; N]) -> [u32; N] {
    let mut values = [0; N];
    fdb.lookup_burst(reader, &keys, &mut values);
    values
}

pub fn one_of(value: u32, allowed: &[u32]) {
    assert!(allowed.contains(&value), "{value:#x}, not one of {allowed:x?}");
}
