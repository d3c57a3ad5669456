//! FDB lookup of a whole burst at once.
//!
//! Group addresses are looked up like the rest: the FDB holds none (configuration refuses them), so they miss, and a
//! miss is flooded.

use crate::path::{Scratch, View};

/// Notes the next-hop values of the first `n` packets, `MISS` where the FDB has none.
#[inline]
pub(crate) fn lookup(v: View<'_>, work: &mut Scratch, n: usize) {
    let (keys, hops) = (&work.keys[..n], &mut work.hops[..n]);
    v.fwd.fdb.lookup_burst(v.reader, keys, hops);
}
