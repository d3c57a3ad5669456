//! A table that is not published yet: built aside, to grow, to shrink, to take another seed or other contents.

use super::{
    MAX_BURST, MISS, TOLERATED_OVERFLOW,
    bucket::SLOTS,
    entry::State,
    hash::{KeyHash, Seed},
    insert::Tally,
    key::FdbKey,
    simd::Width,
    table::Table,
};
use crate::alloc::{OutOfMemory, try_box};

/// Tables below this many buckets (a million entries, 16 MB) double when they grow, so that little is copied: their
/// memory is no matter. Larger ones grow by a third, so that one that has just grown is two thirds full.
const DOUBLING: usize = 1 << 18;

/// Tables below this many buckets are less full, as their load varies more from bucket to bucket.
pub(super) const SMALL: usize = 1024;

/// How many entries a table of this many buckets takes before it grows: up to 90%, where a search for a place
/// is still short.
pub(super) fn capacity(buckets: usize) -> usize {
    let slots = buckets * SLOTS;
    if buckets < SMALL { slots - slots / 4 } else { slots - slots / 10 }
}

/// The next size up.
pub(super) fn grown(buckets: usize) -> usize {
    if buckets < DOUBLING { buckets * 2 } else { buckets + buckets / 3 }
}

/// Buckets in which so many entries fit without growing: the inverse of `capacity`.
pub(super) fn buckets_for(entries: usize) -> usize {
    let with_share_free = |share: usize| entries.saturating_add(entries.div_ceil(share)).div_ceil(SLOTS);
    let small = with_share_free(3).max(2);
    if small < SMALL { small } else { with_share_free(9).max(SMALL) }
}

pub(super) struct Draft<H> {
    pub(super) table: Box<Table<H>>,
    pub(super) tally: Tally,
    pub(super) seed: Seed,
}

impl<H: KeyHash> Draft<H> {
    pub(super) fn new(buckets: usize, seed: Seed, width: Width) -> Result<Self, OutOfMemory> {
        Ok(Self { table: try_box(Table::try_new(buckets, &seed, width)?)?, tally: Tally::default(), seed })
    }

    /// A copy of a table with another size or seed.
    ///
    /// With the same seed that goes through the new table nearly in order, since a bucket's index grows with the
    /// hash: entries that were in their first bucket have neighbours in the old table for neighbours in the new.
    pub(super) fn copy(from: &Table<H>, buckets: usize, seed: Seed) -> Result<Self, OutOfMemory> {
        let mut draft = Self::new(buckets, seed, from.width)?;
        let mut batch = Batch::default();
        for bucket in from.buckets.iter() {
            if batch.len + SLOTS > batch.keys.len() {
                draft.add(&mut batch)?;
            }
            for entry in &bucket.entries {
                // Written whether there is something or not, since that can't be predicted.
                let (key, value) = entry.contents();
                batch.keys[batch.len] = key;
                batch.values[batch.len] = value;
                batch.len += usize::from(matches!(entry.state(), State::Full(..)));
            }
        }
        draft.add(&mut batch)?;
        for node in from.chains.iter().flat_map(|chain| chain.iter()) {
            batch.push(node.key, node.value());
            draft.add(&mut batch)?;
        }
        Ok(draft)
    }

    /// A table of these entries with at least so many buckets. If a key comes twice its last value counts. Also
    /// returns how often it took another seed on the way.
    ///
    /// # Panics
    /// If a value is [`MISS`].
    pub(super) fn load(
        entries: impl Iterator<Item = (FdbKey, u32)>,
        least_buckets: usize,
        seed: Seed,
        width: Width,
    ) -> Result<(Self, u64), OutOfMemory> {
        // The hint is a stranger's word: no more memory in advance than for the largest table we expect.
        let expected = entries.size_hint().0.min(1 << 24);
        let mut draft = Self::new(buckets_for(expected).max(least_buckets), seed, width)?;
        let mut anomalies = 0;
        let mut reseed_at = TOLERATED_OVERFLOW;
        let mut entries = entries.fuse();
        let mut batch = Batch::default();
        loop {
            batch.fill(&mut entries);
            if batch.len == 0 {
                return Ok((draft, anomalies));
            }
            draft.put(&mut batch)?;
            if draft.tally.overflow > reseed_at {
                anomalies += 1;
                draft = Self::copy(&draft.table, draft.table.buckets.len(), Seed::random())?;
                reseed_at = draft.tally.overflow * 2 + TOLERATED_OVERFLOW;
            }
        }
    }

    /// Adds keys that are not there.
    fn add(&mut self, batch: &mut Batch) -> Result<(), OutOfMemory> {
        self.table.add_all(&mut self.tally, &batch.keys[..batch.len], &batch.values)?;
        batch.len = 0;
        Ok(())
    }

    /// Adds keys or changes their values, growing if need be.
    fn put(&mut self, batch: &mut Batch) -> Result<(), OutOfMemory> {
        let mut done = 0;
        loop {
            let buckets = self.table.buckets.len();
            let (keys, values) = (&batch.keys[done..batch.len], &batch.values[done..]);
            self.table.put_all(&mut self.tally, keys, values, capacity(buckets), &mut done)?;
            if done == batch.len {
                break;
            }
            *self = Self::copy(&self.table, grown(buckets), self.seed)?;
        }
        batch.len = 0;
        Ok(())
    }
}

/// Entries on their way into a table: as many as a burst takes.
struct Batch {
    len: usize,
    keys: [FdbKey; MAX_BURST],
    values: [u32; MAX_BURST],
}

impl Default for Batch {
    fn default() -> Self {
        Self { len: 0, keys: [FdbKey::new(0, 0); MAX_BURST], values: [0; MAX_BURST] }
    }
}

impl Batch {
    fn push(&mut self, key: FdbKey, value: u32) {
        self.keys[self.len] = key;
        self.values[self.len] = value;
        self.len += 1;
    }

    fn fill(&mut self, entries: &mut impl Iterator<Item = (FdbKey, u32)>) {
        for (key, value) in entries.take(MAX_BURST - self.len) {
            assert_ne!(value, MISS, "the value that says there is none");
            self.push(key, value);
        }
    }
}
