//! Which keys may be in their second bucket: a byte per bucket, so that most lookups need not go there.
//!
//! A *stray* is a key that found no place in its first bucket. Two bits of the hash put each key into one of
//! four groups of its first bucket, and the bucket's byte counts the strays of each group, up to three; three
//! stands for "three or more" and stays until the table is rebuilt. A count of zero says: no key of this group
//! is in its second bucket. Half full, a table has one key in 25 in its second bucket, and one key in 55
//! that is not there at all is looked for in vain; and since the bytes of a million entries fit into a core's cache,
//! a burst can have the second buckets' lines on their way together with the first ones'.
//!
//! The writer counts a stray before it fills the entry and uncounts it after it has cleared the entry, so
//! that zero is never read for a key that is a stray throughout. For one that is moved meanwhile the counter of
//! displacements speaks, as it does for the entries: see "An entry that moves" in the parent module.

use super::lookup::prefetch;
use crate::{
    alloc::{OutOfMemory, ZeroedArray},
    sync::{AtomicU8, Ordering},
};

/// Bits of a count.
const BITS: u32 = 2;
/// The most that can be counted.
const MOST: u8 = (1 << BITS) - 1;

/// Written by the writer, read by everyone.
pub(super) struct Strays(ZeroedArray<AtomicU8>);

/// Where in a bucket's byte the keys with this hash are counted.
#[inline]
fn shift(hash: u64) -> u32 {
    // The lowest bits of the half whose highest bits choose the bucket.
    (hash & 3) as u32 * BITS
}

impl Strays {
    pub(super) fn try_new(buckets: usize) -> Result<Self, OutOfMemory> {
        Ok(Self(ZeroedArray::try_new(buckets)?))
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.len()
    }

    #[inline]
    fn of(&self, first: u32) -> &AtomicU8 {
        debug_assert!((first as usize) < self.0.len());
        // SAFETY: `first` is the index of a bucket, as `Table::first` gives it, and there is a byte for each.
        unsafe { self.0.get_unchecked(first as usize) }
    }

    /// Has the byte on its way.
    #[inline]
    pub(super) fn prefetch(&self, first: u32) {
        prefetch(self.of(first));
    }

    /// Whether a key with this first bucket and this hash may be in its second.
    ///
    /// Relaxed: what it may be too old to say, a fence and a look at the displacement counter find out.
    #[inline]
    pub(super) fn possible(&self, first: u32, hash: u64) -> bool {
        self.of(first).load(Ordering::Relaxed) >> shift(hash) & MOST != 0
    }

    /// Writer: a key is about to be placed in its second bucket.
    pub(super) fn count(&self, first: u32, hash: u64) {
        let counts = self.of(first);
        let old = counts.load(Ordering::Relaxed);
        if old >> shift(hash) & MOST != MOST {
            // Release: as the stores of the entry that follow.
            counts.store(old + (1 << shift(hash)), Ordering::Release);
        }
    }

    /// Writer: a key has left its second bucket.
    pub(super) fn uncount(&self, first: u32, hash: u64) {
        let counts = self.of(first);
        let old = counts.load(Ordering::Relaxed);
        let count = old >> shift(hash) & MOST;
        debug_assert!(count != 0);
        if count != MOST {
            // Release pairs with the acquire fence after a look: who reads this and does not find the key sees
            // the displacement counted that took it away.
            counts.store(old - (1 << shift(hash)), Ordering::Release);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn groups_count_for_themselves_up_to_three() {
        let strays = Strays::try_new(2).unwrap();
        for group in 0..4 {
            for count in 0..5 {
                assert_eq!(strays.possible(1, group), count > 0);
                strays.count(1, group);
            }
            assert!((group + 1..4).all(|other| !strays.possible(1, other)));
            assert!((0..4).all(|any| !strays.possible(0, any)));
        }
        // Three may be more: it does not go back.
        for _ in 0..5 {
            strays.uncount(1, 2);
        }
        assert!(strays.possible(1, 2));
        strays.count(0, 3);
        strays.count(0, 3);
        strays.uncount(0, 3);
        assert!(strays.possible(0, 3));
        strays.uncount(0, 3);
        assert!(!strays.possible(0, 3));
    }
}
