//! The one writer of a forwarding table: changes in place, and whole tables built aside.

use std::sync::Arc;

use super::{
    Fdb, FdbConfig, FdbStats, MAX_BURST, MISS, TOLERATED_OVERFLOW,
    draft::{Draft, Shape},
    entry::{Entry, State},
    hash::{KeyHash, KeyedHash},
    insert::{Found, Put, Tally},
    key::FdbKey,
    scratch::Scratch,
    stamps::Stamp,
    table::Table,
};
use crate::{alloc::OutOfMemory, sync::Ordering};

/// Changes a forwarding table. There is one per table; it may move between threads.
pub struct FdbWriter<H: KeyHash = KeyedHash> {
    fdb: Arc<Fdb<H>>,
    tally: Tally,
    shape: Shape,
    /// The table does not shrink below this many buckets.
    least_buckets: usize,
    retired_limit: usize,
    /// Entries that the table takes before it is to grow or to be renewed: see `plan`.
    room: usize,
    /// After a rebuild failed: no other attempt before the table holds this many entries.
    retry_at: usize,
    /// No reseeding before this many entries are in chains.
    reseed_at: usize,
    grown: u64,
    shrunk: u64,
    reseeded: u64,
    replaced: u64,
    anomalies: u64,
}

impl<H: KeyHash> FdbWriter<H> {
    pub(super) fn new(fdb: Arc<Fdb<H>>, shape: Shape, config: &FdbConfig) -> Self {
        let mut writer = Self {
            fdb,
            room: 0,
            tally: Tally::default(),
            shape,
            least_buckets: shape.sizing.buckets_for(config.initial_capacity),
            retired_limit: config.retired_limit,
            retry_at: 0,
            reseed_at: TOLERATED_OVERFLOW,
            grown: 0,
            shrunk: 0,
            reseeded: 0,
            replaced: 0,
            anomalies: 0,
        };
        writer.plan();
        writer
    }

    pub(super) fn first_table(shape: Shape, config: &FdbConfig) -> Box<Table<H>> {
        let of = |entries| Draft::new(shape.sizing.buckets_for(entries), shape, 0);
        let draft = of(config.initial_capacity).or_else(|_| of(0));
        draft.expect("no memory for an empty table of two buckets").table
    }

    /// The readers' side of this table.
    pub fn fdb(&self) -> &Arc<Fdb<H>> {
        &self.fdb
    }

    /// Entries in the table.
    pub fn len(&self) -> usize {
        self.tally.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tally.len == 0
    }

    /// The value of a key.
    pub fn get(&self, key: FdbKey) -> Option<u32> {
        self.table().find(key).1.map(|found| found.value())
    }

    /// Every entry, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (FdbKey, u32)> {
        self.table().iter()
    }

    /// Adds an entry or changes its value; returns the value it had. In place, save for the one insert in
    /// many that lets the table grow. Fails only if there is no memory to put the entry anywhere; then the
    /// table is as it was.
    ///
    /// # Panics
    /// If `value` is [`MISS`].
    pub fn insert(&mut self, key: FdbKey, value: u32) -> Result<Option<u32>, OutOfMemory> {
        assert_ne!(value, MISS, "the value that says there is none");
        let overflow = self.tally.overflow;
        // SAFETY: see `table`.
        let table: &Table<H> = unsafe { self.fdb.table.peek() };
        match table.put(&mut self.tally, key, value, self.room)? {
            Put::Updated(old) => return Ok(Some(old)),
            Put::Added => {}
            Put::Full => {
                self.make_room();
                // SAFETY: see `table`.
                let table: &Table<H> = unsafe { self.fdb.table.peek() };
                table.put(&mut self.tally, key, value, usize::MAX)?;
            }
        }
        self.note_overflow(overflow);
        Ok(None)
    }

    /// As [`FdbWriter::insert`] for one after the other, faster: their places are on their way to the cache
    /// together. On failure those before the one that failed are in the table; the error comes with how many.
    ///
    /// # Panics
    /// If a value is [`MISS`].
    pub fn insert_all(&mut self, entries: &[(FdbKey, u32)]) -> Result<(), (usize, OutOfMemory)> {
        assert!(entries.iter().all(|(_, value)| *value != MISS), "the value that says there is none");
        let mut done = 0;
        while done < entries.len() {
            let burst = &entries[done..entries.len().min(done + MAX_BURST)];
            let (mut keys, mut values) = (Scratch::new(), Scratch::new());
            let keys = keys.fill(burst.iter().map(|(key, _)| *key));
            let values = values.fill(burst.iter().map(|(_, value)| *value));
            let (before, overflow) = (done, self.tally.overflow);
            // SAFETY: see `table`.
            let table: &Table<H> = unsafe { self.fdb.table.peek() };
            let result = table.put_all(&mut self.tally, keys, values, self.room, &mut done);
            self.note_overflow(overflow);
            result.map_err(|refused| (done, refused))?;
            if done < before + burst.len() {
                let (key, value) = entries[done];
                self.insert(key, value).map_err(|refused| (done, refused))?;
                done += 1;
            }
        }
        Ok(())
    }

    /// Takes an entry out; returns its value.
    pub fn remove(&mut self, key: FdbKey) -> Option<u32> {
        let value = self.take(key)?;
        self.shrink_if_sparse();
        Some(value)
    }

    /// Keeps the entries for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(FdbKey, u32) -> bool) {
        self.retain_by_age(|key, value, _| keep(key, value));
    }

    /// From now on readers that [look up and stamp](Fdb::lookup_burst_stamping) stamp with this interval, and so
    /// are entries that are inserted, or given a value anew. Intervals count up, and around.
    pub fn set_interval(&mut self, interval: u16) {
        self.tally.interval = interval;
        self.fdb.set_interval(interval);
    }

    /// For how many intervals an entry has not been used; `None` if it is not there, or if the table keeps no
    /// stamps ([`FdbConfig::aging`]).
    pub fn age(&self, key: FdbKey) -> Option<u16> {
        let table = self.table();
        self.shape.aging.then_some(())?;
        Some(self.tally.interval.wrapping_sub(table.stamp_of(&table.find(key).1?)?.get()))
    }

    /// Keeps the entries for which `keep` says so: it is told key, value and age, as [`FdbWriter::age`] counts
    /// (0 if no stamps are kept). Goes through the whole table.
    pub fn retain_by_age(&mut self, mut keep: impl FnMut(FdbKey, u32, u16) -> bool) {
        // SAFETY: see `table`; nothing below swaps it before the loop's end.
        let table: &Table<H> = unsafe { self.fdb.table.peek() };
        let (interval, aging) = (self.tally.interval, self.shape.aging);
        let age = |stamp: &Stamp| if aging { interval.wrapping_sub(stamp.get()) } else { 0 };
        for (at, bucket) in table.buckets.iter().enumerate() {
            for entry in &bucket.entries {
                if let State::Full(key, value) = entry.state()
                    && !keep(key, value, table.stamp(entry).map_or(0, age))
                {
                    self.clear_entry(entry);
                    let hash = table.hash.hash(key);
                    if table.first(hash) as usize != at {
                        table.strays.uncount(table.first(hash), hash);
                    }
                }
            }
        }
        if self.tally.overflow > 0 {
            for chain in &table.chains {
                self.unlink(table, chain, |node| !keep(node.key, node.value(), age(&node.stamp)));
            }
        }
        self.shrink_if_sparse();
    }

    /// Replaces the whole contents, at once for every reader: each lookup (or burst) sees the old table or
    /// the new one. If a key comes twice its last value counts. On failure the table is as it was.
    ///
    /// # Panics
    /// If a value is [`MISS`].
    pub fn replace_all(
        &mut self,
        entries: impl IntoIterator<Item = (FdbKey, u32)>,
    ) -> Result<(), OutOfMemory> {
        self.check_backlog()?;
        let loaded = Draft::load(entries.into_iter(), self.least_buckets, self.shape, self.tally.interval)?;
        self.anomalies += loaded.anomalies;
        self.reseeded += loaded.reseeded;
        self.replaced += 1;
        self.publish(loaded.draft);
        Ok(())
    }

    /// Takes every entry out. Cannot fail.
    pub fn clear(&mut self) {
        self.retain(|_, _| false);
    }

    /// What there is to know about the table.
    pub fn stats(&self) -> FdbStats {
        let table = self.table();
        FdbStats {
            entries: self.tally.len,
            buckets: table.buckets.len(),
            places: table.slots(),
            load: self.tally.len as f64 / table.slots() as f64,
            overflow: self.tally.overflow,
            worn: self.tally.worn,
            bytes: table.bytes(self.tally.overflow),
            displacements: self.tally.moves,
            grown: self.grown,
            shrunk: self.shrunk,
            reseeded: self.reseeded,
            replaced: self.replaced,
            anomalies: self.anomalies,
        }
    }

    fn table(&self) -> &Table<H> {
        // SAFETY: only `publish` swaps the table, with `&mut self`; and `self.fdb` keeps it from dropping.
        unsafe { self.fdb.table.peek() }
    }

    /// Takes a key out without shrinking.
    fn take(&mut self, key: FdbKey) -> Option<u32> {
        // SAFETY: see `table`; nothing below swaps it.
        let table: &Table<H> = unsafe { self.fdb.table.peek() };
        let (hash, found) = table.find(key);
        let found = found?;
        let value = found.value();
        match found {
            Found::First(entry) => self.clear_entry(entry),
            Found::Second(entry) => {
                self.clear_entry(entry);
                table.strays.uncount(table.first(hash), hash);
            }
            Found::Chained(_) => self.unlink(table, table.chain(table.pair(hash)), |node| node.key == key),
        }
        Some(value)
    }

    fn clear_entry(&mut self, entry: &Entry) {
        entry.clear();
        self.tally.len -= 1;
        if !entry.is_free() {
            self.tally.worn += 1;
            self.plan();
        }
    }

    fn unlink(
        &mut self,
        table: &Table<H>,
        chain: &super::chain::Chain,
        which: impl FnMut(&super::chain::Node) -> bool,
    ) {
        chain.unlink(which, |node| {
            // SAFETY: `Chain::unlink` says that it comes from Box::into_raw and is handed over.
            unsafe { self.fdb.table.domain().retire_raw(node, size_of::<super::chain::Node>()) };
            self.tally.overflow -= 1;
            self.tally.len -= 1;
        });
        // Uncounted after it is unlinked: see `look`.
        table.overflow.store(self.tally.overflow as u64, Ordering::Release);
    }

    /// Whether so many entries are worn that the table is to be renewed.
    fn is_worn(&self) -> bool {
        self.tally.worn > self.table().slots() / 16
    }

    /// Decides how many entries the table takes before something is to be done about its room.
    fn plan(&mut self) {
        let full = self.shape.sizing.capacity(self.table().buckets.len());
        self.room = self.retry_at.max(if self.is_worn() { 0 } else { full });
    }

    /// Lets the table grow if it is full, or renews it if too many entries are worn.
    #[cold]
    fn make_room(&mut self) {
        let buckets = self.table().buckets.len();
        let full = self.tally.len >= self.shape.sizing.capacity(buckets);
        if self.rebuild(if full { self.shape.sizing.grown(buckets) } else { buckets }, self.shape) {
            self.grown += u64::from(full);
        }
    }

    fn shrink_if_sparse(&mut self) {
        let buckets = self.table().buckets.len();
        if self.tally.len >= self.table().slots() / 8 || buckets <= self.least_buckets {
            return;
        }
        // To a third full: far from growing again and from shrinking further.
        let size = self.shape.sizing.buckets_for(self.tally.len * 2).max(self.least_buckets);
        if size < buckets && self.tally.len <= self.shrink_below() && self.rebuild(size, self.shape) {
            self.shrunk += 1;
        }
    }

    /// After a failed rebuild shrinking waits too: until the table has emptied further.
    fn shrink_below(&self) -> usize {
        if self.retry_at == 0 { usize::MAX } else { self.retry_at / 2 }
    }

    /// Entries may have gone into chains, of which there were `before`: as happens with few keys in a small
    /// table, or with keys chosen to collide. Too many, and the table takes a seed that nobody has had a
    /// chance to learn about.
    #[inline]
    fn note_overflow(&mut self, before: usize) {
        if self.tally.overflow > before {
            self.anomalies += (self.tally.overflow - before) as u64;
            if self.tally.overflow > self.reseed_at {
                self.reseed();
            }
        }
    }

    #[cold]
    fn reseed(&mut self) {
        if self.rebuild(self.table().buckets.len(), self.shape.reseeded()) {
            self.reseeded += 1;
        }
        // If that did not help another seed will not either: twice as many, before the next try.
        self.reseed_at = self.tally.overflow * 2 + TOLERATED_OVERFLOW;
    }

    /// Publishes a copy of the table with another size or seed. If there is no memory for it the table
    /// stays, and some time passes before the next attempt.
    fn rebuild(&mut self, buckets: usize, shape: Shape) -> bool {
        let interval = self.tally.interval;
        let draft = self.check_backlog().and_then(|()| Draft::copy(self.table(), buckets, shape, interval));
        match draft {
            Ok(draft) => {
                self.publish(draft);
                true
            }
            Err(_) => {
                self.retry_at = self.tally.len + self.table().slots() / 64 + 1;
                self.plan();
                false
            }
        }
    }

    /// Replaced tables are large. If readers do not let go of them, no more are made.
    fn check_backlog(&self) -> Result<(), OutOfMemory> {
        let domain = self.fdb.table.domain();
        if domain.pending().bytes_hint > 0 {
            domain.collect();
        }
        let waiting = domain.pending().bytes_hint;
        if waiting > self.retired_limit {
            return Err(OutOfMemory::Backlog { waiting, limit: self.retired_limit });
        }
        Ok(())
    }

    fn publish(&mut self, draft: Draft<H>) {
        let old_bytes = self.table().bytes(self.tally.overflow);
        self.fdb.table.swap_sized(draft.table, old_bytes);
        let moves = self.tally.moves + draft.tally.moves;
        self.tally = Tally { moves, ..draft.tally };
        self.shape = draft.shape;
        self.retry_at = 0;
        self.reseed_at = self.tally.overflow * 2 + TOLERATED_OVERFLOW;
        self.plan();
    }
}

impl<H: KeyHash> std::fmt::Debug for FdbWriter<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FdbWriter").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
