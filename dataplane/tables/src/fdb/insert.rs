//! The writer's side of one table: where a key is, and where it is to go.

use super::{
    bucket::{Bucket, SLOTS},
    chain::Node,
    entry::Entry,
    hash::KeyHash,
    key::FdbKey,
    lookup::{prefetch, prefetch_far},
    scratch::Scratch,
    simd::{Compare, Job, Scan},
    stamps::Stamp,
    table::Table,
};
use crate::{alloc::OutOfMemory, sync::Ordering};

/// The writer's books of one table.
#[derive(Clone, Copy, Default)]
pub(super) struct Tally {
    /// Entries, overflow included.
    pub(super) len: usize,
    /// Entries in chains.
    pub(super) overflow: usize,
    /// Entries that will not be filled again (see `entry`).
    pub(super) worn: usize,
    /// Displacements.
    pub(super) moves: u64,
    /// The interval that new entries are stamped with.
    pub(super) interval: u16,
}

/// What became of a [`Table::put`].
pub(super) enum Put {
    /// The key was there, with this value.
    Updated(u32),
    Added,
    /// The key is not there, nor is there room for it; nothing was changed.
    Full,
}

/// Where the writer finds a key.
pub(super) enum Found<'t> {
    First(&'t Entry),
    Second(&'t Entry),
    Chained(&'t Node),
}

impl Found<'_> {
    pub(super) fn value(&self) -> u32 {
        match self {
            Found::First(entry) | Found::Second(entry) => entry.value(),
            Found::Chained(node) => node.value(),
        }
    }

    fn update(&self, value: u32) -> u32 {
        match self {
            Found::First(entry) | Found::Second(entry) => entry.update(value),
            Found::Chained(node) => node.update(value),
        }
    }
}

/// Job: where a key is.
struct Find<'t, H> {
    table: &'t Table<H>,
    key: FdbKey,
}

impl<'t, H: KeyHash> Job for Find<'t, H> {
    type Output = (u64, Option<Found<'t>>);

    #[inline(always)]
    unsafe fn run<C: Compare>(self) -> Self::Output {
        let key = self.key.in_registers();
        let hash = self.table.hash.hash(key);
        // SAFETY: the caller's promise.
        let scan = unsafe { C::scan(self.table.candidate(self.table.first(hash)), &key) };
        // SAFETY: as above.
        let found = unsafe { self.table.find_beyond::<C>(&key, hash, scan) };
        (hash, found)
    }
}

/// Job: gives one key a value.
struct PutOne<'t, H> {
    table: &'t Table<H>,
    tally: &'t mut Tally,
    key: FdbKey,
    value: u32,
    room: usize,
}

impl<H: KeyHash> Job for PutOne<'_, H> {
    type Output = Result<Put, OutOfMemory>;

    #[inline(always)]
    unsafe fn run<C: Compare>(self) -> Self::Output {
        let key = self.key.in_registers();
        let hash = self.table.hash.hash(key);
        // SAFETY: the caller's promise.
        unsafe { self.table.put_hashed::<C>(self.tally, &key, hash, self.value, self.room) }
    }
}

/// Job: gives keys values, until there is no room; `done` counts them.
struct PutAll<'t, H> {
    table: &'t Table<H>,
    tally: &'t mut Tally,
    keys: &'t [FdbKey],
    values: &'t [u32],
    room: usize,
    done: &'t mut usize,
}

impl<H: KeyHash> Job for PutAll<'_, H> {
    type Output = Result<(), OutOfMemory>;

    #[inline(always)]
    unsafe fn run<C: Compare>(self) -> Self::Output {
        let mut hashes = Scratch::new();
        // SAFETY: the caller's promise.
        let hashes = unsafe { self.table.hashes::<C>(self.keys, &mut hashes) };
        for ((key, hash), value) in self.keys.iter().zip(hashes).zip(self.values) {
            // SAFETY: the caller's promise.
            let put = unsafe { self.table.put_hashed::<C>(self.tally, key, *hash, *value, self.room) };
            if let Put::Full = put? {
                break;
            }
            *self.done += 1;
        }
        Ok(())
    }
}

/// Job: adds keys that are not there.
struct AddAll<'t, H> {
    table: &'t Table<H>,
    tally: &'t mut Tally,
    keys: &'t [FdbKey],
    values: &'t [u32],
    stamps: &'t [u16],
}

impl<H: KeyHash> Job for AddAll<'_, H> {
    type Output = Result<(), OutOfMemory>;

    #[inline(always)]
    unsafe fn run<C: Compare>(self) -> Self::Output {
        let mut hashes = Scratch::new();
        // SAFETY: the caller's promise.
        let hashes = unsafe { self.table.hashes::<C>(self.keys, &mut hashes) };
        let stamped = self.values.iter().zip(self.stamps);
        for ((key, hash), (value, stamp)) in self.keys.iter().zip(hashes).zip(stamped) {
            // SAFETY: the caller's promise.
            let scan = unsafe { C::scan(self.table.candidate(self.table.first(*hash)), key) };
            self.table.place(self.tally, key, *hash, *value, *stamp, scan)?;
        }
        Ok(())
    }
}

impl<H: KeyHash> Table<H> {
    /// Where a key is; and its hash.
    #[inline]
    pub(super) fn find(&self, key: FdbKey) -> (u64, Option<Found<'_>>) {
        self.width.run(Find { table: self, key })
    }

    /// When what was found was last used, if that is kept.
    pub(super) fn stamp_of<'t>(&'t self, found: &Found<'t>) -> Option<&'t Stamp> {
        match found {
            Found::First(entry) | Found::Second(entry) => self.stamp(entry),
            Found::Chained(node) => Some(&node.stamp),
        }
    }

    /// Gives a key that is present a new value, or adds it if there is still `room`. On failure nothing has
    /// changed for readers.
    #[inline]
    pub(super) fn put(
        &self,
        tally: &mut Tally,
        key: FdbKey,
        value: u32,
        room: usize,
    ) -> Result<Put, OutOfMemory> {
        self.width.run(PutOne { table: self, tally, key, value, room })
    }

    /// As [`Table::put`] for up to [`MAX_BURST`](super::MAX_BURST) keys, one after the other, as long as there is
    /// room and memory. `done` counts those that are in the table after this.
    pub(super) fn put_all(
        &self,
        tally: &mut Tally,
        keys: &[FdbKey],
        values: &[u32],
        room: usize,
        done: &mut usize,
    ) -> Result<(), OutOfMemory> {
        self.width.run(PutAll { table: self, tally, keys, values, room, done })
    }

    /// Adds up to [`MAX_BURST`](super::MAX_BURST) different keys that are not there.
    pub(super) fn add_all(
        &self,
        tally: &mut Tally,
        keys: &[FdbKey],
        values: &[u32],
        stamps: &[u16],
    ) -> Result<(), OutOfMemory> {
        self.width.run(AddAll { table: self, tally, keys, values, stamps })
    }

    /// The hashes of a burst's keys, which are about to be added. After this the buckets that are needed are on
    /// their way to the cache: the first ones, and of the second ones those whose first is full.
    ///
    /// # Safety
    /// As [`Compare::hints`].
    #[inline(always)]
    unsafe fn hashes<'h, C: Compare>(&self, keys: &[FdbKey], space: &'h mut Scratch<u64>) -> &'h [u64] {
        let hashes = self.hash.hash_burst(keys, space);
        if self.is_large() {
            // SAFETY: the caller's promise.
            unsafe { self.fetch::<C>(keys, hashes, prefetch_far) };
        } else {
            // SAFETY: as above.
            unsafe { self.fetch::<C>(keys, hashes, prefetch) };
        }
        hashes
    }

    /// # Safety
    /// As [`Compare::hints`].
    #[inline(always)]
    unsafe fn fetch<C: Compare>(&self, keys: &[FdbKey], hashes: &[u64], prefetch: impl Fn(&Bucket)) {
        for hash in hashes {
            prefetch(self.candidate(self.first(*hash)));
        }
        for (key, hash) in keys.iter().zip(hashes) {
            let pair = self.pair(*hash);
            // SAFETY: the caller's promise.
            let scan = unsafe { C::scan(self.candidate(pair.first), key) };
            // Without a branch, as which one is full can't be predicted.
            prefetch(self.candidate(if scan.empty == 0 { pair.second } else { pair.first }));
        }
    }

    /// Where a key is, given what is in its first bucket.
    ///
    /// # Safety
    /// As [`Compare::hints`].
    #[inline(always)]
    unsafe fn find_beyond<C: Compare>(&self, key: &FdbKey, hash: u64, scan: Scan) -> Option<Found<'_>> {
        let entry = |bucket: u32, holds: u32| {
            &self.candidate(bucket).entries[holds.trailing_zeros() as usize % SLOTS]
        };
        let first = self.first(hash);
        if scan.holds != 0 {
            return Some(Found::First(entry(first, scan.holds)));
        }
        if self.strays.possible(first, hash) {
            let second = self.pair(hash).second;
            // SAFETY: the caller's promise.
            let scan = unsafe { C::scan(self.candidate(second), key) };
            if scan.holds != 0 {
                return Some(Found::Second(entry(second, scan.holds)));
            }
        }
        if self.overflow.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.chain(self.pair(hash)).find(*key).map(Found::Chained)
    }

    /// # Safety
    /// As [`Compare::hints`].
    #[inline(always)]
    unsafe fn put_hashed<C: Compare>(
        &self,
        tally: &mut Tally,
        key: &FdbKey,
        hash: u64,
        value: u32,
        room: usize,
    ) -> Result<Put, OutOfMemory> {
        // SAFETY: the caller's promise.
        let scan = unsafe { C::scan(self.candidate(self.first(hash)), key) };
        // SAFETY: as above.
        if let Some(found) = unsafe { self.find_beyond::<C>(key, hash, scan) } {
            if let Some(stamp) = self.stamp_of(&found) {
                stamp.set(tally.interval);
            }
            return Ok(Put::Updated(found.update(value)));
        }
        if tally.len >= room {
            return Ok(Put::Full);
        }
        self.place(tally, key, hash, value, tally.interval, scan)?;
        Ok(Put::Added)
    }

    /// Adds an absent key, given what is in its first bucket. On failure nothing has changed for readers.
    #[inline(always)]
    fn place(
        &self,
        tally: &mut Tally,
        key: &FdbKey,
        hash: u64,
        value: u32,
        stamp: u16,
        scan: Scan,
    ) -> Result<(), OutOfMemory> {
        match self.candidate(self.first(hash)).fillable(scan.empty) {
            Some(entry) => self.fill(entry, *key, value, stamp),
            None => self.place_elsewhere(tally, *key, hash, value, stamp)?,
        }
        tally.len += 1;
        Ok(())
    }

    /// Adds an absent key whose first bucket is full.
    fn place_elsewhere(
        &self,
        tally: &mut Tally,
        key: FdbKey,
        hash: u64,
        value: u32,
        stamp: u16,
    ) -> Result<(), OutOfMemory> {
        let pair = self.pair(hash);
        if let Some(entry) = self.free_entry(pair.second) {
            self.strays.count(pair.first, hash);
            self.fill(entry, key, value, stamp);
            return Ok(());
        }
        if let Some((bucket, entry)) = self.displace(tally, pair) {
            if bucket != pair.first {
                self.strays.count(pair.first, hash);
            }
            self.fill(entry, key, value, stamp);
            return Ok(());
        }
        // Counted before it is linked: see `look`.
        let counted = self.overflow.load(Ordering::Relaxed);
        self.overflow.store(counted + 1, Ordering::Release);
        if let Err(refused) = self.chain(pair).push(key, value, stamp) {
            self.overflow.store(counted, Ordering::Release);
            return Err(refused);
        }
        tally.overflow += 1;
        Ok(())
    }

    /// Fills a free entry, and counts that if it held another key before.
    #[inline]
    pub(super) fn fill(&self, entry: &Entry, key: FdbKey, value: u32, stamp: u16) {
        if let Some(place) = self.stamp(entry) {
            place.set(stamp);
        }
        if entry.is_used() {
            self.moves.bump_total();
        }
        entry.fill(key, value);
    }

    pub(super) fn free_entry(&self, bucket: u32) -> Option<&Entry> {
        self.candidate(bucket).entries.iter().find(|entry| entry.is_free())
    }
}
