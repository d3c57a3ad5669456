//! A bad hash.

use weft_tables::fdb::{FdbKey, KeyHash, Seed};

/// Every key has the same two buckets, so that all but eight are in a chain.
pub struct Constant;

impl KeyHash for Constant {
    fn new(_: &Seed) -> Self {
        Self
    }

    fn hash(&self, _: FdbKey) -> u64 {
        0x8000_0000_0000_0000
    }
}
