//! What is needed of a forwarding table: a trait, so that a test can have one that runs out of memory.

use weft_tables::OutOfMemory;
use weft_tables::fdb::{FdbKey, FdbWriter, KeyHash};

/// The writer's side of a forwarding table.
pub trait Table {
    fn len(&self) -> usize;
    fn get(&self, key: FdbKey) -> Option<u32>;
    fn insert(&mut self, key: FdbKey, value: u32) -> Result<Option<u32>, OutOfMemory>;
    /// On an error: how many of the first entries are in the table nevertheless.
    fn insert_all(&mut self, entries: &[(FdbKey, u32)]) -> Result<(), (usize, OutOfMemory)>;
    fn remove(&mut self, key: FdbKey) -> Option<u32>;
    fn retain(&mut self, keep: &mut dyn FnMut(FdbKey, u32) -> bool);
    /// Every entry, in no order, until `look` says that it has seen enough (`false`).
    fn scan(&self, look: &mut dyn FnMut(FdbKey, u32) -> bool);
}

impl<H: KeyHash> Table for FdbWriter<H> {
    fn len(&self) -> usize {
        self.len()
    }

    fn get(&self, key: FdbKey) -> Option<u32> {
        self.get(key)
    }

    fn insert(&mut self, key: FdbKey, value: u32) -> Result<Option<u32>, OutOfMemory> {
        self.insert(key, value)
    }

    fn insert_all(&mut self, entries: &[(FdbKey, u32)]) -> Result<(), (usize, OutOfMemory)> {
        self.insert_all(entries)
    }

    fn remove(&mut self, key: FdbKey) -> Option<u32> {
        self.remove(key)
    }

    fn retain(&mut self, keep: &mut dyn FnMut(FdbKey, u32) -> bool) {
        self.retain(keep);
    }

    fn scan(&self, look: &mut dyn FnMut(FdbKey, u32) -> bool) {
        let _ = self.iter().all(|(key, value)| look(key, value));
    }
}
