//! One table: buckets, overflow chains and displacement counters. Of fixed size; growing makes another.

use super::{
    MISS,
    bucket::{Bucket, SLOTS},
    chain::{Chain, Node},
    draft::Shape,
    entry::{Entry, State},
    hash::KeyHash,
    key::FdbKey,
    simd::Width,
    stamps::{Stamp, Stamps},
    strays::Strays,
};
use crate::{
    alloc::{OutOfMemory, ZeroedArray, try_slice},
    sync::{AtomicU64, CachePadded, Ordering},
};

/// Displacement counters besides the total. One would do; more of them make it less likely that a
/// reader's miss has to be looked up once more because of other keys' moves.
const STRIPES: usize = if cfg!(loom) { 2 } else { 64 };

/// Buckets that share an overflow chain.
const BUCKETS_PER_CHAIN: usize = 16;

/// Both candidate buckets of a key; never the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pair {
    pub(super) first: u32,
    pub(super) second: u32,
}

impl Pair {
    /// The candidate that `bucket` is not.
    pub(super) fn other(self, bucket: u32) -> u32 {
        if bucket == self.first { self.second } else { self.first }
    }
}

/// A `&Table` is held by its writer and by readers that are online in the writer's domain; by nobody else.
/// (It is private to `fdb`, where readers get it from `Published::load`.)
pub(super) struct Table<H> {
    pub(super) buckets: ZeroedArray<Bucket>,
    pub(super) hash: H,
    pub(super) strays: Strays,
    stamps: Stamps,
    /// How readers compare.
    pub(super) width: Width,
    pub(super) chains: Box<[Chain]>,
    /// At least the number of entries in chains: spares readers the look when it is zero, as it nearly
    /// always is. Written by the writer, read by everyone.
    pub(super) overflow: AtomicU64,
    pub(super) moves: Moves,
}

/// Counts what a reader must not be in the middle of: it compares before it believes. Written by the writer
/// only; apart from what readers always need, as the writer's stores take the lines away.
pub(super) struct Moves {
    /// Displacements, and fillings of entries that have been used before.
    pub(super) total: CachePadded<AtomicU64>,
    /// Displacements, by the key's hash.
    stripes: CachePadded<[AtomicU64; STRIPES]>,
}

impl Moves {
    /// The counter that covers all keys of this hash.
    #[inline]
    pub(super) fn stripe(&self, hash: u64) -> &AtomicU64 {
        &self.stripes[hash as usize % STRIPES]
    }

    /// Writer: a displacement, strictly between filling the new place and clearing the old.
    pub(super) fn bump(&self, hash: u64) {
        self.bump_total();
        increment(self.stripe(hash));
    }

    /// Writer: before an entry is filled that has been used before.
    pub(super) fn bump_total(&self) {
        increment(&self.total);
    }
}

fn increment(counter: &AtomicU64) {
    // Release pairs with the acquire load of the counter before a look: who has seen a displacement counted
    // sees the copy, and who has seen a filling counted sees that the entry was cleared. (What the writer
    // stores after this, with release, pairs with the acquire fence after a look: who missed the original, or
    // saw the entry filled, sees it counted.)
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
}

impl<H: KeyHash> Table<H> {
    /// An empty table of at least two buckets.
    pub(super) fn try_new(buckets: usize, shape: &Shape) -> Result<Self, OutOfMemory> {
        let buckets = buckets.max(2);
        if u32::try_from(buckets).is_err() {
            return Err(OutOfMemory::Allocator { bytes: buckets.saturating_mul(size_of::<Bucket>()) });
        }
        Ok(Self {
            chains: try_slice(buckets.div_ceil(BUCKETS_PER_CHAIN), Chain::new)?,
            buckets: ZeroedArray::try_new(buckets)?,
            strays: Strays::try_new(buckets)?,
            stamps: Stamps::try_new(buckets * SLOTS, shape.aging)?,
            hash: H::new(&shape.seed),
            width: shape.width,
            overflow: AtomicU64::new(0),
            moves: Moves {
                total: CachePadded(AtomicU64::new(0)),
                stripes: CachePadded(std::array::from_fn(|_| AtomicU64::new(0))),
            },
        })
    }

    /// The candidate buckets of a hash. Each half, a number below 2^32, is scaled to the number of
    /// buckets, which need not be a power of two.
    #[inline]
    pub(super) fn pair(&self, hash: u64) -> Pair {
        let buckets = self.buckets.len() as u64;
        let first = self.first(hash);
        let second = (((hash >> 32) * buckets) >> 32) as u32;
        let next = if u64::from(first) + 1 == buckets { 0 } else { first + 1 };
        Pair { first, second: if second == first { next } else { second } }
    }

    /// The first of a hash's candidates.
    #[inline]
    pub(super) fn first(&self, hash: u64) -> u32 {
        (((hash & 0xffff_ffff) * self.buckets.len() as u64) >> 32) as u32
    }

    /// The bucket with an index that `pair` or `first` has given.
    #[inline]
    pub(super) fn candidate(&self, index: u32) -> &Bucket {
        debug_assert!((index as usize) < self.buckets.len());
        // SAFETY: `pair` and `first` scale 32 bits to below the number of buckets.
        unsafe { self.buckets.get_unchecked(index as usize) }
    }

    /// The chain for keys with these candidates.
    #[inline]
    pub(super) fn chain(&self, pair: Pair) -> &Chain {
        &self.chains[pair.first as usize / BUCKETS_PER_CHAIN]
    }

    /// When an entry of the buckets was last used, if that is kept.
    #[inline]
    pub(super) fn stamp(&self, entry: &Entry) -> Option<&Stamp> {
        self.stamps.of(entry, self.buckets.as_ptr().cast())
    }

    #[inline]
    pub(super) fn keeps_stamps(&self) -> bool {
        self.stamps.bytes() > 0
    }

    pub(super) fn slots(&self) -> usize {
        self.buckets.len() * SLOTS
    }

    /// Memory of the table with `overflow` entries in chains.
    pub(super) fn bytes(&self, overflow: usize) -> usize {
        size_of::<Self>()
            + self.buckets.len() * size_of::<Bucket>()
            + self.strays.bytes()
            + self.stamps.bytes()
            + self.chains.len() * size_of::<Chain>()
            + overflow * size_of::<Node>()
    }

    /// Writer: every entry. (A reader would have to expect entries twice or not at all.)
    pub(super) fn iter(&self) -> impl Iterator<Item = (FdbKey, u32)> {
        let placed = self.buckets.iter().flat_map(|bucket| &bucket.entries).filter_map(|entry| {
            let State::Full(key, value) = entry.state() else { return None };
            Some((key, value))
        });
        let chained = self.chains.iter().flat_map(Chain::iter).map(|node| (node.key, node.value()));
        placed.chain(chained)
    }
}

const _: () = assert!(MISS == u32::MAX);
