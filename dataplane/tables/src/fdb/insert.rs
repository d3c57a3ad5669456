//! The writer's side of one table: finding a place for an entry, displacing others on the way.

use super::{
    bucket::SLOTS,
    entry::{Entry, State},
    hash::KeyHash,
    key::FdbKey,
    table::{Pair, Table},
};
use crate::{alloc::OutOfMemory, sync::Ordering};

/// Buckets looked at before the search for a free place is given up. With random hashes the search ends
/// within this far beyond the load at which the table grows.
const SEARCH_LIMIT: usize = 256;

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
}

/// A bucket that the search has reached by displacing entry `slot` of the bucket of step `parent`.
#[derive(Clone, Copy, Default)]
struct Step {
    bucket: u32,
    parent: u16,
    slot: u8,
}

/// `Step::parent` of the two buckets where the search starts.
const ROOT: u16 = u16::MAX;

/// Where the writer finds a key.
pub(super) enum Found<'t> {
    Entry(&'t Entry),
    Chain(Pair),
}

impl<H: KeyHash> Table<H> {
    /// Where `key` is.
    pub(super) fn find(&self, key: FdbKey) -> Option<(Found<'_>, u32)> {
        let pair = self.pair(self.hash.hash(key));
        for index in [pair.first, pair.second] {
            for entry in &self.bucket(index).entries {
                if entry.holds(key)
                    && let State::Full(_, value) = entry.state()
                {
                    return Some((Found::Entry(entry), value));
                }
            }
        }
        if self.overflow.load(Ordering::Relaxed) == 0 {
            return None;
        }
        Some((Found::Chain(pair), self.chain(pair).find(key)?.value()))
    }

    /// Gives a present key a new value; returns the old one.
    pub(super) fn update(&self, key: FdbKey, value: u32) -> Option<u32> {
        match self.find(key)? {
            (Found::Entry(entry), _) => Some(entry.update(value)),
            (Found::Chain(pair), _) => Some(self.chain(pair).find(key)?.update(value)),
        }
    }

    /// Adds an absent key. On failure nothing has changed for readers.
    pub(super) fn add(&self, tally: &mut Tally, key: FdbKey, value: u32) -> Result<(), OutOfMemory> {
        let pair = self.pair(self.hash.hash(key));
        if let Some(entry) = self.free_entry(pair.first).or_else(|| self.free_entry(pair.second)) {
            self.fill(entry, key, value);
        } else if let Some(entry) = self.displace(tally, pair) {
            self.fill(entry, key, value);
        } else {
            // Counted before it is linked: see `look`.
            let counted = self.overflow.load(Ordering::Relaxed);
            self.overflow.store(counted + 1, Ordering::Release);
            if let Err(refused) = self.chain(pair).push(key, value) {
                self.overflow.store(counted, Ordering::Release);
                return Err(refused);
            }
            tally.overflow += 1;
        }
        tally.len += 1;
        Ok(())
    }

    /// Fills a free entry, and counts that if it held another key before.
    fn fill(&self, entry: &Entry, key: FdbKey, value: u32) {
        if entry.is_used() {
            self.moves.bump_total();
        }
        entry.fill(key, value);
    }

    fn free_entry(&self, bucket: u32) -> Option<&Entry> {
        self.bucket(bucket).entries.iter().find(|entry| entry.is_free())
    }

    /// Frees an entry in one of two full buckets by moving entries to their other candidates.
    ///
    /// A breadth-first search finds the shortest way to a free entry; then the entries on the way are
    /// moved from its far end backwards, so that each move goes to a free place.
    fn displace(&self, tally: &mut Tally, pair: Pair) -> Option<&Entry> {
        let mut steps = [Step::default(); SEARCH_LIMIT];
        steps[0] = Step { bucket: pair.first, parent: ROOT, slot: 0 };
        steps[1] = Step { bucket: pair.second, parent: ROOT, slot: 0 };
        let mut known = 2;
        let mut at = 0;
        while at < known {
            let bucket = steps[at].bucket;
            for slot in 0..SLOTS {
                let entry = &self.bucket(bucket).entries[slot];
                // A worn entry is not there; one that would be worn once cleared could not be refilled.
                let State::Full(key, _) = entry.state() else { continue };
                if !entry.is_reusable() {
                    continue;
                }
                let target = self.pair(self.hash.hash(key)).other(bucket);
                let step = Step { bucket: target, parent: at as u16, slot: slot as u8 };
                if let Some(free) = self.free_entry(target) {
                    return Some(self.shift(tally, &steps, step, free));
                }
                // A way that came back to a bucket of its own would move an entry twice.
                if known < SEARCH_LIMIT && !comes_from(&steps, at, target) {
                    steps[known] = step;
                    known += 1;
                }
            }
            at += 1;
        }
        None
    }

    /// Moves the entries on the way that `last` ends, `free` being in its bucket. Returns the entry that
    /// is free then, in the bucket where the way begins.
    fn shift<'t>(
        &'t self,
        tally: &mut Tally,
        steps: &[Step],
        mut last: Step,
        mut free: &'t Entry,
    ) -> &'t Entry {
        while last.parent != ROOT {
            let parent = steps[last.parent as usize];
            let source = &self.bucket(parent.bucket).entries[last.slot as usize];
            if let State::Full(key, value) = source.state() {
                // The order of these three is what readers rely on: see the essay in `fdb`.
                self.fill(free, key, value);
                self.moves.bump(self.hash.hash(key));
                source.clear();
                tally.moves += 1;
            }
            free = source;
            last = parent;
        }
        free
    }
}

/// Whether `bucket` is on the way to step `at`, its end included.
fn comes_from(steps: &[Step], mut at: usize, bucket: u32) -> bool {
    loop {
        let step = steps[at];
        if step.bucket == bucket {
            return true;
        }
        if step.parent == ROOT {
            return false;
        }
        at = step.parent as usize;
    }
}
