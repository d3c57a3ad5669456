//! Aging against a model: a map from key to the interval in which it was last used. With one thread stamps are
//! exact, whatever moves entries about: displacement, chains, growth, shrinking, another seed.
#![cfg(not(loom))]

#[path = "common/constant.rs"]
mod constant;

use constant::Constant;
use hashbrown::HashMap;
use proptest::{collection::vec, prelude::*};
use weft_tables::{
    fdb::{Fdb, FdbConfig, FdbKey, KeyHash, KeyedHash, MISS, Seed},
    qsbr::Domain,
};

#[derive(Debug, Clone)]
enum Op {
    Insert(u16),
    Remove(u16),
    /// A burst that stamps, and one that does not.
    Use(Vec<u16>),
    Look(Vec<u16>),
    Tick(u16),
    Expire(u16),
    Replace(Vec<u16>),
}

fn key(number: u16) -> FdbKey {
    FdbKey::new(u32::from(number % 3) << 15, 0x0200_0000_0000 | u64::from(number / 3))
}

fn ops(keys: u16) -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        60 => (0..keys).prop_map(Op::Insert),
        15 => (0..keys).prop_map(Op::Remove),
        10 => vec(0..keys, 0..100).prop_map(Op::Use),
        5 => vec(0..keys, 0..100).prop_map(Op::Look),
        5 => (0u16..3).prop_map(Op::Tick),
        3 => (1u16..6).prop_map(Op::Expire),
        1 => vec(0..keys, 0..keys as usize).prop_map(Op::Replace),
    ];
    vec(op, 0..OPS)
}

fn run<H: KeyHash>(ops: &[Op], keys: u16, start: u16, vector_bits: u32) {
    let domain = Domain::new(1);
    let mut reader = domain.register("test").unwrap();
    reader.online();
    let config = FdbConfig { seed: Some(Seed::fixed(1)), aging: true, vector_bits, ..FdbConfig::default() };
    let (mut writer, fdb) = Fdb::<H>::with_hash(&domain, config);
    let mut model: HashMap<FdbKey, u16> = HashMap::new();
    let mut now = start;
    writer.set_interval(now);
    for op in ops {
        match op {
            Op::Insert(k) => {
                writer.insert(key(*k), 1).unwrap();
                model.insert(key(*k), now);
            }
            Op::Remove(k) => {
                assert_eq!(writer.remove(key(*k)).is_some(), model.remove(&key(*k)).is_some());
            }
            Op::Use(list) | Op::Look(list) => {
                let list: Vec<FdbKey> = list.iter().map(|k| key(*k)).collect();
                let mut values = vec![0; list.len()];
                if matches!(op, Op::Use(_)) {
                    fdb.lookup_burst_stamping(&reader, &list, &mut values);
                    for key in &list {
                        model.entry(*key).and_modify(|used| *used = now);
                    }
                } else {
                    fdb.lookup_burst(&reader, &list, &mut values);
                }
                for (key, value) in list.iter().zip(values) {
                    assert_eq!(value != MISS, model.contains_key(key));
                }
            }
            Op::Tick(by) => {
                now = now.wrapping_add(*by);
                writer.set_interval(now);
            }
            Op::Expire(after) => {
                writer.retain_by_age(|key, value, age| {
                    assert_eq!((value, Some(age)), (1, model.get(&key).map(|used| now.wrapping_sub(*used))));
                    age < *after
                });
                model.retain(|_, used| now.wrapping_sub(*used) < *after);
            }
            Op::Replace(list) => {
                writer.replace_all(list.iter().map(|k| (key(*k), 1))).unwrap();
                model = list.iter().map(|k| (key(*k), now)).collect();
            }
        }
        reader.quiescent();
    }
    assert_eq!(writer.len(), model.len());
    for k in (0..keys).map(key) {
        assert_eq!(writer.age(k), model.get(&k).map(|used| now.wrapping_sub(*used)), "{k:?}");
    }
}

/// Miri takes its time, and knows one way to compare.
const CASES: u32 = if cfg!(miri) { 2 } else { 64 };
const OPS: usize = if cfg!(miri) { 60 } else { 500 };
const KEYS: u16 = if cfg!(miri) { 60 } else { 300 };
const WIDTHS: &[u32] = if cfg!(miri) { &[0] } else { &[0, 256, 512] };

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..Default::default() })]

    /// Also over the end of the intervals' numbers.
    #[test]
    fn keyed(ops in ops(KEYS), start in prop_oneof![Just(0), Just(u16::MAX - 2)]) {
        for &vector_bits in WIDTHS {
            run::<KeyedHash>(&ops, KEYS, start, vector_bits);
        }
    }

    #[test]
    fn constant(ops in ops(60)) {
        for &vector_bits in WIDTHS {
            run::<Constant>(&ops, 60, 0, vector_bits);
        }
    }
}

#[test]
fn without_aging_nothing_is_kept() {
    const COUNT: u16 = if cfg!(miri) { 100 } else { 5000 };
    let domain = Domain::new(1);
    let mut reader = domain.register("test").unwrap();
    reader.online();
    let (mut writer, fdb) = Fdb::new(&domain, FdbConfig::default());
    let (mut aging, _) = Fdb::new(&domain, FdbConfig { aging: true, ..FdbConfig::default() });
    for i in 0..COUNT {
        writer.insert(key(i), 1).unwrap();
        aging.insert(key(i), 1).unwrap();
    }
    writer.set_interval(7);
    let mut values = [0; 2];
    fdb.lookup_burst_stamping(&reader, &[key(0), key(COUNT)], &mut values);
    assert_eq!(values, [1, MISS]);
    assert_eq!(writer.age(key(0)), None);
    writer.retain_by_age(|_, _, age| age == 0);
    assert_eq!(writer.len(), COUNT.into());
    // Two bytes a place are what it costs.
    let (without, with) = (writer.stats(), aging.stats());
    assert_eq!(with.bytes - without.bytes, with.buckets * 4 * 2);
}
