//! The packet path, in order. Each line below is one stage; each stage is one file in `stage/`.
//!
//! | step | from a local port | from the uplink |
//! |---|---|---|
//! | 1 | receive burst | receive burst |
//! | 2 | [`admit`]: port to bridge domain | [`decap`]: outer headers, VNI, VTEP to bridge domain |
//! | 3 | [`lookup`]: (network, MAC) to next hop, whole burst at once | the same |
//! | 4 | [`dispatch`]: deliver, encapsulate or flood | deliver or flood, never back to a tunnel |
//! | 5 | [`tx`](crate::tx): stage, hand off, send | the same |
//!
//! Everything works on one burst on the stack or in the worker's scratch: no allocation, lock, system call or log.

use crate::counters::ThreadCounters;
use crate::forwarding::{Forwarding, Tables};
use crate::stage::{admit, decap, dispatch, lookup};
use crate::timing::{Stage, StageClock};
use crate::tx::TxSet;
use crate::underlay::punt::PuntTx;
use std::sync::Arc;
use weft_port::{Burst, Mbuf};
use weft_tables::fdb::{FdbKey, MISS};
use weft_tables::qsbr::Reader;

/// Most packets in one burst.
pub(crate) const MAX_BURST: usize = 64;
const _: () = assert!(MAX_BURST <= u64::BITS as usize, "a set of packets is a word");

/// What a round reads: one consistent view, held until the worker reports a quiescent state.
#[derive(Clone, Copy)]
pub(crate) struct View<'r> {
    pub fwd: &'r Forwarding,
    pub tables: &'r Tables,
    pub reader: &'r Reader,
    pub worker: usize,
}

/// What a worker owns and writes while it moves packets.
pub(crate) struct Lane {
    pub tx: TxSet,
    pub counters: Arc<ThreadCounters>,
    pub punt: PuntTx,
    /// Next IPv4 identification for outer packets that may be fragmented.
    pub ip_id: u16,
    /// Copies that this burst may still cause.
    pub replicas_left: usize,
    pub clock: StageClock,
}

/// What is known of a burst's packets: entry `i` of each belongs to packet `i`. The worker's, as filling the arrays anew for
/// each burst would cost more than some stages.
pub(crate) struct Scratch {
    /// Index into `Tables::bds`.
    pub bds: [u32; MAX_BURST],
    pub keys: [FdbKey; MAX_BURST],
    /// Values of the FDB.
    pub hops: [u32; MAX_BURST],
}

impl Default for Scratch {
    fn default() -> Self {
        Self { bds: [0; MAX_BURST], keys: [FdbKey::new(0, 0); MAX_BURST], hops: [MISS; MAX_BURST] }
    }
}

impl Scratch {
    /// Takes the packets of a bit set out of the burst, with their entries: `what` gets each with its number.
    #[cold]
    pub fn remove(&mut self, burst: &mut Burst, which: u64, mut what: impl FnMut(usize, Mbuf)) {
        for (i, m) in std::mem::take(burst).into_iter().enumerate() {
            if which >> i & 1 == 1 {
                what(i, m);
            } else {
                self.bds[burst.len()] = self.bds[i];
                self.keys[burst.len()] = self.keys[i];
                burst.push(m);
            }
        }
    }
}

/// Which queue a burst came from: the port's slot, and which life of the slot.
#[derive(Clone, Copy)]
pub(crate) struct RxId {
    pub slot: u16,
    pub generation: u16,
}

/// Copies that one burst may cause, so that a broadcast storm or a bridge domain with thousands of VTEPs does not keep
/// a worker from its other queues. The frame that passes the limit is still flooded whole.
const REPLICAS: usize = 512;

/// Where a burst came in.
#[derive(Clone, Copy)]
pub(crate) struct Ingress {
    pub slot: u16,
    /// From a tunnel: split horizon applies.
    pub tunnel: bool,
}

/// Runs a burst that was received from any port; empties `burst`.
pub(crate) fn run(v: View<'_>, lane: &mut Lane, work: &mut Scratch, from: RxId, burst: &mut Burst) {
    let slot = from.slot;
    lane.replicas_left = REPLICAS;
    let mut bytes = 0;
    for m in burst.iter() {
        m.prefetch();
        bytes += u64::from(m.pkt_len());
    }
    let port = lane.counters.port(slot);
    port.rx_packets.add(burst.len() as u64);
    port.rx_bytes.add(bytes);

    let ingress = match &v.tables.uplink {
        Some(up) if up.slot == slot => {
            decap::decap(v, lane, up, burst, work);
            Ingress { slot, tunnel: true }
        }
        _ => {
            admit::admit(v, lane, from, burst, work);
            Ingress { slot, tunnel: false }
        }
    };
    lane.clock.lap(Stage::Enter);
    if !burst.is_empty() {
        lookup::lookup(v, work, burst.len());
        lane.clock.lap(Stage::Lookup);
        dispatch::dispatch(v, lane, ingress, burst, work);
        lane.clock.lap(Stage::Dispatch);
    }
}

#[cfg(test)]
mod tests;
