//! Running out of memory: an error, and a table that is as it was. The allocator of this test program
//! refuses what is larger than a limit, on request.
#![cfg(not(loom))]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    collections::HashMap,
};

use weft_tables::{
    OutOfMemory,
    fdb::{Fdb, FdbConfig, FdbKey, FdbWriter, KeyHash, MISS, Seed},
    qsbr::Domain,
};

struct Refusing;

thread_local! {
    /// Allocations of this thread from this size on are refused.
    static LIMIT: Cell<usize> = const { Cell::new(usize::MAX) };
}

// SAFETY: hands on to the system's allocator, or returns null, which every allocator may.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LIMIT.get() {
            return std::ptr::null_mut();
        }
        // SAFETY: our caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: our caller's promise; the pointer came from System.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LIMIT.get() {
            return std::ptr::null_mut();
        }
        // SAFETY: our caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

/// Runs `what` with allocations of `bytes` and more refused.
fn refusing<R>(bytes: usize, what: impl FnOnce() -> R) -> R {
    LIMIT.set(bytes);
    let result = what();
    LIMIT.set(usize::MAX);
    result
}

/// Numbers of entries and limits on bytes alike: less of both for Miri, which takes its time.
const fn scaled(number: u32) -> u32 {
    if cfg!(miri) { number / 16 } else { number }
}

fn key(i: u32) -> FdbKey {
    FdbKey::new(3, u64::from(i))
}

fn contents<H: KeyHash>(writer: &FdbWriter<H>) -> HashMap<FdbKey, u32> {
    writer.iter().collect()
}

#[test]
fn without_memory_to_grow_the_table_fills_up_in_place() {
    let domain = Domain::new(1);
    let config = FdbConfig { initial_capacity: scaled(3000) as usize, ..FdbConfig::default() };
    let (mut writer, fdb) = Fdb::new(&domain, config);
    let before = writer.stats();
    // Room for overflow nodes, none for a table.
    let [many, more, most] = [5000, 5300, 8000].map(scaled);
    refusing(4096, || {
        for i in 0..many {
            assert_eq!(writer.insert(key(i), i), Ok(None));
        }
    });
    let full = writer.stats();
    assert_eq!((full.entries, full.grown, full.buckets), (many as usize, 0, before.buckets));
    assert!(full.overflow > scaled(900) as usize, "{full:?}");
    let mut reader = domain.register("test").unwrap();
    reader.online();
    assert!((0..many).all(|i| fdb.lookup(&reader, key(i)) == i));
    // With memory again it grows at the next insert or soon after, and the chains are gone.
    for i in many..more {
        writer.insert(key(i), i).unwrap();
    }
    assert!(writer.stats().grown + writer.stats().reseeded > 0);
    for i in more..most {
        writer.insert(key(i), i).unwrap();
    }
    assert_eq!(writer.stats().overflow, 0, "{:?}", writer.stats());
    assert!((0..most).all(|i| fdb.lookup(&reader, key(i)) == i));
}

#[test]
fn without_any_memory_an_insert_fails_and_changes_nothing() {
    struct Constant;
    impl KeyHash for Constant {
        fn new(_: &Seed) -> Self {
            Self
        }
        fn hash(&self, _: FdbKey) -> u64 {
            0
        }
    }
    let domain = Domain::new(1);
    let (mut writer, fdb) = Fdb::<Constant>::with_hash(&domain, FdbConfig::default());
    for i in 0..12 {
        writer.insert(key(i), i).unwrap();
    }
    let (before, stats) = (contents(&writer), writer.stats());
    for _ in 0..3 {
        let error = refusing(1, || writer.insert(key(12), 12));
        assert!(matches!(error, Err(OutOfMemory::Allocator { .. })), "{error:?}");
    }
    assert_eq!(contents(&writer), before);
    assert_eq!(writer.stats(), stats);
    let mut reader = domain.register("test").unwrap();
    reader.online();
    assert_eq!(fdb.lookup(&reader, key(12)), MISS);
    // What needs no memory goes on: values change, entries go, places in buckets are filled.
    refusing(1, || {
        assert_eq!(writer.insert(key(11), 99), Ok(Some(11)));
        assert_eq!(writer.remove(key(0)), Some(0));
        assert_eq!(writer.insert(key(12), 12), Ok(None));
    });
    assert_eq!(fdb.lookup(&reader, key(12)), 12);
    reader.offline();
    // Retiring a node when not even the queue can grow: the grace period is waited for instead.
    refusing(1, || assert!((1..13).all(|i| writer.remove(key(i)).is_some())));
    assert!(writer.is_empty());
    domain.collect();
    assert_eq!(domain.pending().items, 0);
}

#[test]
fn a_bulk_replacement_that_fails_leaves_the_old_contents() {
    let domain = Domain::new(1);
    let (mut writer, fdb) = Fdb::new(&domain, FdbConfig::default());
    for i in 0..50 {
        writer.insert(key(i), i).unwrap();
    }
    let (before, stats) = (contents(&writer), writer.stats());
    // Refused at the first table, which the hint sizes, and at a later one, which has outgrown it.
    let known =
        refusing(scaled(1 << 16) as usize, || writer.replace_all((0..scaled(10_000)).map(|i| (key(i), 1))));
    assert!(matches!(known, Err(OutOfMemory::Allocator { .. })), "{known:?}");
    let unknown = (0..scaled(10_000)).filter(|_| true).map(|i| (key(i), 1));
    let grown = refusing(scaled(1 << 16) as usize, || writer.replace_all(unknown));
    assert!(matches!(grown, Err(OutOfMemory::Allocator { .. })), "{grown:?}");
    assert_eq!(contents(&writer), before);
    assert_eq!(writer.stats(), stats);
    let mut reader = domain.register("test").unwrap();
    reader.online();
    assert!((0..50).all(|i| fdb.lookup(&reader, key(i)) == i));
}

#[test]
fn a_stalled_reader_bounds_the_memory_that_waits_for_it() {
    let domain = Domain::new(2);
    let most = scaled(1 << 20) as usize;
    let config = FdbConfig { retired_limit: most, ..FdbConfig::default() };
    let (mut writer, fdb) = Fdb::new(&domain, config);
    let mut stalled = domain.register("worker 3").unwrap();
    stalled.online();
    let entries = || (0..scaled(10_000)).map(|i| (key(i), i));
    let refused = (0..100).find_map(|_| writer.replace_all(entries()).err());
    let Some(OutOfMemory::Backlog { waiting, limit }) = refused else { panic!("{refused:?}") };
    assert_eq!(limit, most);
    assert!(waiting > limit && waiting < limit + most / 2, "{waiting}");
    assert_eq!(domain.pending().bytes_hint, waiting);
    // Single changes go on, beyond the size at which the table would grow.
    for i in scaled(10_000)..scaled(14_000) {
        writer.insert(key(i), i).unwrap();
    }
    assert!((0..scaled(14_000)).all(|i| fdb.lookup(&stalled, key(i)) == i));
    stalled.quiescent();
    writer.replace_all(entries()).unwrap();
    assert!(domain.pending().bytes_hint < most);
}

#[test]
fn a_table_asked_to_be_too_large_starts_small() {
    let domain = Domain::new(1);
    let config = FdbConfig { initial_capacity: usize::MAX, ..FdbConfig::default() };
    let (mut writer, _) = Fdb::new(&domain, config);
    assert_eq!(writer.insert(key(1), 1), Ok(None));
}
