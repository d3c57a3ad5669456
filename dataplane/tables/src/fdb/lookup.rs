//! The readers' side. The essay in the parent module says why a miss can be believed.

use super::{
    MISS,
    bucket::SLOTS,
    hash::KeyHash,
    key::FdbKey,
    table::{Pair, Table},
};
use crate::sync::{Ordering, fence};

/// Keys that are looked up together. More would not hide more latency, as a core has fewer line fill buffers.
pub const MAX_BURST: usize = 64;

impl<H: KeyHash> Table<H> {
    /// Up to [`MAX_BURST`] keys: first all hashes, so that the buckets' lines are on their way together,
    /// then all comparisons. `keys` and `values` are of one length.
    pub(super) fn lookup_burst(&self, keys: &[FdbKey], values: &mut [u32]) {
        let mut hashes = [0; MAX_BURST];
        let mut pairs = [Pair { first: 0, second: 0 }; MAX_BURST];
        for ((key, hash), pair) in keys.iter().zip(&mut hashes).zip(&mut pairs) {
            *hash = self.hash.hash(*key);
            *pair = self.pair(*hash);
            self.prefetch(*pair);
        }

        // Acquire pairs with the release in `Moves::bump`: from here on every displacement counted so far
        // shows its copy.
        let before = self.moves.total.load(Ordering::Acquire);
        let mut missed = false;
        for ((key, pair), value) in keys.iter().zip(&pairs).zip(values.iter_mut()) {
            *value = self.look(*key, *pair).unwrap_or(MISS);
            missed |= *value == MISS;
        }
        if missed && self.moved_since(before) {
            for ((key, hash), value) in keys.iter().zip(&hashes).zip(values) {
                if *value == MISS {
                    *value = self.look_until_sure(*key, *hash);
                }
            }
        }
    }

    #[inline]
    pub(super) fn lookup(&self, key: FdbKey) -> u32 {
        let hash = self.hash.hash(key);
        // Acquire: as in `lookup_burst`.
        let before = self.moves.total.load(Ordering::Acquire);
        match self.look(key, self.pair(hash)) {
            Some(value) => value,
            None if self.moved_since(before) => self.look_until_sure(key, hash),
            None => MISS,
        }
    }

    /// Whether any displacement was counted since `before` was read. Comes after the look.
    fn moved_since(&self, before: u64) -> bool {
        // Acquire fence: whatever release store of the writer's the look has read from (an entry's clear
        // after its displacement, or its later filling with another key), what came before it, the
        // counter's new value, is seen by the load below.
        fence(Ordering::Acquire);
        self.moves.total.load(Ordering::Relaxed) != before
    }

    /// Looks until no displacement of a key of this stripe came in between.
    #[cold]
    fn look_until_sure(&self, key: FdbKey, hash: u64) -> u32 {
        let pair = self.pair(hash);
        let stripe = self.moves.stripe(hash);
        // Acquire: as in `lookup_burst`.
        let mut before = stripe.load(Ordering::Acquire);
        loop {
            if let Some(value) = self.look(key, pair) {
                return value;
            }
            // As in `moved_since`.
            fence(Ordering::Acquire);
            let after = stripe.load(Ordering::Acquire);
            if after == before {
                return MISS;
            }
            // The writer got on with a displacement; it cannot do so for ever without growing the table.
            before = after;
        }
    }

    /// One look at every place where the key may be.
    #[inline]
    fn look(&self, key: FdbKey, pair: Pair) -> Option<u32> {
        // Which of the eight it is cannot be predicted: compare all without a branch, then confirm.
        let buckets = [self.bucket(pair.first), self.bucket(pair.second)];
        let mut hints = buckets[0].hints(key) | buckets[1].hints(key) << SLOTS;
        while hints != 0 {
            let at = hints.trailing_zeros() as usize;
            if let Some(value) = buckets[at / SLOTS % 2].entries[at % SLOTS].confirm(key) {
                return Some(value);
            }
            hints &= hints - 1;
        }
        // Relaxed: the writer counts a node before it links it and uncounts it after it unlinked it, so
        // that for a key that is in a chain throughout the call every value that can be read is above 0.
        if self.overflow.load(Ordering::Relaxed) == 0 { None } else { self.look_in_chain(key, pair) }
    }

    #[cold]
    fn look_in_chain(&self, key: FdbKey, pair: Pair) -> Option<u32> {
        Some(self.chain(pair).find(key)?.value())
    }

    #[inline]
    fn prefetch(&self, pair: Pair) {
        for index in [pair.first, pair.second] {
            prefetch(self.bucket(index));
        }
    }
}

/// Asks for the value's cache line.
#[inline]
fn prefetch<T>(what: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: prefetching is a hint without effect on the program; any address would do.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(what).cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = what;
}
