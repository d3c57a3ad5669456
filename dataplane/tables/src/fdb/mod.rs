//! The forwarding table.

mod bucket;
mod chain;
mod entry;
mod hash;
mod insert;
mod key;
mod lookup;
mod table;
mod writer;

use std::sync::Arc;

use self::table::Table;
pub use self::{
    hash::{FoldedHash, KeyHash, Seed},
    key::FdbKey,
    lookup::MAX_BURST,
    writer::FdbWriter,
};
use crate::{
    published::Published,
    qsbr::{Domain, Reader},
};

/// What a lookup returns for a key that is not there; not a value that can be stored.
pub const MISS: u32 = u32::MAX;

/// How to make a forwarding table.
#[derive(Debug, Clone)]
pub struct FdbConfig {
    /// Keys the hash; random if none is given. Give one only in tests and measurements.
    pub seed: Option<Seed>,
    /// Entries the table holds without growing. It does not shrink below this. If there is no memory for
    /// so many yet, the table starts small.
    pub initial_capacity: usize,
    /// While more than this many bytes wait in the domain for readers to pass a quiescent state, no table
    /// is built aside: bulk replacement is refused, and growth is put off (inserts still find a place).
    pub retired_limit: usize,
}

impl Default for FdbConfig {
    fn default() -> Self {
        Self { seed: None, initial_capacity: 0, retired_limit: 1 << 30 }
    }
}

/// Figures of a forwarding table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FdbStats {
    /// Entries in the table.
    pub entries: usize,
    /// Buckets of four entries each.
    pub buckets: usize,
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
pub struct Fdb<H: KeyHash = FoldedHash> {
    /// Swapped by the writer only.
    table: Published<Table<H>>,
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
        let seed = config.seed.unwrap_or_else(Seed::random);
        let table = FdbWriter::first_table(&seed, &config);
        let fdb = Arc::new(Self { table: Published::from_box(domain, table) });
        (FdbWriter::new(Arc::clone(&fdb), seed, &config), fdb)
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

impl<H: KeyHash> std::fmt::Debug for Fdb<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fdb").finish_non_exhaustive()
    }
}
