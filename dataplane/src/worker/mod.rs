//! The poll-mode worker: one pinned thread that owns its queues and runs the packet path.
//!
//! A round: load the published tables once, poll every owned receive queue for one burst and run the
//! [`path`] on it, take what other workers and the underlay's agent handed over, send what is staged, and
//! report a quiescent state. Control reaches a worker only through its [`mailbox`], looked at once a round.

mod idle;
pub mod mailbox;

use crate::counters::ThreadCounters;
use crate::drop::DropReason;
use crate::forwarding::Forwarding;
use crate::path::{self, Lane, RxId, View};
use crate::stage::dispatch;
use crate::timing::{Stage, StageClock};
use crate::tx::{HandoffEnds, Parcel, TxSet};
use crate::underlay::punt::{Inject, PuntTx};
use crossbeam::utils::CachePadded;
pub use idle::IdleMode;
use idle::Idler;
use mailbox::{Command, MailboxEnd, RxBinding};
use rtrb::Consumer;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use weft_port::vhost::Losses;
use weft_port::{BURST, Burst, Eal, PortError};
use weft_tables::qsbr::Reader;

/// Bursts that the uplink may have in one round while its queue is full and others send, too.
const UPLINK_TURNS: usize = 4;
/// Packets taken from the ring from the underlay's agent in one round.
const RING_BUDGET: usize = 64;

/// What a worker is made of.
pub struct WorkerParts {
    /// Its number, from 0.
    pub id: usize,
    /// The core to pin it to.
    pub core: usize,
    /// What it does when there is nothing to do.
    pub idle: IdleMode,
    /// Whether to sample where cycles go: see [`crate::timing`].
    pub stage_timing: bool,
    /// Proof that DPDK is up.
    pub eal: Eal,
    /// The tables.
    pub fwd: Forwarding,
    /// Its registration with the tables' domain.
    pub reader: Reader,
    /// Its counters.
    pub counters: Arc<ThreadCounters>,
    /// Rings to and from the other workers.
    pub handoff: HandoffEnds,
    /// Rings to the underlay's agent.
    pub punt: PuntTx,
    /// Ring from the underlay's agent.
    pub inject: Consumer<Inject>,
    /// Requests from control.
    pub mailbox: MailboxEnd,
    /// Set by control to end the worker.
    pub stop: Arc<CachePadded<AtomicBool>>,
    /// Set by the worker while it sleeps for want of work, read by control.
    pub asleep: Arc<CachePadded<AtomicBool>>,
}

/// A running worker's state.
struct Worker {
    id: usize,
    fwd: Forwarding,
    reader: Reader,
    lane: Lane,
    scratch: path::Scratch,
    rx: Vec<RxBinding>,
    from_workers: Vec<Consumer<Parcel>>,
    inject: Consumer<Inject>,
    mailbox: MailboxEnd,
    stop: Arc<CachePadded<AtomicBool>>,
    burst: Burst,
    /// Whether anything but the uplink sent in the last round.
    crowded: bool,
    staged: bool,
}

/// Pins the calling thread, registers it with DPDK and runs the worker until it is told to stop.
///
/// # Errors
/// When the core can't be used or DPDK doesn't take the thread; then nothing was polled.
pub fn run(parts: WorkerParts, ready: impl FnOnce()) -> Result<(), PortError> {
    weft_port::pin_current_thread(parts.core)?;
    // Sleeps are short: the default slack of 50 us would double them.
    weft_port::set_timer_slack_ns(1);
    let _registered = parts.eal.register_thread()?;
    let mut idler = Idler::new(parts.idle, parts.asleep);
    let mut w = Worker {
        id: parts.id,
        fwd: parts.fwd,
        reader: parts.reader,
        lane: Lane {
            tx: TxSet::new(parts.handoff.to, weft_port::tsc_hz()),
            counters: parts.counters,
            punt: parts.punt,
            ip_id: 0,
            replicas_left: 0,
            clock: StageClock::new(parts.stage_timing),
        },
        scratch: path::Scratch::default(),
        rx: Vec::with_capacity(crate::MAX_PORTS),
        from_workers: parts.handoff.from,
        inject: parts.inject,
        mailbox: parts.mailbox,
        stop: parts.stop,
        burst: Burst::new(),
        crowded: false,
        staged: false,
    };
    w.reader.online();
    ready();
    let mut before = weft_port::tsc();
    // Relaxed: the flag carries no data, only the wish to end.
    while !w.stop.load(Ordering::Relaxed) {
        w.commands();
        w.lane.tx.now = before;
        let packets = w.round();
        w.reader.quiescent();

        let now = weft_port::tsc();
        let c = &w.lane.counters;
        c.loops.add(1);
        if packets > 0 || w.staged {
            c.packets.add(packets as u64);
            c.busy_cycles.add(now.wrapping_sub(before));
            idler.busy();
            before = now;
        } else {
            c.idle_cycles.add(now.wrapping_sub(before));
            before = if idler.idle(&mut w.reader, now) { weft_port::tsc() } else { now };
        }
    }
    w.reader.offline();
    Ok(())
}

impl Worker {
    /// One round. Returns how many packets it moved.
    fn round(&mut self) -> usize {
        let v = View {
            fwd: &self.fwd,
            tables: self.fwd.tables.load(&self.reader),
            reader: &self.reader,
            worker: self.id,
        };
        let (mut packets, mut of_others) = (0, 0);
        let uplink = v.tables.uplink.as_ref().map(|u| u.slot);
        self.lane.clock.begin();
        for rx in &mut self.rx {
            let from = RxId { slot: rx.slot, generation: rx.generation };
            let is_uplink = uplink == Some(rx.slot);
            // The uplink carries what many senders have for all local ports: one turn like a VM's would starve it.
            // Alone, it needs no more than one, and shorter rounds keep more in the caches.
            let turns = if is_uplink && self.crowded { UPLINK_TURNS } else { 1 };
            for _ in 0..turns {
                let n = rx.queue.rx_burst(&mut self.burst, BURST);
                let losses = rx.queue.losses();
                if losses.any() {
                    lost(&self.lane.counters, rx.slot, losses);
                }
                self.lane.clock.lap(Stage::Rx);
                if n == 0 {
                    break;
                }
                packets += n;
                of_others += if is_uplink { 0 } else { n };
                path::run(v, &mut self.lane, &mut self.scratch, from, &mut self.burst);
                if n < BURST {
                    break;
                }
            }
        }
        self.crowded = of_others > 0;
        for ring in &mut self.from_workers {
            // What is there now, and not what comes meanwhile: another worker must not hold this one.
            for _ in 0..ring.slots() {
                let Ok(parcel) = ring.pop() else { break };
                packets += 1;
                self.lane.tx.accept(&self.lane.counters, parcel);
            }
        }
        for _ in 0..RING_BUDGET {
            let Ok(what) = self.inject.pop() else { break };
            packets += 1;
            injected(v, &mut self.lane, what);
        }
        let left = self.lane.tx.flush(&self.lane.counters);
        self.lane.clock.lap(Stage::Tx);
        self.lane.clock.end(&self.lane.counters, packets);
        if self.staged || left > 0 {
            self.lane.counters.staged.store(left as u64, Ordering::Relaxed);
            self.staged = left > 0;
        }
        packets
    }

    /// Control's requests: rare, and not part of the packet path.
    #[inline]
    fn commands(&mut self) {
        if self.mailbox.is_empty() {
            return;
        }
        while let Some(mut c) = self.mailbox.take() {
            match &mut c.command {
                Command::Add { generation, rx, tx } => {
                    self.rx.append(rx);
                    for (txq, queue) in tx.drain(..) {
                        self.lane.tx.add(txq, *generation, queue);
                    }
                }
                Command::Remove { slot, rx, tx } => {
                    let mut i = 0;
                    while i < self.rx.len() {
                        if self.rx[i].slot == *slot {
                            // Order is the order of polling: keep it for the others.
                            rx.push(self.rx.remove(i));
                        } else {
                            i += 1;
                        }
                    }
                    self.lane.tx.remove(&self.lane.counters, *slot, tx);
                }
                Command::Fence => {}
            }
            self.mailbox.answer(c);
        }
    }
}

/// Frames that a guest sent and that never became packets: received and dropped.
#[cold]
fn lost(c: &ThreadCounters, slot: u16, losses: Losses) {
    let (bad, no_mbuf) = (u64::from(losses.bad_descriptor), u64::from(losses.no_mbuf));
    c.port(slot).rx_packets.add(bad + no_mbuf);
    c.dropped(slot, DropReason::BadDescriptor, bad);
    c.dropped(slot, DropReason::NoRxMbuf, no_mbuf);
}

/// A packet from the underlay's agent.
fn injected(v: View<'_>, lane: &mut Lane, what: Inject) {
    match what {
        Inject::Uplink(m) => {
            let Some(up) = &v.tables.uplink else {
                return lane.counters.dropped(0, DropReason::PortNotReady, 1);
            };
            if m.pkt_len() > up.max_frame {
                return lane.counters.dropped(up.slot, DropReason::ExceedsUnderlayMtu, 1);
            }
            dispatch::to_uplink(v, lane, up.slot, m);
        }
        Inject::Encap { mbuf, vtep, network, src } => {
            // The bridge domain may have changed while the packet waited: it must still lead to that VTEP.
            let bd = v.tables.bds.iter().find(|b| b.network == network && b.vtep_set.contains(vtep));
            match bd {
                Some(bd) => dispatch::to_vtep(v, lane, src, bd, vtep, mbuf),
                None => lane.counters.dropped(src, DropReason::NextHopGone, 1),
            }
        }
    }
}
