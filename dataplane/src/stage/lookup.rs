//! FDB lookup of a whole burst at once.
//!
//! Group addresses are looked up like the rest: the FDB holds none (configuration refuses them), so they miss, and a
//! miss is flooded.

use crate::path::{MAX_BURST, Scratch, View};
use weft_tables::fdb::MISS;

/// The next-hop values of the burst's packets, `MISS` where the FDB has none.
#[inline]
pub(crate) fn lookup(v: View<'_>, work: &Scratch) -> [u32; MAX_BURST] {
    let mut hops = [MISS; MAX_BURST];
    v.fwd.fdb.lookup_burst(v.reader, &work.keys, &mut hops[..work.keys.len()]);
    hops
}
