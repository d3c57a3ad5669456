//! The readers' side. The essay in the parent module says why a miss can be believed.

use super::{
    MISS,
    bucket::{Bucket, SLOTS},
    hash::KeyHash,
    key::FdbKey,
    scratch::Scratch,
    simd::{Compare, Job},
    table::{Pair, Table},
};
use crate::sync::{Ordering, fence};

/// Keys that are looked up together. More would not hide more latency, as a core has fewer line fill buffers.
pub const MAX_BURST: usize = 64;

/// Tables of more buckets than this are looked up as large ones: from about 4 MB on it takes longer to wait
/// for a second bucket's line than to find out beforehand whether it is needed. (Under loom, tables of one size are
/// taken for large.)
const LARGE_FROM: usize = if cfg!(loom) { 4 } else { 1 << 16 };

/// A burst of lookups.
struct Burst<'b, H> {
    table: &'b Table<H>,
    keys: &'b [FdbKey],
    values: &'b mut [u32],
}

impl<H: KeyHash> Job for Burst<'_, H> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<C: Compare>(self) {
        if self.table.is_large() {
            // SAFETY: the caller's promise.
            unsafe { self.table.burst::<C, true>(self.keys, self.values) }
        } else {
            // SAFETY: as above.
            unsafe { self.table.burst::<C, false>(self.keys, self.values) }
        }
    }
}

/// Stamps what a burst has found.
struct StampBurst<'b, H> {
    table: &'b Table<H>,
    keys: &'b [FdbKey],
    values: &'b [u32],
    interval: u16,
}

impl<H: KeyHash> Job for StampBurst<'_, H> {
    type Output = ();

    /// The lines of the buckets are at hand, so that it is easier to look again than to remember where.
    #[inline(always)]
    unsafe fn run<C: Compare>(self) {
        let mut hashes = Scratch::new();
        let hashes = self.table.hash.hash_burst(self.keys, &mut hashes);
        let hits = self.keys.iter().zip(hashes).zip(self.values).filter(|(_, value)| **value != MISS);
        for ((key, hash), _) in hits {
            let Pair { first, second } = self.table.pair(*hash);
            let entry = [first, second].into_iter().find_map(|index| {
                let bucket = self.table.candidate(index);
                // SAFETY: the caller's promise.
                let mut hints = unsafe { C::hints(bucket, key) };
                while hints != 0 {
                    let entry = &bucket.entries[(hints.trailing_zeros() / C::STEP) as usize % SLOTS];
                    if entry.glance(*key).1 {
                        return Some(entry);
                    }
                    // Of the same address in another network.
                    hints &= hints - 1;
                }
                None
            });
            let stamp = match entry {
                Some(entry) => self.table.stamp(entry),
                // Relaxed: for the reason given in `look`; and missing one does no harm.
                None if self.table.overflow.load(Ordering::Relaxed) == 0 => None,
                None => self.table.chain(Pair { first, second }).find(*key).map(|node| &node.stamp),
            };
            if let Some(stamp) = stamp {
                stamp.touch(self.interval);
            }
        }
    }
}

impl<H: KeyHash> Table<H> {
    /// Notes that the keys that have a value are in use.
    pub(super) fn stamp_burst(&self, keys: &[FdbKey], values: &[u32], interval: u16) {
        if self.keeps_stamps() {
            self.width.run(StampBurst { table: self, keys, values, interval });
        }
    }

    /// Whether most of what is looked up is not in the caches.
    #[inline]
    pub(super) fn is_large(&self) -> bool {
        self.buckets.len() > LARGE_FROM
    }

    /// Up to [`MAX_BURST`] keys. `keys` and `values` are of one length.
    #[inline]
    pub(super) fn lookup_burst(&self, keys: &[FdbKey], values: &mut [u32]) {
        self.width.run(Burst { table: self, keys, values });
    }

    /// First all hashes, so that the lines of the first buckets are on their way together; then the
    /// comparisons there; then, for the keys that were not there and may be strays, the second buckets. In a
    /// large table the lines of those are asked for with the first ones'. Nothing in here branches on what a
    /// single key's comparison says: in a well filled table that is a coin's toss.
    ///
    /// # Safety
    /// As [`Compare::hints`].
    #[inline(always)]
    unsafe fn burst<C: Compare, const LARGE: bool>(&self, keys: &[FdbKey], values: &mut [u32]) {
        let count = keys.len().min(values.len()).min(MAX_BURST);
        if count == 0 {
            return;
        }
        let (keys, values) = (&keys[..count], &mut values[..count]);
        // Acquire pairs with the release in `Moves::bump`: from here on what was counted so far is seen.
        let before = self.moves.total.load(Ordering::Acquire);
        let (mut hashes, mut firsts) = (Scratch::new(), Scratch::new());
        let hashes = self.hash.hash_burst(keys, &mut hashes);
        let firsts = firsts.fill(hashes.iter().map(|hash| self.candidate(self.first(*hash))));
        let mut strays = 0u64;
        if LARGE {
            // The counts first: they are near, and needed soon; later they would queue behind the buckets' lines.
            for (hash, first) in hashes.iter().zip(firsts) {
                self.strays.prefetch(self.first(*hash));
                prefetch_far(*first);
            }
            for (hash, first) in hashes.iter().zip(firsts) {
                let Pair { first: index, second } = self.pair(*hash);
                let stray = self.strays.possible(index, *hash);
                strays = strays + strays + u64::from(stray);
                // Without a branch: the line that is on its way already is asked for again.
                prefetch_far(if stray { self.candidate(second) } else { *first });
            }
            strays <<= 64 - count;
        } else {
            for first in firsts {
                prefetch(*first);
            }
        }

        let mut seen = Seen::default();
        for ((key, first), value) in keys.iter().zip(firsts).zip(values.iter_mut()) {
            // SAFETY: our caller's promise.
            *value = unsafe { seen.glance::<C>(first, key) };
        }
        let (mut missed, mut doubtful) = (seen.missed(count), seen.doubtful(count));
        if missed != 0 {
            for i in ones(missed) {
                let (Some(key), Some(hash), Some(value)) = (keys.get(i), hashes.get(i), values.get_mut(i))
                else {
                    continue;
                };
                let Pair { first, second } = self.pair(*hash);
                // This can be predicted: where most keys are there, who misses them is a stray.
                let stray = if LARGE { strays << i >> 63 != 0 } else { self.strays.possible(first, *hash) };
                if !stray {
                    *value = MISS;
                    continue;
                }
                let mut seen = Seen::default();
                // SAFETY: our caller's promise.
                let found = unsafe { seen.glance::<C>(self.candidate(second), key) };
                let here = seen.missed(1) == 0;
                *value = if here { found } else { MISS };
                missed &= !(u64::from(here) << (63 - i));
                doubtful |= seen.doubtful(1);
            }
        }
        if self.moved_since(before) {
            missed = u64::MAX;
        // Relaxed: for the reason given in `look`.
        } else if missed == 0 || !(doubtful || self.overflow.load(Ordering::Relaxed) != 0) {
            return;
        }
        self.burst_again(keys, hashes, values, missed);
    }

    #[cold]
    fn burst_again(&self, keys: &[FdbKey], hashes: &[u64], values: &mut [u32], which: u64) {
        for (i, ((key, hash), value)) in keys.iter().zip(hashes).zip(values).enumerate() {
            if which << i >> 63 != 0 {
                *value = self.look_until_sure(*key, *hash);
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

    /// Whether anything was counted since `before` was read. Comes after the look.
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
        for index in [pair.first, pair.second] {
            for entry in &self.candidate(index).entries {
                if let Some(value) = entry.confirm(key) {
                    return Some(value);
                }
            }
        }
        // Relaxed: the writer counts a node before it links it and uncounts it after it unlinked it, so
        // that for a key that is in a chain throughout the call every value that can be read is above 0.
        if self.overflow.load(Ordering::Relaxed) == 0 { None } else { self.look_in_chain(key, pair) }
    }

    #[cold]
    fn look_in_chain(&self, key: FdbKey, pair: Pair) -> Option<u32> {
        Some(self.chain(pair).find(key)?.value())
    }
}

/// What the first looks at buckets, one for each of up to 64 keys, have said. The last key's bit is the lowest.
#[derive(Default)]
struct Seen {
    /// No entry's word A is the key's.
    absent: u64,
    /// The first entry whose A is the key's (or any, if there is none) has the key's B, too.
    same: u64,
}

impl Seen {
    /// Looks at one bucket; returns the value, if there is one.
    ///
    /// # Safety
    /// As [`Compare::hints`].
    #[inline(always)]
    unsafe fn glance<C: Compare>(&mut self, bucket: &Bucket, key: &FdbKey) -> u32 {
        // SAFETY: our caller's promise.
        let hints = unsafe { C::hints(bucket, key) };
        let slot = hints.trailing_zeros() / C::STEP;
        let (value, same) = bucket.entries[slot as usize % SLOTS].glance(*key);
        // In this form two instructions each.
        self.absent = self.absent + self.absent + u64::from(hints == 0);
        self.same = self.same + self.same + u64::from(same);
        value
    }

    /// Of `count` keys those that have not been found: the first key's bit is the highest.
    #[inline]
    fn missed(&self, count: usize) -> u64 {
        !(self.same & !self.absent) << (64 - count)
    }

    /// Whether of any key A was found and B was not: the key of another network, or an entry that is just
    /// changed. Another entry of the bucket, which was not looked at, may be the key's.
    #[inline]
    fn doubtful(&self, count: usize) -> bool {
        !(self.same | self.absent) << (64 - count) != 0
    }
}

/// The numbers of the bits that are set: 0 is the highest bit.
#[inline]
fn ones(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let highest = set.leading_zeros();
        set &= !(1u64 << 63).wrapping_shr(highest);
        (highest < u64::BITS).then_some(highest as usize)
    })
}

/// Asks for the value's cache line.
#[inline]
pub(super) fn prefetch<T>(what: &T) {
    prefetch_into::<NEAR, T>(what);
}

/// Asks for the value's cache line, likely far away, into the second-level cache, which can wait for more lines
/// at a time than the first: in tables of 256 MB, 32 lines took a seventh less that way.
#[inline]
pub(super) fn prefetch_far<T>(what: &T) {
    prefetch_into::<FAR, T>(what);
}

// As `_MM_HINT_T0` and `_MM_HINT_T2`.
const NEAR: i32 = 3;
const FAR: i32 = 1;

#[inline(always)]
fn prefetch_into<const LEVEL: i32, T>(what: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: prefetching is a hint without effect on the program; any address would do.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<LEVEL>(std::ptr::from_ref(what).cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = what;
}
