//! A table that is not published yet: built aside, to grow, to shrink, to take another seed or other contents.

use super::{
    FdbConfig, MAX_BURST, MISS, TOLERATED_OVERFLOW,
    bucket::SLOTS,
    hash::{KeyHash, Seed},
    insert::Tally,
    key::FdbKey,
    simd::Width,
    stamps::Stamp,
    table::Table,
};
use crate::alloc::{OutOfMemory, try_box};

/// Tables below this many buckets (a million entries, 16 MB) double when they grow, so that little is copied: their
/// memory is no matter. Larger ones grow by a quarter, so that one that has just grown is two thirds full.
const DOUBLING: usize = 1 << 18;

/// Tables below this many buckets are at most three quarters full, as their load varies more from bucket to
/// bucket.
const SMALL: usize = 1024;
const SMALL_PERCENT: usize = 75;

/// How large a table is to be.
#[derive(Clone, Copy)]
pub(super) struct Sizing {
    /// The load at which a table grows.
    percent: usize,
}

impl Sizing {
    pub(super) fn new(max_load_percent: u32) -> Self {
        Self { percent: max_load_percent.clamp(50, 95) as usize }
    }

    /// How many entries a table of this many buckets takes before it grows.
    pub(super) fn capacity(self, buckets: usize) -> usize {
        let percent = if buckets < SMALL { self.percent.min(SMALL_PERCENT) } else { self.percent };
        buckets * SLOTS * percent / 100
    }

    /// The next size up.
    pub(super) fn grown(self, buckets: usize) -> usize {
        if buckets < DOUBLING { buckets * 2 } else { buckets + buckets / 4 }
    }

    /// Buckets in which so many entries fit without growing: the inverse of `capacity`.
    pub(super) fn buckets_for(self, entries: usize) -> usize {
        let at = |percent| entries.saturating_mul(100).div_ceil(percent).div_ceil(SLOTS);
        let small = at(self.percent.min(SMALL_PERCENT)).max(2);
        if small < SMALL { small } else { at(self.percent).max(SMALL) }
    }
}

/// What the tables of one writer have in common; only the seed may become another.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) seed: Seed,
    pub(super) width: Width,
    pub(super) sizing: Sizing,
    /// Whether stamps are kept.
    pub(super) aging: bool,
}

impl Shape {
    pub(super) fn new(config: &FdbConfig) -> Self {
        Self {
            seed: config.seed.unwrap_or_else(Seed::random),
            width: Width::up_to(config.vector_bits),
            sizing: Sizing::new(config.max_load_percent),
            aging: config.aging,
        }
    }

    /// The same with another seed, which nobody has had a chance to learn about.
    pub(super) fn reseeded(self) -> Self {
        Self { seed: Seed::random(), ..self }
    }
}

pub(super) struct Draft<H> {
    pub(super) table: Box<Table<H>>,
    pub(super) tally: Tally,
    pub(super) shape: Shape,
}

/// What [`Draft::load`] has made.
pub(super) struct Loaded<H> {
    pub(super) draft: Draft<H>,
    /// Entries that went into chains on the way.
    pub(super) anomalies: u64,
    /// How often it took another seed because of them.
    pub(super) reseeded: u64,
}

impl<H: KeyHash> Draft<H> {
    /// An empty table, for entries of this interval.
    pub(super) fn new(buckets: usize, shape: Shape, interval: u16) -> Result<Self, OutOfMemory> {
        let table = try_box(Table::try_new(buckets, &shape)?)?;
        Ok(Self { table, tally: Tally { interval, ..Tally::default() }, shape })
    }

    /// A copy of a table with another size or seed.
    ///
    /// With the same seed that goes through the new table nearly in order, since a bucket's index grows with the
    /// hash: entries that were in their first bucket have neighbours in the old table for neighbours in the new.
    pub(super) fn copy(
        from: &Table<H>,
        buckets: usize,
        shape: Shape,
        interval: u16,
    ) -> Result<Self, OutOfMemory> {
        let mut draft = Self::new(buckets, shape, interval)?;
        let mut batch = Batch::default();
        for bucket in from.buckets.iter() {
            if batch.len + SLOTS > MAX_BURST {
                draft.add(&mut batch)?;
            }
            for entry in &bucket.entries {
                // Written whether there is something or not, since that can't be predicted.
                let (key, value) = entry.contents();
                batch.put(key, value, from.stamp(entry).map_or(0, Stamp::get));
                batch.len += usize::from(entry.is_full());
            }
        }
        draft.add(&mut batch)?;
        for node in from.chains.iter().flat_map(|chain| chain.iter()) {
            batch.put(node.key, node.value(), node.stamp.get());
            batch.len = 1;
            draft.add(&mut batch)?;
        }
        Ok(draft)
    }

    /// A table of these entries with at least so many buckets. If a key comes twice its last value counts.
    ///
    /// # Panics
    /// If a value is [`MISS`].
    pub(super) fn load(
        entries: impl Iterator<Item = (FdbKey, u32)>,
        least_buckets: usize,
        shape: Shape,
        interval: u16,
    ) -> Result<Loaded<H>, OutOfMemory> {
        // The hint is a stranger's word: no more memory in advance than for the largest table we expect.
        let expected = shape.sizing.buckets_for(entries.size_hint().0.min(1 << 24));
        let mut draft = Self::new(expected.max(least_buckets), shape, interval)?;
        let (mut anomalies, mut reseeded) = (0, 0);
        let mut reseed_at = TOLERATED_OVERFLOW;
        let mut entries = entries.fuse();
        let mut batch = Batch::default();
        loop {
            batch.fill(&mut entries);
            if batch.len == 0 {
                return Ok(Loaded { draft, anomalies, reseeded });
            }
            let before = draft.tally.overflow;
            draft.put(&mut batch)?;
            anomalies += draft.tally.overflow.saturating_sub(before) as u64;
            if draft.tally.overflow > reseed_at {
                reseeded += 1;
                draft = draft.rebuilt(draft.table.buckets.len(), draft.shape.reseeded())?;
                reseed_at = draft.tally.overflow * 2 + TOLERATED_OVERFLOW;
            }
        }
    }

    fn rebuilt(&self, buckets: usize, shape: Shape) -> Result<Self, OutOfMemory> {
        Self::copy(&self.table, buckets, shape, self.tally.interval)
    }

    /// Adds keys that are not there.
    fn add(&mut self, batch: &mut Batch) -> Result<(), OutOfMemory> {
        self.table.add_all(&mut self.tally, &batch.keys[..batch.len], &batch.values, &batch.stamps)?;
        batch.len = 0;
        Ok(())
    }

    /// Adds keys or changes their values, growing if need be.
    fn put(&mut self, batch: &mut Batch) -> Result<(), OutOfMemory> {
        let mut done = 0;
        loop {
            let buckets = self.table.buckets.len();
            let (keys, values) = (&batch.keys[done..batch.len], &batch.values[done..]);
            self.table.put_all(
                &mut self.tally,
                keys,
                values,
                self.shape.sizing.capacity(buckets),
                &mut done,
            )?;
            if done == batch.len {
                break;
            }
            *self = self.rebuilt(self.shape.sizing.grown(buckets), self.shape)?;
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
    stamps: [u16; MAX_BURST],
}

impl Default for Batch {
    fn default() -> Self {
        Self { len: 0, keys: [FdbKey::new(0, 0); MAX_BURST], values: [0; MAX_BURST], stamps: [0; MAX_BURST] }
    }
}

impl Batch {
    /// Writes an entry behind the last one; it is there once `len` counts it.
    fn put(&mut self, key: FdbKey, value: u32, stamp: u16) {
        self.keys[self.len] = key;
        self.values[self.len] = value;
        self.stamps[self.len] = stamp;
    }

    fn fill(&mut self, entries: &mut impl Iterator<Item = (FdbKey, u32)>) {
        for (key, value) in entries.take(MAX_BURST - self.len) {
            assert_ne!(value, MISS, "the value that says there is none");
            self.put(key, value, 0);
            self.len += 1;
        }
    }
}
