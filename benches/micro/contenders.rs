//! The tables that are measured against each other, each behind the same two traits: filled and emptied one key at a
//! time ([`Table`]), looked up in bursts ([`Lookup`]).
//!
//! | name | what | key, value | hash |
//! |---|---|---|---|
//! | weft | the forwarding table | [`FdbKey`], u32 | its own, random seed |
//! | rte_hash | `rte_hash_lookup_bulk_data`, lock-free mode | 12 bytes by pointer, u64 | its default (CRC32) |
//! | hashbrown | `hashbrown::HashMap`, which nobody can change meanwhile | (u32, u64), u32 | its default (foldhash) |
//! | dashmap | `dashmap::DashMap`, shards behind locks | (u32, u64), u32 | its default (SipHash) |
//!
//! Everyone's keys lie ready in the shape it takes them in, in the order in which they are looked up. What a burst
//! costs beside the lookup is reading them and storing the values.

use std::collections::VecDeque;
use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dashmap::DashMap;
use dpdk_sys::hash::{KEY_LEN, Key as ByteKey, Position, RteHash, RteHashWriter};
use hashbrown::HashMap;
use weft_tables::fdb::{Fdb, FdbConfig, FdbKey, FdbWriter, MISS};
use weft_tables::qsbr::{Domain, Reader};

/// Keys looked up at once, as a worker does it.
pub const BURST: usize = 32;
/// The contenders, in the order in which everything here lists them.
pub const NAMES: [&str; 4] = ["weft", "rte_hash", "hashbrown", "dashmap"];

const NETWORK: u32 = 100;
type PairKey = (u32, u64);

/// Starts EAL, with hugepages if as much is free. Says whether they are used.
pub fn start_eal(memory_mb: u32) -> bool {
    let (_, huge) = weft_benches::eal::start(memory_mb);
    if !huge {
        eprintln!("{memory_mb} MB of hugepages are not free: rte_hash gets 4 kB pages, and will be slower");
    }
    huge
}

/// MAC addresses without any order that a hash could thrive on, or suffer from: an odd factor permutes the 40 bits.
fn mac(i: u32) -> u64 {
    0x0200_0000_0000 | (u64::from(i) + 1).wrapping_mul(0x9e_3779_b97f_4a7d) & 0xff_ffff_ffff
}

/// Key number `i` as weft takes it.
pub fn weft_key(i: u32) -> FdbKey {
    FdbKey::new(NETWORK, mac(i))
}

fn byte_key(i: u32) -> ByteKey {
    let mut key = [0; KEY_LEN];
    key[..4].copy_from_slice(&NETWORK.to_ne_bytes());
    key[4..10].copy_from_slice(&mac(i).to_be_bytes()[2..]);
    key
}

fn pair_key(i: u32) -> PairKey {
    (NETWORK, mac(i))
}

/// Indices below `n` in an order that no prefetcher guesses, the same in every run.
pub fn shuffled(n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    let mut x = 0x9e37_79b9_7f4a_7c15u64;
    for i in (1..n).rev() {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        order.swap(i, (x % (i as u64 + 1)) as usize);
    }
    order
}

/// Keys to be looked up, as each contender takes them, in the order of the lookups.
pub struct Keys {
    expected: Vec<u32>,
    weft: Vec<FdbKey>,
    bytes: Vec<ByteKey>,
    pairs: Vec<PairKey>,
}

/// The first index of keys that are in no table.
const ABSENT: u32 = 1 << 30;

impl Keys {
    /// Keys that are in a table of so many: all of them, but `most` at most.
    pub fn present(n: usize, most: usize) -> Self {
        Self::new(n, most, 0)
    }

    /// As many keys that are not in it.
    pub fn absent(n: usize, most: usize) -> Self {
        Self::new(n, most, ABSENT)
    }

    fn new(n: usize, most: usize, base: u32) -> Self {
        let mut order = shuffled(n);
        order.truncate(most.min(n) / BURST * BURST);
        let index = || order.iter().map(|i| base + i);
        Self {
            weft: index().map(weft_key).collect(),
            bytes: index().map(byte_key).collect(),
            pairs: index().map(pair_key).collect(),
            expected: if base == ABSENT { vec![MISS; order.len()] } else { order },
        }
    }

    /// Bursts until the keys come again.
    pub fn bursts(&self) -> usize {
        self.expected.len() / BURST
    }
}

/// A table that is being looked up. Bursts are numbered as in [`Keys`].
pub trait Lookup {
    /// Looks these bursts up, as fast as it goes.
    fn look_up(&mut self, bursts: Range<usize>);
    /// The values of a burst, [`MISS`] for what is not there.
    fn values(&mut self, burst: usize) -> [u32; BURST];
    /// Panics unless every key has the value that belongs to it, or is missed as it should be.
    fn check(&mut self, name: &str, keys: &Keys) {
        for (burst, expected) in keys.expected.chunks_exact(BURST).enumerate() {
            assert_eq!(self.values(burst), expected, "{name}, burst {burst}");
        }
    }
}

fn bursts_of<K>(keys: &[K], bursts: Range<usize>) -> std::slice::ChunksExact<'_, K> {
    keys[bursts.start * BURST..bursts.end * BURST].chunks_exact(BURST)
}

/// Weft's lookups.
pub struct WeftLookup<'a> {
    fdb: &'a Fdb,
    reader: Reader,
    keys: &'a [FdbKey],
}

impl<'a> WeftLookup<'a> {
    pub fn new(fdb: &'a Fdb, domain: &Arc<Domain>, keys: &'a Keys) -> Self {
        let mut reader = domain.register("bench").expect("a place for a reader");
        reader.online();
        Self { fdb, reader, keys: &keys.weft }
    }

    /// One burst into `values`, then a quiescent state, as in a worker's turn.
    #[inline]
    pub fn one(&mut self, burst: usize, values: &mut [u32; BURST]) {
        self.fdb.lookup_burst(&self.reader, &self.keys[burst * BURST..][..BURST], values);
        self.reader.quiescent();
    }
}

impl Lookup for WeftLookup<'_> {
    fn look_up(&mut self, bursts: Range<usize>) {
        let mut values = [0; BURST];
        for keys in bursts_of(self.keys, bursts) {
            self.fdb.lookup_burst(&self.reader, keys, &mut values);
            black_box(&values);
        }
        self.reader.quiescent();
    }

    fn values(&mut self, burst: usize) -> [u32; BURST] {
        let mut values = [0; BURST];
        self.one(burst, &mut values);
        values
    }
}

struct RteLookup<'a> {
    hash: &'a RteHash,
    keys: Vec<&'a ByteKey>,
}

impl Lookup for RteLookup<'_> {
    fn look_up(&mut self, bursts: Range<usize>) {
        let mut data = [0; BURST];
        for keys in bursts_of(&self.keys, bursts) {
            let hits = self.hash.lookup_bulk(keys, &mut data);
            black_box((hits, &data));
        }
    }

    fn values(&mut self, burst: usize) -> [u32; BURST] {
        let mut data = [0; BURST];
        let hits = self.hash.lookup_bulk(&self.keys[burst * BURST..][..BURST], &mut data);
        std::array::from_fn(|i| if hits & 1 << i != 0 { data[i] as u32 } else { MISS })
    }
}

/// The maps that know nothing of bursts: a burst is a loop.
struct OneByOne<'a, F> {
    get: F,
    keys: &'a [PairKey],
}

impl<F: Fn(&PairKey) -> u32> Lookup for OneByOne<'_, F> {
    fn look_up(&mut self, bursts: Range<usize>) {
        let mut values = [0; BURST];
        for keys in bursts_of(self.keys, bursts) {
            for (value, key) in values.iter_mut().zip(keys) {
                *value = (self.get)(key);
            }
            black_box(&values);
        }
    }

    fn values(&mut self, burst: usize) -> [u32; BURST] {
        std::array::from_fn(|i| (self.get)(&self.keys[burst * BURST + i]))
    }
}

/// A table that is being changed. The value of key number `i` is `i`.
pub trait Table: Send {
    /// Adds a key. Only a table that cannot grow may say no.
    fn insert(&mut self, i: u32) -> bool;
    /// Takes out a key that is there.
    fn remove(&mut self, i: u32);
}

impl Table for FdbWriter {
    fn insert(&mut self, i: u32) -> bool {
        FdbWriter::insert(self, weft_key(i), i).expect("memory");
        true
    }

    fn remove(&mut self, i: u32) {
        assert!(FdbWriter::remove(self, weft_key(i)).is_some());
    }
}

/// rte_hash's writer, with its application's part of the work: to give places back when readers are done.
pub struct RteWriter {
    hash: RteHashWriter,
    deleted: VecDeque<Position>,
    delay: usize,
}

impl RteWriter {
    /// A table for so many entries. Places of deleted keys are given back after `delay` further deletions.
    pub fn new(entries: usize, delay: usize) -> (Self, Arc<RteHash>) {
        // Names must differ, and a benchmark has several tables at once.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("bench{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let (hash, readers) = RteHash::create(&name, entries as u32)
            .unwrap_or_else(|e| panic!("rte_hash for {entries} entries: {e}: more hugepages are needed"));
        (Self { hash, deleted: VecDeque::with_capacity(delay + 1), delay }, readers)
    }
}

impl Table for RteWriter {
    fn insert(&mut self, i: u32) -> bool {
        self.hash.add(&byte_key(i), u64::from(i)).is_ok()
    }

    fn remove(&mut self, i: u32) {
        let position = self.hash.delete(&byte_key(i)).expect("is there");
        if self.delay == 0 {
            return self.hash.free(position).expect("was deleted");
        }
        self.deleted.push_back(position);
        if self.deleted.len() > self.delay
            && let Some(position) = self.deleted.pop_front()
        {
            self.hash.free(position).expect("was deleted");
        }
    }
}

impl Table for HashMap<PairKey, u32> {
    fn insert(&mut self, i: u32) -> bool {
        HashMap::insert(self, pair_key(i), i);
        true
    }

    fn remove(&mut self, i: u32) {
        assert!(HashMap::remove(self, &pair_key(i)).is_some());
    }
}

impl Table for Arc<DashMap<PairKey, u32>> {
    fn insert(&mut self, i: u32) -> bool {
        DashMap::insert(self, pair_key(i), i);
        true
    }

    fn remove(&mut self, i: u32) {
        assert!(DashMap::remove(self, &pair_key(i)).is_some());
    }
}

/// How full the tables are to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// As many entries again would fit.
    Half,
    /// Nine of ten places are taken, where the table can be had so full.
    Ninety,
}

/// The four tables as their readers see them, each with keys 0 to n - 1.
pub struct Readers {
    pub fdb: Arc<Fdb>,
    pub domain: Arc<Domain>,
    rte: Arc<RteHash>,
    hashbrown: HashMap<PairKey, u32>,
    dashmap: Arc<DashMap<PairKey, u32>>,
}

/// Those of the four that can be changed while they are read.
pub struct Writers {
    pub weft: FdbWriter,
    pub rte: RteWriter,
    pub dashmap: Arc<DashMap<PairKey, u32>>,
}

/// Makes and fills all four. `delay` is rte_hash's, see [`RteWriter::new`].
pub fn build(n: usize, fill: Fill, delay: usize) -> (Readers, Writers) {
    let domain = Domain::new(1);
    let slots = if fill == Fill::Half { n * 2 } else { (n as f64 / 0.9).round() as usize };
    // rte_hash rounds its buckets up to a power of two, so only with such a number is it as full as it seems.
    let slots = slots.next_power_of_two();
    let (mut weft, fdb) = match fill {
        Fill::Half => weft_with_slots(&domain, slots),
        Fill::Ninety => {
            Fdb::new(&domain, FdbConfig { initial_capacity: n, max_load_percent: 90, ..Default::default() })
        }
    };
    let (mut rte, hash) = RteWriter::new(slots, delay);
    // These two keep an eighth of their places free at least, so that a table for `room` entries has `slots`.
    let room = if fill == Fill::Half { slots / 8 * 7 } else { n };
    let mut hashbrown = HashMap::with_capacity(room);
    let mut dashmap = Arc::new(DashMap::with_capacity(room));
    fill_up(&mut weft, n);
    assert_eq!(weft.stats().grown, 0, "weft holds what it was made for");
    fill_up(&mut rte, n);
    fill_up(&mut hashbrown, n);
    fill_up(&mut dashmap, n);
    let readers = Readers { fdb, domain, rte: hash, hashbrown, dashmap: Arc::clone(&dashmap) };
    (readers, Writers { weft, rte, dashmap })
}

fn fill_up(table: &mut impl Table, n: usize) {
    for i in 0..n as u32 {
        assert!(table.insert(i), "no place for key {i} of {n}");
    }
}

/// An empty forwarding table with about so many places. Found by trial, as how full a table gets is its own matter.
fn weft_with_slots(domain: &Arc<Domain>, slots: usize) -> (FdbWriter, Arc<Fdb>) {
    let make = |capacity| {
        let (mut writer, fdb) =
            Fdb::new(domain, FdbConfig { initial_capacity: capacity, ..Default::default() });
        Table::insert(&mut writer, ABSENT);
        let got = (1.0 / writer.stats().load).round();
        Table::remove(&mut writer, ABSENT);
        (writer, fdb, got / slots as f64)
    };
    let mut capacity = slots / 10 * 9;
    for _ in 0..4 {
        let (writer, fdb, excess) = make(capacity);
        if (excess - 1.0).abs() < 0.02 {
            return (writer, fdb);
        }
        capacity = (capacity as f64 / excess) as usize;
    }
    let (writer, fdb, _) = make(capacity);
    (writer, fdb)
}

impl Readers {
    /// Everyone's lookups of these keys, in the order of [`NAMES`].
    pub fn lookups<'a>(&'a self, keys: &'a Keys) -> [Box<dyn Lookup + 'a>; 4] {
        let get_hashbrown = |key: &PairKey| self.hashbrown.get(key).copied().unwrap_or(MISS);
        let get_dashmap = |key: &PairKey| self.dashmap.get(key).map_or(MISS, |value| *value);
        [
            Box::new(WeftLookup::new(&self.fdb, &self.domain, keys)),
            Box::new(RteLookup { hash: &self.rte, keys: keys.bytes.iter().collect() }),
            Box::new(OneByOne { get: get_hashbrown, keys: &keys.pairs }),
            Box::new(OneByOne { get: get_dashmap, keys: &keys.pairs }),
        ]
    }
}
