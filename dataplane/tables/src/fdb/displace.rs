//! Making room for an entry whose two buckets are full: others move to their other bucket.

use super::{
    bucket::SLOTS,
    entry::{Entry, State},
    hash::KeyHash,
    insert::Tally,
    lookup::prefetch,
    scratch::Scratch,
    stamps::Stamp,
    table::{Pair, Table},
};

/// Buckets looked at before the search for a free place is given up. With random hashes the search ends
/// within this far beyond the load at which the table grows.
const SEARCH_LIMIT: usize = 256;

/// A bucket that the search has reached by displacing entry `slot` of the bucket of step `parent`.
#[derive(Clone, Copy, Default)]
struct Step {
    bucket: u32,
    parent: u16,
    slot: u8,
}

/// `Step::parent` of the two buckets where the search starts.
const ROOT: u16 = u16::MAX;

impl<H: KeyHash> Table<H> {
    /// Frees an entry in one of two full buckets by moving entries to their other candidates. Returns it,
    /// and in which bucket it is.
    pub(super) fn displace(&self, tally: &mut Tally, pair: Pair) -> Option<(u32, &Entry)> {
        // Most searches end next to these two, so have all of those on their way together.
        let (mut keys, mut hashes) = (Scratch::new(), Scratch::new());
        let both = [pair.first, pair.second];
        let entries = both
            .into_iter()
            .flat_map(|bucket| self.candidate(bucket).entries.iter().map(move |entry| (bucket, entry)));
        let keys = keys.fill(entries.clone().map(|(_, entry)| entry.contents().0));
        let hashes = self.hash.hash_burst(keys, &mut hashes);
        let mut targets = Scratch::new();
        let targets = targets.fill(hashes.iter().zip(entries.clone()).map(|(hash, (bucket, _))| {
            let target = self.pair(*hash).other(bucket);
            prefetch(self.candidate(target));
            target
        }));
        for (target, (bucket, entry)) in targets.iter().zip(entries) {
            // A worn entry is not there; one that would be worn once cleared could not be refilled.
            if entry.is_full()
                && entry.is_reusable()
                && let Some(free) = self.free_entry(*target)
            {
                self.move_entry(tally, bucket, entry, free);
                return Some((bucket, entry));
            }
        }
        self.displace_further(tally, pair)
    }

    /// As [`Table::displace`], where one move is not enough.
    ///
    /// A breadth-first search finds the shortest way to a free entry; then the entries on the way are
    /// moved from its far end backwards, so that each move goes to a free place.
    #[cold]
    fn displace_further(&self, tally: &mut Tally, pair: Pair) -> Option<(u32, &Entry)> {
        let mut steps = [Step::default(); SEARCH_LIMIT];
        steps[0] = Step { bucket: pair.first, parent: ROOT, slot: 0 };
        steps[1] = Step { bucket: pair.second, parent: ROOT, slot: 0 };
        let mut known = 2;
        let mut at = 0;
        while at < known {
            let bucket = steps[at].bucket;
            for slot in 0..SLOTS {
                let entry = &self.candidate(bucket).entries[slot];
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
    /// is free then, and the bucket where the way begins.
    fn shift<'t>(
        &'t self,
        tally: &mut Tally,
        steps: &[Step],
        mut last: Step,
        mut free: &'t Entry,
    ) -> (u32, &'t Entry) {
        while last.parent != ROOT {
            let parent = steps[last.parent as usize];
            let source = &self.candidate(parent.bucket).entries[last.slot as usize];
            self.move_entry(tally, parent.bucket, source, free);
            free = source;
            last = parent;
        }
        (last.bucket, free)
    }

    /// Moves what is in entry `source` of bucket `from` to its other candidate, in which `free` is.
    fn move_entry(&self, tally: &mut Tally, from: u32, source: &Entry, free: &Entry) {
        let State::Full(key, value) = source.state() else { return };
        let hash = self.hash.hash(key);
        let first = self.first(hash);
        let strays = from == first;
        if strays {
            self.strays.count(first, hash);
        }
        // The order of these three is what readers rely on: see the essay in `fdb`.
        self.fill(free, key, value, self.stamp(source).map_or(0, Stamp::get));
        self.moves.bump(hash);
        source.clear();
        if !strays {
            self.strays.uncount(first, hash);
        }
        tally.moves += 1;
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
