//! The table against hashbrown's map: whatever is done to both, both say the same. Under the real hash and
//! under bad ones, which fill buckets unevenly and push entries into the overflow chains.
#![cfg(not(loom))]

#[path = "common/constant.rs"]
mod constant;

use constant::Constant;
use hashbrown::HashMap;
use proptest::{collection::vec, prelude::*};
use weft_tables::{
    fdb::{Fdb, FdbConfig, FdbKey, FdbWriter, FoldedHash, KeyHash, KeyedHash, MISS, Seed},
    qsbr::{Domain, Reader},
};

/// The key's low bits as they are: neighbours share a bucket.
struct Identity;

impl KeyHash for Identity {
    fn new(_: &Seed) -> Self {
        Self
    }

    fn hash(&self, key: FdbKey) -> u64 {
        key.words().0
    }
}

/// Few different hashes, and both halves the same.
struct Coarse(FoldedHash);

impl KeyHash for Coarse {
    fn new(seed: &Seed) -> Self {
        Self(FoldedHash::new(seed))
    }

    fn hash(&self, key: FdbKey) -> u64 {
        let class = (self.0.hash(key) & 7) << 29;
        class << 32 | class
    }
}

#[derive(Debug, Clone)]
enum Op {
    Insert(u16, u32),
    Remove(u16),
    Get(u16),
    Replace(Vec<(u16, u32)>),
    Retain(u32),
    Quiescent,
}

/// Small numbers make keys that differ in every part: MAC, low and high bits of the network id. Some differ in the
/// latter only, which is where word B of an entry decides and word A does not.
fn key(number: u16) -> FdbKey {
    let mac = u64::from(number / 3);
    FdbKey::new([0, 0x8000, 0x01_0001][(number % 3) as usize], (mac << 20) | (mac % 2))
}

fn ops(keys: u16) -> impl Strategy<Value = Vec<Op>> {
    let value = 0..MISS;
    let op = prop_oneof![
        60 => (0..keys, value.clone()).prop_map(|(k, v)| Op::Insert(k, v)),
        25 => (0..keys).prop_map(Op::Remove),
        10 => (0..keys).prop_map(Op::Get),
        1 => vec((0..keys, value), 0..keys as usize).prop_map(Op::Replace),
        1 => (1u32..5).prop_map(Op::Retain),
        3 => Just(Op::Quiescent),
    ];
    vec(op, 0..OPS)
}

fn agree<H: KeyHash>(writer: &FdbWriter<H>, reader: &Reader, model: &HashMap<FdbKey, u32>, keys: u16) {
    assert_eq!(writer.len(), model.len());
    let listed: HashMap<FdbKey, u32> = writer.iter().collect();
    assert_eq!(writer.iter().count(), model.len(), "an entry is listed twice");
    assert_eq!(&listed, model);
    let all: Vec<FdbKey> = (0..keys).map(key).collect();
    let mut values = vec![0; all.len()];
    writer.fdb().lookup_burst(reader, &all, &mut values);
    for (key, value) in all.into_iter().zip(values) {
        let expected = model.get(&key).copied();
        assert_eq!(value, expected.unwrap_or(MISS), "{key:?} in a burst");
        assert_eq!(writer.fdb().lookup(reader, key), value, "{key:?} alone");
        assert_eq!(writer.get(key), expected, "{key:?} by the writer");
    }
}

fn run<H: KeyHash>(ops: Vec<Op>, keys: u16, seed: u64) {
    // Every way to compare that this machine has.
    for &vector_bits in if cfg!(miri) { &[0][..] } else { &[0, 256, 512] } {
        run_with::<H>(ops.clone(), keys, seed, vector_bits);
    }
}

fn run_with<H: KeyHash>(ops: Vec<Op>, keys: u16, seed: u64, vector_bits: u32) {
    let domain = Domain::new(1);
    let mut reader = domain.register("test").unwrap();
    reader.online();
    let config = FdbConfig { seed: Some(Seed::fixed(seed)), vector_bits, ..FdbConfig::default() };
    let (mut writer, fdb) = Fdb::<H>::with_hash(&domain, config);
    let mut model = HashMap::new();
    for op in ops {
        match op {
            Op::Insert(k, v) => assert_eq!(writer.insert(key(k), v), Ok(model.insert(key(k), v))),
            Op::Remove(k) => assert_eq!(writer.remove(key(k)), model.remove(&key(k))),
            Op::Get(k) => {
                assert_eq!(fdb.lookup(&reader, key(k)), model.get(&key(k)).copied().unwrap_or(MISS))
            }
            Op::Replace(entries) => {
                let entries = entries.into_iter().map(|(k, v)| (key(k), v));
                writer.replace_all(entries.clone()).unwrap();
                model = entries.collect();
            }
            Op::Retain(divisor) => {
                writer.retain(|_, v| v % divisor == 0);
                model.retain(|_, v| *v % divisor == 0);
            }
            Op::Quiescent => reader.quiescent(),
        }
    }
    agree(&writer, &reader, &model, keys);
    let entries = writer.stats().entries;
    assert_eq!(entries, model.len());
    reader.quiescent();
    domain.collect();
    assert_eq!(domain.pending().items, 0);
}

/// Miri takes its time: fewer cases there, and shorter ones.
const CASES: u32 = if cfg!(miri) { 2 } else { 96 };
const OPS: usize = if cfg!(miri) { 60 } else { 600 };
/// Keys of a case, of which there are fewer under worse hashes.
const KEYS: u16 = if cfg!(miri) { 36 } else { 300 };

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..Default::default() })]

    #[test]
    fn keyed(ops in ops(KEYS), seed: u64) {
        run::<KeyedHash>(ops, KEYS, seed);
    }

    #[test]
    fn folded(ops in ops(KEYS), seed: u64) {
        run::<FoldedHash>(ops, KEYS, seed);
    }

    #[test]
    fn identity(ops in ops(KEYS * 2 / 3), seed: u64) {
        run::<Identity>(ops, KEYS * 2 / 3, seed);
    }

    #[test]
    fn constant(ops in ops(KEYS / 3), seed: u64) {
        run::<Constant>(ops, KEYS / 3, seed);
    }

    #[test]
    fn coarse(ops in ops(KEYS * 2 / 3), seed: u64) {
        run::<Coarse>(ops, KEYS * 2 / 3, seed);
    }
}

#[test]
fn a_large_table_grows_and_shrinks() {
    let count: u32 = if cfg!(miri) { 200 } else { 200_000 };
    let domain = Domain::new(1);
    let mut reader = domain.register("test").unwrap();
    reader.online();
    let (mut writer, fdb) = Fdb::new(&domain, FdbConfig::default());
    let key = |i: u32| FdbKey::new(i % 5, 0x0200_0000_0000 + u64::from(i));
    for i in 0..count {
        assert_eq!(writer.insert(key(i), i), Ok(None));
        reader.quiescent();
    }
    let full = writer.stats();
    assert_eq!(full.entries, count as usize);
    assert!(full.grown > 3 && full.load > 0.3, "{full:?}");
    assert!((0..count).all(|i| fdb.lookup(&reader, key(i)) == i));
    assert!((count..2 * count).all(|i| fdb.lookup(&reader, key(i)) == MISS));
    for i in 0..count {
        assert_eq!(writer.remove(key(i)), Some(i));
        reader.quiescent();
    }
    let empty = writer.stats();
    // (Of a small table, much is what every table has.)
    let share = if cfg!(miri) { 2 } else { 10 };
    assert!(writer.is_empty() && empty.shrunk > 0 && empty.bytes < full.bytes / share, "{empty:?}");
    assert_eq!(empty.overflow, 0);
}
