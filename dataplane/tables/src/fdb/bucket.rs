//! Buckets of entries, one cache line each.

use super::entry::Entry;
use crate::alloc::ZeroIsDefault;

/// Entries in a bucket: four fill a cache line. Fewer under loom, whose work grows with every load.
pub(super) const SLOTS: usize = if cfg!(loom) { 1 } else { 4 };

/// A cache line of entries.
#[derive(Default)]
#[repr(C, align(64))]
pub(super) struct Bucket {
    pub(super) entries: [Entry; SLOTS],
}

impl Bucket {
    /// Writer: the first entry out of a set that can be filled.
    #[inline]
    pub(super) fn fillable(&self, mut empty: u32) -> Option<&Entry> {
        while empty != 0 {
            let entry = &self.entries[empty.trailing_zeros() as usize % SLOTS];
            if entry.is_free() {
                return Some(entry);
            }
            empty &= empty - 1;
        }
        None
    }
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Bucket>() == 64 && size_of::<Entry>() == 16);

// SAFETY: all-zero bytes are valid atomics: invalid entries of version zero, as `default` makes.
unsafe impl ZeroIsDefault for Bucket {}
