//! The forwarding table: (network id, MAC) to the id of a next hop. One writer, any number of readers.
//!
//! # Shape
//!
//! A cuckoo hash table. An entry is 16 bytes (`entry.rs`), four fill a bucket of one cache line
//! (`bucket.rs`), and a keyed hash (`hash.rs`) gives every key two candidate buckets (`table.rs`). A key is
//! in one of its eight places, or, should the writer find none free and none to be freed by moving others
//! (`insert.rs`), in an overflow chain (`chain.rs`), which with a keyed hash is all but always empty. A byte a
//! bucket says which of its keys may be in their second bucket (`strays.rs`). So a hit or a miss costs one line
//! as a rule, two at worst; looked up in bursts (`lookup.rs`), the lines are on their way together, and a bucket
//! is compared as a whole (`simd.rs`).
//!
//! A table has a fixed size. To grow, to shrink, to take another seed or other contents altogether the writer
//! builds another aside (`draft.rs`) and swaps it in by [`Published`] (`writer.rs`). Everything else is done in
//! place. Those who age entries have stamps beside them (`stamps.rs`).
//!
//! # Why readers are never wrong
//!
//! Readers take no lock, write nothing and can be stopped at any point for any time. The claim: a
//! lookup returns what was true at some moment between its beginning and its end. Never a value of another
//! key, never a miss for a key that was there all the time, nothing from freed memory.
//!
//! **An entry is read whole.** Its two words are read B-A-B; that the pair so read belongs together is
//! shown at the head of `entry.rs`. An entry's filling, emptying and change of value each take effect by
//! one store of word B.
//!
//! **An entry that moves is never missed.** The writer moves a key from place *s* to place *d* in three steps:
//!
//! 1. fill *d* with the copy (release);
//! 2. count the displacement: the total, and the counter of the key's stripe (release);
//! 3. clear *s* (release).
//!
//! A reader that looks in *d* before step 1 and in *s* after step 3 misses a key that never was absent. So
//! a reader
//!
//! * reads a counter (acquire),
//! * looks in all places,
//! * and if it has found nothing: fence (acquire), reads the counter again, and believes the miss only if
//!   both times it was the same.
//!
//! Suppose it missed a present key. The key was in *s* when the lookup began, or had come there by an earlier
//! move. Finding *s* empty (or filled with another key later on) means it read a store that is step 3 or
//! comes after it. By release and acquire (the load of B, or the fence after a relaxed load of A) step 2 is
//! before the second reading of the counter, which thus has at least this displacement's value. Had the
//! first reading shown that value too, step 1 would be before the look (release of the counter, acquire
//! of the first reading), and the look would have found the copy in *d*, or the key moved on from *d* by a
//! later displacement, to which the same applies. So the first reading was older, the two differ, and the
//! miss is not believed. If the two do not differ, no such displacement took place. During a move the key
//! may be found in either place: both hold the same value, as the one writer does nothing else meanwhile, and
//! who has seen a later value in *d* no longer finds *s*.
//!
//! A single lookup compares the total; if that has changed and the key was not found it is looked up again under
//! the counter of its stripe, repeatedly while that changes. Each repetition means that the writer has
//! moved an entry of this stripe, so somebody always gets on. The order of several displacements on one way
//! (from the free place backwards) needs no other argument: each is a move into a free place.
//!
//! **A burst believes all or nothing.** It reads each word once, in no particular order: the words A of a
//! bucket's entries (relaxed), and B (acquire) of the first entry whose A is the key's. What it may not
//! do is to take A of one filling of an entry and B of another for one. Therefore the total also counts,
//! before the stores of the filling (release), each filling of an entry that held another key before;
//! and clearing an entry ends with A := 0, which is no key's. The burst
//!
//! * reads the total (acquire),
//! * looks for all its keys,
//! * fence (acquire), reads the total again, and believes its hits and misses only if both times it was the same.
//!
//! Suppose it took A and B of two fillings for one; let F be the later one. The entry had been used before, so F
//! was counted, and one of the words was read from F's stores or a later one's, which come after (release): by
//! the fence the second reading of the total has at least F's count. So has the first, being the same. But
//! then (acquire) what came before F was there to be seen from the beginning: the entry cleared, A zero.
//! The other word, older than F's, can only have been that: no key's A, or an invalid B. Neither would have
//! been taken. (A place that is filled for the first time has no older words: there, too, A is zero.) If only one entry of a bucket has the key's A, its B decides; if B is another key's, another entry may
//! have the key, and if it is not found at all this key is in doubt. Keys in doubt, or all if the total has
//! changed, are looked up one by one, as above. At a hundred thousand changes a second that is a few bursts in
//! a hundred.
//!
//! **A stray is never overlooked.** Its first bucket's count is raised before the second bucket is filled, and
//! lowered after it is cleared, so that the look at the count is one of the looks of which the above speaks:
//! who reads a zero that stands for the key's having moved back to its first bucket reads what comes after
//! step 3, and does not believe that it missed the key.
//!
//! **A chained entry stays where it is** until it is removed or the table is rebuilt: `chain.rs`. Unlinked
//! nodes are freed through [`crate::qsbr`].
//!
//! **A swap of tables loses nothing.** The new table is complete before it is published (release of the
//! swap, acquire of the load); a lookup, or a whole burst, uses the one table it has loaded. A lookup that
//! begins after a change returned (in whatever way its thread learnt of that) loads the table in which
//! the change was made, or a later one: the swap happened before. The old table is freed after a grace
//! period.
//!
//! # What an attacker can do
//!
//! A tenant picks its own MACs, but knows nothing of the seed, so to it candidate buckets are random. Should
//! keys collide all the same, at most 8 may sit in chains (so that no lookup compares more than 16
//! entries, whatever it picks) before the table is rebuilt with a fresh random seed. Only if that does not help is the tolerance
//! raised, to twice what was left: it cannot be made to reseed for ever either. `tests/attack.rs` tries.
//!
//! # What proves it
//!
//! `tests/loom_*.rs` run each protocol in all interleavings (in the larger ones, all up to 2 or 3
//! preemptions) on tables of four places; `tests/model.rs` compares with a hash map under good and bad hashes;
//! `tests/stress.rs` lets a writer run at full speed against readers that know what must be there.
//! Not modelled by loom: real sizes, the hash, and the layout of the buckets' array, which the latter two run.
//! Miri runs what fits, in the portable way of comparing; ThreadSanitizer runs the stress test. It knows no fences and
//! does not see into assembly, so that it checks reclamation and publication, not the belief in misses.
//! docs/testing.md says how to run each.

mod aes;
mod bucket;
mod chain;
mod displace;
mod draft;
mod entry;
mod hash;
mod insert;
mod key;
mod lookup;
mod scratch;
mod simd;
mod stamps;
mod strays;
mod table;
mod writer;

use std::sync::Arc;

use self::{draft::Shape, table::Table};
pub use self::{
    hash::{FoldedHash, KeyHash, KeyedHash, Seed},
    key::FdbKey,
    lookup::MAX_BURST,
    scratch::Scratch,
    writer::FdbWriter,
};
use crate::{
    published::Published,
    qsbr::{Domain, Reader},
    sync::{AtomicU16, CachePadded, Ordering},
};

/// What a lookup returns for a key that is not there; not a value that can be stored.
pub const MISS: u32 = u32::MAX;

/// Entries in overflow chains that are put up with before the table takes another seed.
const TOLERATED_OVERFLOW: usize = 8;

/// How to make a forwarding table.
#[derive(Debug, Clone)]
pub struct FdbConfig {
    /// Keys the hash; random if none is given. Give one only in tests and measurements.
    pub seed: Option<Seed>,
    /// Entries the table holds without growing. It does not shrink below this. If there is no memory for
    /// so many yet, the table starts small.
    pub initial_capacity: usize,
    /// The load at which the table grows, in percent of its places: 50 to 95. Above some 85, changes take longer
    /// and longer; below, it takes more memory. Tables of fewer than 4,096 places grow at 75 at the latest.
    pub max_load_percent: u32,
    /// Whether to keep, in two more bytes an entry, when entries were last used: see
    /// [`FdbWriter::set_interval`].
    pub aging: bool,
    /// Width of the vector registers that lookups may use; those that are not there are not. 512, or with 256 or 0
    /// what narrower machines would do: for tests and measurements.
    pub vector_bits: u32,
    /// While more than this many bytes wait in the domain for readers to pass a quiescent state, no table
    /// is built aside: bulk replacement is refused, and growth is put off (inserts still find a place).
    pub retired_limit: usize,
}

impl Default for FdbConfig {
    fn default() -> Self {
        Self {
            seed: None,
            initial_capacity: 0,
            max_load_percent: 83,
            aging: false,
            vector_bits: 512,
            retired_limit: 1 << 30,
        }
    }
}

/// Figures of a forwarding table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FdbStats {
    /// Entries in the table.
    pub entries: usize,
    /// Buckets of four entries each.
    pub buckets: usize,
    /// Entries for which there is a place in buckets.
    pub places: usize,
    /// Entries per place in buckets: 0 to about 1.
    pub load: f64,
    /// Entries in overflow chains.
    pub overflow: usize,
    /// Places not to be used before the next rebuild.
    pub worn: usize,
    /// Memory of the table as published.
    pub bytes: usize,
    /// Entries moved to their other bucket to make place, ever.
    pub displacements: u64,
    /// Times the table grew.
    pub grown: u64,
    /// Times the table shrank.
    pub shrunk: u64,
    /// Times the table took another seed because of anomalies.
    pub reseeded: u64,
    /// Bulk replacements.
    pub replaced: u64,
    /// Entries that had to go into an overflow chain, ever.
    pub anomalies: u64,
}

/// The readers' side of a forwarding table.
pub struct Fdb<H: KeyHash = KeyedHash> {
    /// Swapped by the writer only.
    table: Published<Table<H>>,
    /// What readers stamp entries with. Written by the writer once an interval, read by readers that stamp.
    interval: CachePadded<AtomicU16>,
}

impl Fdb {
    /// An empty table for the readers of `domain`, and its writer.
    pub fn new(domain: &Arc<Domain>, config: FdbConfig) -> (FdbWriter, Arc<Fdb>) {
        Self::with_hash(domain, config)
    }
}

impl<H: KeyHash> Fdb<H> {
    /// As [`Fdb::new`], with a hash of the caller's.
    pub fn with_hash(domain: &Arc<Domain>, config: FdbConfig) -> (FdbWriter<H>, Arc<Fdb<H>>) {
        let shape = Shape::new(&config);
        let table = Published::from_box(domain, FdbWriter::first_table(shape, &config));
        let fdb = Arc::new(Self { table, interval: CachePadded(AtomicU16::new(0)) });
        (FdbWriter::new(Arc::clone(&fdb), shape, &config), fdb)
    }

    /// The value of a key, or [`MISS`].
    ///
    /// # Panics
    /// If the reader belongs to another domain or is offline.
    #[inline]
    pub fn lookup(&self, reader: &Reader, key: FdbKey) -> u32 {
        self.table.load(reader).lookup(key)
    }

    /// The values of many keys, [`MISS`] for those that are not there: `values[i]` for `keys[i]`, up to the
    /// shorter one's length. Made for bursts of up to [`MAX_BURST`]; longer ones are cut into such.
    ///
    /// # Panics
    /// If the reader belongs to another domain or is offline.
    #[inline]
    pub fn lookup_burst(&self, reader: &Reader, keys: &[FdbKey], values: &mut [u32]) {
        debug_assert_eq!(keys.len(), values.len());
        let table = self.table.load(reader);
        let count = keys.len().min(values.len());
        for (keys, values) in keys[..count].chunks(MAX_BURST).zip(values[..count].chunks_mut(MAX_BURST)) {
            table.lookup_burst(keys, values);
        }
    }
}

impl<H: KeyHash> Fdb<H> {
    /// As [`Fdb::lookup_burst`], and notes that the entries found are in use: for the source addresses of packets,
    /// where entries age. Without [`FdbConfig::aging`] there is nothing to note.
    ///
    /// # Panics
    /// If the reader belongs to another domain or is offline.
    pub fn lookup_burst_stamping(&self, reader: &Reader, keys: &[FdbKey], values: &mut [u32]) {
        debug_assert_eq!(keys.len(), values.len());
        let table = self.table.load(reader);
        let interval = self.interval.load(Ordering::Relaxed);
        let count = keys.len().min(values.len());
        for (keys, values) in keys[..count].chunks(MAX_BURST).zip(values[..count].chunks_mut(MAX_BURST)) {
            table.lookup_burst(keys, values);
            table.stamp_burst(keys, values, interval);
        }
    }

    fn set_interval(&self, interval: u16) {
        // Relaxed, as the stamps are.
        self.interval.store(interval, Ordering::Relaxed);
    }
}

impl<H: KeyHash> std::fmt::Debug for Fdb<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fdb").finish_non_exhaustive()
    }
}
