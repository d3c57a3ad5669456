//! A worker's packet path without its thread, its polling and its mailbox: what the micro-benchmarks call.
//!
//! Only with the feature `bench`, which adds this module and changes nothing else. Everything here runs the code that a
//! worker runs, whole bursts ([`BareWorker::round`]) or one stage of them; tables, queues and packets are the caller's.

use crate::counters::ThreadCounters;
use crate::drop::DropReason;
use crate::forwarding::{Forwarding, Hop, NextHopId, TxqId};
use crate::path::{self, Ingress, Lane, MAX_BURST, RxId, Scratch, View};
use crate::stage::{admit, decap, dispatch, encap, lookup};
use crate::timing::StageClock;
use crate::tx::{TxSet, handoff_mesh};
use crate::underlay::punt::{self, AgentEnds, Inject};
use rtrb::Consumer;
use std::sync::Arc;
use weft_port::{Burst, Leaving, TxQueue};
use weft_tables::qsbr::Reader;

/// Where a burst comes from: a port's slot and which life of the slot.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// The slot; [`crate::UPLINK`] for packets of the underlay.
    pub slot: u16,
    /// The generation that the published tables have for it.
    pub generation: u16,
}

/// A burst between two stages: packets, their bridge domains and keys, and once looked up their next hops.
#[derive(Default)]
pub struct Work {
    burst: Burst,
    scratch: Scratch,
}

impl Work {
    /// Packets in it.
    pub fn len(&self) -> usize {
        self.burst.len()
    }

    /// Whether there is no packet in it.
    pub fn is_empty(&self) -> bool {
        self.burst.is_empty()
    }

    /// Empties it; the packets go behind those in `burst`, or are freed where they have no room.
    pub fn take(&mut self, burst: &mut Burst) {
        let mut packets = Leaving::new(&mut self.burst);
        packets.move_to(MAX_BURST, burst);
    }
}

/// The only worker of its switch: owns every transmit queue that it is given, and hands nothing over.
pub struct BareWorker {
    fwd: Forwarding,
    reader: Reader,
    lane: Lane,
    scratch: Scratch,
    // Ends that nobody serves: they are there so that what is punted has its place.
    _agent: AgentEnds,
    _inject: Consumer<Inject>,
}

impl BareWorker {
    /// A worker that reads `fwd`; `reader` belongs to the same domain. Call on a thread that DPDK knows: the one that
    /// started EAL, or a registered one.
    pub fn new(fwd: Forwarding, mut reader: Reader) -> Self {
        let ends = handoff_mesh(1).remove(0);
        let (punt, inject, agent) = punt::rings();
        reader.online();
        Self {
            fwd,
            reader,
            lane: Lane {
                tx: TxSet::new(ends.to, weft_port::tsc_hz()),
                counters: Arc::new(ThreadCounters::default()),
                punt,
                ip_id: 0,
                replicas_left: 0,
                clock: StageClock::new(false),
            },
            scratch: Scratch::default(),
            _agent: agent,
            _inject: inject,
        }
    }

    /// Takes over a transmit queue; `generation` is its port's.
    pub fn add(&mut self, txq: TxqId, generation: u16, queue: TxQueue) {
        self.lane.tx.add(txq, generation, queue);
    }

    /// What a worker's round does with one burst after it was received: loads the tables, runs the path, sends what is
    /// staged and reports a quiescent state. Empties `burst`.
    #[inline]
    pub fn round(&mut self, from: Source, burst: &mut Burst) {
        self.lane.tx.now = weft_port::tsc();
        let (v, lane, scratch) = self.parts();
        path::run(v, lane, scratch, rx_id(from), burst);
        self.lane.tx.flush(&self.lane.counters);
        self.reader.quiescent();
    }

    /// The stage of frames from local ports.
    #[inline]
    pub fn admit(&mut self, from: Source, burst: &mut Burst, out: &mut Work) {
        let (v, lane, _) = self.parts();
        Leaving::new(burst).move_to(MAX_BURST, &mut out.burst);
        admit::admit(v, lane, rx_id(from), &mut out.burst, &mut out.scratch);
    }

    /// The stage of frames from the underlay. Does nothing without an uplink.
    #[inline]
    pub fn decap(&mut self, burst: &mut Burst, out: &mut Work) {
        let (v, lane, _) = self.parts();
        if let Some(up) = &v.tables.uplink {
            Leaving::new(burst).move_to(MAX_BURST, &mut out.burst);
            decap::decap(v, lane, up, &mut out.burst, &mut out.scratch);
        }
    }

    /// Looks all packets up.
    #[inline]
    pub fn lookup(&mut self, work: &mut Work) {
        let (v, ..) = self.parts();
        lookup::lookup(v, &mut work.scratch, work.burst.len());
    }

    /// Sends all packets where their next hops say, as far as the transmit stage. Empties `work`.
    #[inline]
    pub fn dispatch(&mut self, from: Source, work: &mut Work) {
        let (v, lane, _) = self.parts();
        let ingress = Ingress { slot: from.slot, tunnel: from.slot == crate::UPLINK };
        dispatch::dispatch(v, lane, ingress, &mut work.burst, &work.scratch);
    }

    /// The part of [`BareWorker::dispatch`] that writes outer headers, for packets that all go where the first one does.
    /// Empties `work`: the packets that got headers go into `out`, others are freed.
    #[inline]
    pub fn encap(&mut self, work: &mut Work, out: &mut Burst) {
        let (v, lane, _) = self.parts();
        let mut packets = Leaving::new(&mut work.burst);
        let bd = v.tables.bds.get(work.scratch.bds[0] as usize);
        if let (Hop::Vtep(vtep), Some(bd)) = (NextHopId::decode(work.scratch.hops[0]), bd)
            && let Some(tunnel) = encap::Tunnel::find(v, bd, vtep)
        {
            let (n, _) = tunnel.encap(&mut lane.ip_id, packets.front(MAX_BURST));
            packets.move_to(n, out);
        }
    }

    /// Sends what is staged; returns how many packets the queues did not take.
    #[inline]
    pub fn flush(&mut self) -> usize {
        self.lane.tx.now = weft_port::tsc();
        self.lane.tx.flush(&self.lane.counters)
    }

    /// Frames sent out of a port's slot so far.
    pub fn sent(&self, slot: u16) -> u64 {
        self.lane.counters.port(slot).tx_packets.get()
    }

    /// What was dropped of a port's frames so far, by reason.
    pub fn drops(&self, slot: u16) -> Vec<(DropReason, u64)> {
        let drops = &self.lane.counters.port(slot).drops;
        DropReason::ALL.iter().map(|r| (*r, drops[*r as usize].get())).filter(|(_, n)| *n > 0).collect()
    }

    #[inline(always)]
    fn parts(&mut self) -> (View<'_>, &mut Lane, &mut Scratch) {
        let tables = self.fwd.tables.load(&self.reader);
        let v = View { fwd: &self.fwd, tables, reader: &self.reader, worker: 0 };
        (v, &mut self.lane, &mut self.scratch)
    }
}

#[inline(always)]
fn rx_id(s: Source) -> RxId {
    RxId { slot: s.slot, generation: s.generation }
}
