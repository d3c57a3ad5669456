//! Running out of memory: an error, and a table that is as it was. The allocator of this test program
//! refuses what is larger than a limit, on request.
#![cfg(not(loom))]

#[path = "common/constant.rs"]
mod constant;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    collections::HashMap,
};

use constant::Constant;
use weft_tables::{
    OutOfMemory,
    fdb::{Fdb, FdbConfig, FdbKey, FdbWriter, KeyHash, MISS},
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

fn key(i: u32) -> FdbKey {
    FdbKey::new(3, u64::from(i))
}

fn contents<H: KeyHash>(writer: &FdbWriter<H>) -> HashMap<FdbKey, u32> {
    writer.iter().collect()
}

#[test]
#[cfg_attr(miri, ignore = "fills a table to the brim, where each insert searches for a second")]
fn without_memory_to_grow_the_table_fills_up_in_place() {
    let domain = Domain::new(1);
    let config = FdbConfig { initial_capacity: 3000, ..FdbConfig::default() };
    let (mut writer, fdb) = Fdb::new(&domain, config);
    let before = writer.stats();
    // Room for overflow nodes, none for a table.
    refusing(4096, || {
        for i in 0..5000 {
            assert_eq!(writer.insert(key(i), i), Ok(None));
        }
    });
    let full = writer.stats();
    assert_eq!((full.entries, full.grown, full.buckets), (5000, 0, before.buckets));
    assert!(full.overflow > 900, "{full:?}");
    let mut reader = domain.register("test").unwrap();
    reader.online();
    assert!((0..5000).all(|i| fdb.lookup(&reader, key(i)) == i));
    // With memory again it grows at the next insert or soon after, and the chains are gone.
    for i in 5000..5300 {
        writer.insert(key(i), i).unwrap();
    }
    assert!(writer.stats().grown + writer.stats().reseeded > 0);
    for i in 5300..8000 {
        writer.insert(key(i), i).unwrap();
    }
    assert_eq!(writer.stats().overflow, 0, "{:?}", writer.stats());
    assert!((0..8000).all(|i| fdb.lookup(&reader, key(i)) == i));
}

#[test]
fn without_any_memory_an_insert_fails_and_changes_nothing() {
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
    // Less of both for Miri, which takes its time.
    let (limit, many) = if cfg!(miri) { (1 << 12, 600) } else { (1 << 16, 10_000) };
    let domain = Domain::new(1);
    let (mut writer, fdb) = Fdb::new(&domain, FdbConfig::default());
    for i in 0..50 {
        writer.insert(key(i), i).unwrap();
    }
    let (before, stats) = (contents(&writer), writer.stats());
    // Refused at the first table, which the hint sizes, and at a later one, which has outgrown it.
    let known = refusing(limit, || writer.replace_all((0..many).map(|i| (key(i), 1))));
    assert!(matches!(known, Err(OutOfMemory::Allocator { .. })), "{known:?}");
    let unknown = (0..many).filter(|_| true).map(|i| (key(i), 1));
    let grown = refusing(limit, || writer.replace_all(unknown));
    assert!(matches!(grown, Err(OutOfMemory::Allocator { .. })), "{grown:?}");
    assert_eq!(contents(&writer), before);
    assert_eq!(writer.stats(), stats);
    let mut reader = domain.register("test").unwrap();
    reader.online();
    assert!((0..50).all(|i| fdb.lookup(&reader, key(i)) == i));
}

#[test]
#[cfg_attr(miri, ignore = "fills a table to the brim, where each insert searches for a second")]
fn a_stalled_reader_bounds_the_memory_that_waits_for_it() {
    let domain = Domain::new(2);
    let config = FdbConfig { retired_limit: 1 << 20, ..FdbConfig::default() };
    let (mut writer, fdb) = Fdb::new(&domain, config);
    let mut stalled = domain.register("worker 3").unwrap();
    stalled.online();
    let entries = || (0..10_000).map(|i| (key(i), i));
    let refused = (0..100).find_map(|_| writer.replace_all(entries()).err());
    let Some(OutOfMemory::Backlog { waiting, limit }) = refused else { panic!("{refused:?}") };
    assert_eq!(limit, 1 << 20);
    assert!(waiting > limit && waiting < limit + (1 << 19), "{waiting}");
    assert_eq!(domain.pending().bytes_hint, waiting);
    // Single changes go on, beyond the size at which the table would grow.
    for i in 10_000..14_000 {
        writer.insert(key(i), i).unwrap();
    }
    assert!((0..14_000).all(|i| fdb.lookup(&stalled, key(i)) == i));
    stalled.quiescent();
    writer.replace_all(entries()).unwrap();
    assert!(domain.pending().bytes_hint < 1 << 20);
}

#[test]
fn a_table_asked_to_be_too_large_starts_small() {
    let domain = Domain::new(1);
    let config = FdbConfig { initial_capacity: usize::MAX, ..FdbConfig::default() };
    let (mut writer, _) = Fdb::new(&domain, config);
    assert_eq!(writer.insert(key(1), 1), Ok(None));
}
