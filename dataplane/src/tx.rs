//! Transmit staging and the hand-off between workers.
//!
//! Packets for a queue that this worker owns gather in a [`Stage`] and leave once a round in one burst. Packets for a
//! queue of another worker go over a single-producer single-consumer ring to its owner, so every queue has one user and
//! needs no lock, and packets of a flow, which all take one ring, keep their order.
//!
//! A queue that is full keeps what it did not take staged for the next rounds. When the stage itself is full, the
//! packet that dies is one of the source that holds the most places (longest-queue drop): a port that floods a shared
//! queue loses its own packets before it costs a neighbour one. The rings between workers are shared out
//! [fairly](crate::fair), too.

mod sources;

use crate::counters::ThreadCounters;
use crate::drop::DropReason;
use crate::fair::{FairProducer, fair_ring};
use crate::forwarding::{MAX_QUEUES, TxRoute, TxqId};
use crate::{MAX_PORTS, UPLINK, forwarding::PortEntry};
use arrayvec::ArrayVec;
use rtrb::Consumer;
use sources::{Held, Sources};
use weft_port::{Leaving, Mbuf, TxQueue};

/// Packets that a stage holds.
const STAGE: usize = 128;
/// How long the oldest packet waits at a queue that takes nothing before it is dropped, in microseconds. One goes at a
/// time: a guest whose processor was taken away for a moment finds nearly all that was staged for it.
const STUCK_US: u64 = 1000;
/// Packets of one source that may be staged, over all of a worker's queues, for one more to wait at a queue that does
/// not take all: of a port, shared out among the workers, and of the uplink, whose pool grows with them. Guests that
/// take nothing must not hold the buffers that others' packets need.
const PORT_BACKLOG: usize = 1024;
/// See [`PORT_BACKLOG`].
const UPLINK_BACKLOG: usize = 1024;
/// Packets that a hand-off ring holds.
const HANDOFF: usize = 512;
/// Marks a queue that this worker does not own.
const NOT_OURS: u16 = u16::MAX;

/// A packet on its way to the worker that owns its queue.
#[derive(Debug)]
pub struct Parcel {
    mbuf: Mbuf,
    txq: TxqId,
    generation: u16,
    src: u16,
}

/// The ring ends of one worker: to every worker, and from every worker.
pub struct HandoffEnds {
    /// By destination worker; `None` for itself.
    pub to: Vec<Option<FairProducer<Parcel>>>,
    /// From every other worker.
    pub from: Vec<Consumer<Parcel>>,
}

/// Makes the rings between `workers` workers: one for each ordered pair.
pub fn handoff_mesh(workers: usize) -> Vec<HandoffEnds> {
    let mut ends: Vec<HandoffEnds> =
        (0..workers).map(|_| HandoffEnds { to: Vec::new(), from: Vec::new() }).collect();
    for from in 0..workers {
        for to in 0..workers {
            if from == to {
                ends[from].to.push(None);
            } else {
                let (p, c) = fair_ring(HANDOFF);
                ends[from].to.push(Some(p));
                ends[to].from.push(c);
            }
        }
    }
    ends
}

/// Packets that follow each other, from one source to one port.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub packets: usize,
    /// Of all of them.
    pub bytes: u64,
    /// The slot that they came from.
    pub src: u16,
}

/// What waits for one transmit queue.
struct Stage {
    queue: TxQueue,
    txq: TxqId,
    generation: u16,
    dirty: bool,
    /// In [`TxSet::unsettled`].
    unsettled: bool,
    /// TSC of the first flush of a row that sent nothing, or of the last drop since; 0 when the last one sent something.
    stuck_since: u64,
    /// The round, by its TSC, in which the queue did not take all.
    full_at: u64,
    /// Whether it did not take all the last time.
    blocked: bool,
    pkts: ArrayVec<Mbuf, STAGE>,
    /// Where `pkts` came from.
    sources: Sources,
    /// Of all `pkts`.
    bytes: u64,
}

impl Stage {
    /// Notes that packets were put behind the others.
    #[inline]
    fn added(&mut self, run: Run) {
        self.bytes += run.bytes;
        self.sources.push(run.src, run.packets);
    }

    /// Sends what the queue takes; drops the oldest packet if the queue has taken nothing for too long.
    fn flush(&mut self, c: &ThreadCounters, backlog: &mut Backlog, now: u64, stuck_limit: u64) {
        let sent = self.queue.tx_burst(&mut self.pkts);
        self.blocked = !self.pkts.is_empty();
        if sent > 0 {
            let left = if self.blocked { self.pkts.iter().map(|m| u64::from(m.pkt_len())).sum() } else { 0 };
            let port = c.port(self.txq.slot());
            port.tx_packets.add(sent as u64);
            port.tx_bytes.add(self.bytes.saturating_sub(left));
            self.bytes = left;
            self.sources.forget(sent, |src, n| backlog.less(src, n));
            self.stuck_since = 0;
        } else if self.stuck_since == 0 {
            self.stuck_since = now;
        } else if now.wrapping_sub(self.stuck_since) > stuck_limit
            && let Some(src) = self.sources.pop_first()
        {
            self.drop_packet(0);
            c.dropped(src, DropReason::TxQueueFull, 1);
            backlog.less(src, 1);
            self.blocked = !self.pkts.is_empty();
            self.stuck_since = if self.blocked { now } else { 0 };
        }
        if self.blocked {
            self.full_at = now;
        }
    }

    #[cold]
    fn drop_packet(&mut self, at: usize) {
        if let Some(m) = self.pkts.pop_at(at) {
            self.bytes = self.bytes.saturating_sub(m.pkt_len().into());
        }
    }

    fn discard(&mut self, c: &ThreadCounters, backlog: &mut Backlog, reason: DropReason) {
        self.sources.forget(self.pkts.len(), |src, n| {
            c.dropped(src, reason, n.into());
            backlog.less(src, n);
        });
        self.pkts.clear();
        self.bytes = 0;
        self.stuck_since = 0;
    }

    /// Makes room in a full stage at the cost of the source that holds most of it, which is returned; `None` if that is
    /// `src` itself, whose new packet is then the one to drop.
    fn evict(&mut self, c: &ThreadCounters, src: u16, held: &mut Held) -> Option<u16> {
        let (at, worst) = self.sources.evict(src, held)?;
        self.drop_packet(at);
        c.dropped(worst, DropReason::TxQueueFull, 1);
        Some(worst)
    }
}

/// How many packets of each source are staged.
struct Backlog {
    staged: Box<[u32; MAX_PORTS]>,
    of_port: u32,
}

impl Backlog {
    #[inline]
    fn more(&mut self, src: u16, n: u32) {
        self.staged[usize::from(src) % MAX_PORTS] += n;
    }

    #[inline]
    fn less(&mut self, src: u16, n: u32) {
        self.staged[usize::from(src) % MAX_PORTS] -= n;
    }

    /// Whether another packet of the source may wait at a queue that does not take all.
    fn may_wait(&self, src: u16) -> bool {
        let limit = if src == UPLINK { UPLINK_BACKLOG as u32 } else { self.of_port };
        self.staged[usize::from(src) % MAX_PORTS] < limit
    }
}

/// All transmit state of one worker.
pub struct TxSet {
    /// Queue to index into `stages`.
    owned: Box<[u16]>,
    stages: Vec<Stage>,
    /// Indices of stages that hold packets.
    dirty: Vec<u16>,
    /// Indices of stages whose guest may have come to want an interrupt for what it was sent.
    unsettled: Vec<u16>,
    handoff: Vec<Option<FairProducer<Parcel>>>,
    /// Scratch of [`Stage::evict`].
    held: Box<Held>,
    backlog: Backlog,
    /// TSC at the start of the round.
    pub now: u64,
    stuck_limit: u64,
}

impl TxSet {
    /// `handoff`: by destination worker. `tsc_hz`: of [`weft_port::tsc()`].
    pub fn new(handoff: Vec<Option<FairProducer<Parcel>>>, tsc_hz: u64) -> Self {
        Self {
            owned: vec![NOT_OURS; MAX_PORTS * MAX_QUEUES].into(),
            stages: Vec::with_capacity(MAX_PORTS),
            dirty: Vec::with_capacity(MAX_PORTS * MAX_QUEUES),
            unsettled: Vec::with_capacity(MAX_PORTS * MAX_QUEUES),
            backlog: Backlog {
                staged: Box::new([0; MAX_PORTS]),
                of_port: (PORT_BACKLOG / handoff.len().max(1)).max(STAGE) as u32,
            },
            handoff,
            held: Box::new([0; MAX_PORTS]),
            now: 0,
            stuck_limit: tsc_hz / 1_000_000 * STUCK_US,
        }
    }

    /// Takes over a queue. A control operation, not on the packet path.
    pub fn add(&mut self, txq: TxqId, generation: u16, queue: TxQueue) {
        self.owned[txq.index()] = self.stages.len() as u16;
        self.stages.push(Stage {
            queue,
            txq,
            generation,
            dirty: false,
            unsettled: false,
            stuck_since: 0,
            full_at: 0,
            blocked: false,
            pkts: ArrayVec::new(),
            sources: Sources::default(),
            bytes: 0,
        });
    }

    /// Gives back every queue of a slot; what was staged for them is dropped with `port-gone`.
    pub fn remove(&mut self, c: &ThreadCounters, slot: u16, back: &mut Vec<(TxqId, TxQueue)>) {
        let mut i = 0;
        while i < self.stages.len() {
            if self.stages[i].txq.slot() == slot {
                let mut s = self.stages.swap_remove(i);
                s.discard(c, &mut self.backlog, DropReason::PortGone);
                s.queue.settle();
                self.owned[s.txq.index()] = NOT_OURS;
                back.push((s.txq, s.queue));
            } else {
                i += 1;
            }
        }
        self.dirty.clear();
        self.unsettled.clear();
        for (i, s) in self.stages.iter_mut().enumerate() {
            if s.unsettled {
                self.unsettled.push(i as u16);
            }
            self.owned[s.txq.index()] = i as u16;
            s.dirty = !s.pkts.is_empty();
            if s.dirty {
                self.dirty.push(i as u16);
            }
        }
    }

    /// Sends the next packets of a burst, which are `run`, to a port by a route. `pick` as for [`TxSet::send`].
    #[inline]
    pub(crate) fn send_run(
        &mut self,
        c: &ThreadCounters,
        port: &PortEntry,
        route: &TxRoute,
        rest: &mut Leaving<'_>,
        run: Run,
        pick: fn(&Mbuf) -> u32,
    ) {
        if let [only] = route.queues.as_slice()
            && let Some(s) = self.stages.get_mut(usize::from(self.owned[only.index()]))
            && s.generation == port.generation
        {
            if s.pkts.remaining_capacity() < run.packets && s.full_at != self.now {
                s.flush(c, &mut self.backlog, self.now, self.stuck_limit);
            }
            if s.pkts.remaining_capacity() >= run.packets && !s.blocked && run.packets > 0 {
                rest.move_to(run.packets, &mut s.pkts);
                s.added(run);
                self.backlog.more(run.src, run.packets as u32);
                if !s.dirty {
                    s.dirty = true;
                    self.dirty.push(self.owned[only.index()]);
                }
                return;
            }
        }
        self.send_each(c, port, route, rest, run, pick);
    }

    /// One by one: there are queues to choose from, or another worker's, or the queue is full and it matters whose packet
    /// each is.
    #[inline(never)]
    fn send_each(
        &mut self,
        c: &ThreadCounters,
        port: &PortEntry,
        route: &TxRoute,
        rest: &mut Leaving<'_>,
        run: Run,
        pick: fn(&Mbuf) -> u32,
    ) {
        rest.take(run.packets).for_each(|m| self.send(c, port, route, m, run.src, pick));
    }

    /// Sends a packet to a port by a route. `src`: the slot that it came from, where a drop is counted. `pick`: any
    /// number that is the same for all packets of a flow; asked for only if there is a choice of queues.
    #[inline]
    pub fn send(
        &mut self,
        c: &ThreadCounters,
        port: &PortEntry,
        route: &TxRoute,
        mbuf: Mbuf,
        src: u16,
        pick: fn(&Mbuf) -> u32,
    ) {
        let txq = match route.queues.as_slice() {
            [] => return c.dropped(src, DropReason::PortNotReady, 1),
            [only] => *only,
            many => many[pick(&mbuf) as usize % many.len()],
        };
        let at = self.owned[txq.index()];
        if at == NOT_OURS {
            self.hand_off(c, route.owner, Parcel { mbuf, txq, generation: port.generation, src });
        } else {
            self.stage(c, usize::from(at), port.generation, mbuf, src);
        }
    }

    fn hand_off(&mut self, c: &ThreadCounters, owner: u16, parcel: Parcel) {
        match self.handoff.get_mut(usize::from(owner)) {
            Some(Some(ring)) => {
                if let Err(p) = ring.push(parcel.src, parcel) {
                    c.dropped(p.src, DropReason::HandoffFull, 1);
                }
            }
            // The queue was this worker's own and is gone: a removal is under way.
            _ => c.dropped(parcel.src, DropReason::PortGone, 1),
        }
    }

    /// Accepts a packet from another worker.
    pub fn accept(&mut self, c: &ThreadCounters, p: Parcel) {
        match self.owned[p.txq.index()] {
            NOT_OURS => c.dropped(p.src, DropReason::PortGone, 1),
            at => self.stage(c, usize::from(at), p.generation, p.mbuf, p.src),
        }
    }

    #[inline]
    fn stage(&mut self, c: &ThreadCounters, at: usize, generation: u16, mbuf: Mbuf, src: u16) {
        let s = &mut self.stages[at];
        if s.generation != generation {
            return c.dropped(src, DropReason::PortGone, 1);
        }
        if s.pkts.is_full() && s.full_at != self.now {
            s.flush(c, &mut self.backlog, self.now, self.stuck_limit);
        }
        if s.blocked && !self.backlog.may_wait(src) {
            return c.dropped(src, DropReason::TxQueueFull, 1);
        }
        if s.pkts.is_full() {
            match s.evict(c, src, &mut self.held) {
                Some(worst) => self.backlog.less(worst, 1),
                None => return c.dropped(src, DropReason::TxQueueFull, 1),
            }
        }
        self.backlog.more(src, 1);
        s.added(Run { packets: 1, bytes: mbuf.pkt_len().into(), src });
        s.pkts.push(mbuf);
        if !s.dirty {
            s.dirty = true;
            self.dirty.push(at as u16);
        }
    }

    /// Sends everything staged that the queues take. Returns how many packets are still staged.
    pub fn flush(&mut self, c: &ThreadCounters) -> usize {
        let stages = &mut self.stages;
        self.unsettled.retain(|at| {
            let s = &mut stages[usize::from(*at)];
            if !s.dirty {
                // Nothing for it in this round: time for the second look.
                s.queue.settle();
                s.unsettled = false;
            }
            s.unsettled
        });
        let mut left = 0;
        let mut i = 0;
        while i < self.dirty.len() {
            let s = &mut self.stages[usize::from(self.dirty[i])];
            s.flush(c, &mut self.backlog, self.now, self.stuck_limit);
            if s.queue.unsettled() && !s.unsettled {
                s.unsettled = true;
                self.unsettled.push(self.dirty[i]);
            }
            if s.pkts.is_empty() {
                s.dirty = false;
                self.dirty.swap_remove(i);
            } else {
                left += s.pkts.len();
                i += 1;
            }
        }
        left
    }

    /// Whether this worker owns any queue of the slot.
    pub fn owns(&self, slot: u16) -> bool {
        self.stages.iter().any(|s| s.txq.slot() == slot)
    }
}
