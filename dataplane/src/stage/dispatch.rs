//! Sends each packet of a burst where its next hop says: to a local port, into a tunnel, or to all of its bridge domain.

use super::encap::{self, Outcome};
use crate::drop::DropReason;
use crate::forwarding::{Bd, Hop, NextHopId, PortEntry};
use crate::path::{Ingress, Lane, Scratch, View};
use crate::tx::Run;
use weft_port::{Burst, Leaving, Mbuf};

/// Empties `burst`.
///
/// Packets that follow each other with one next hop in one bridge domain are a run. What depends on the next hop
/// alone is looked up and checked once a run; where a burst goes to many, runs are short, and no slower than single
/// packets.
pub(crate) fn dispatch(v: View<'_>, lane: &mut Lane, from: Ingress, burst: &mut Burst, work: &Scratch) {
    let mut rest = Leaving::new(burst);
    let (mut hops, mut bds) = (&work.hops[..rest.len()], &work.bds[..rest.len()]);
    while let (Some(hop), Some(at)) = (hops.first(), bds.first()) {
        let n = run_length(hops, bds, *hop, *at);
        run(v, lane, from, *hop, *at, &mut rest, n);
        (hops, bds) = (&hops[n..], &bds[n..]);
    }
}

/// How many packets from the front on go to `hop` in bridge domain `at`; the first one does.
#[inline]
fn run_length(hops: &[u32], bds: &[u32], hop: u32, at: u32) -> usize {
    // All of them, mostly: without a branch for each this is a few vector instructions.
    let differ = hops.iter().fold(0, |d, h| d | (h ^ hop)) | bds.iter().fold(0, |d, b| d | (b ^ at));
    if differ == 0 {
        return hops.len();
    }
    1 + hops.iter().zip(bds).skip(1).take_while(|(h, b)| **h == hop && **b == at).count()
}

/// The next `n` packets, which all go to `hop`.
#[inline]
fn run(v: View<'_>, lane: &mut Lane, from: Ingress, hop: u32, at: u32, rest: &mut Leaving<'_>, n: usize) {
    let reason = match (NextHopId::decode(hop), v.tables.bds.get(at as usize)) {
        (_, None) => DropReason::PortGone,
        (Hop::Port { slot, .. }, _) if slot == from.slot => DropReason::SamePort,
        (Hop::Port { slot, generation }, _) => match v.tables.port(slot) {
            // The domain as well: a port that is about to move must not get frames of its next one early.
            Some(port) if port.generation == generation && port.bd == at => {
                return deliver_run(v, lane, from, port, rest, n);
            }
            _ => DropReason::PortGone,
        },
        (Hop::Vtep(_), _) if from.tunnel => DropReason::SplitHorizon,
        (Hop::Vtep(vtep), Some(bd)) => return encap_run(v, lane, from.slot, bd, vtep, rest, n),
        (Hop::Miss, Some(bd)) => return rest.take(n).for_each(|m| flood(v, lane, from, bd, m)),
    };
    lane.counters.dropped(from.slot, reason, rest.free(n) as u64);
}

/// To a local port.
#[inline]
fn deliver_run(
    v: View<'_>,
    lane: &mut Lane,
    from: Ingress,
    port: &PortEntry,
    rest: &mut Leaving<'_>,
    n: usize,
) {
    let (mut bytes, mut longest) = (0, 0);
    for m in rest.front(n) {
        bytes += u64::from(m.pkt_len());
        longest = longest.max(m.pkt_len());
    }
    match port.routes.get(v.worker) {
        Some(route) if longest <= port.max_frame => {
            let run = Run { packets: n, bytes, src: from.slot };
            lane.tx.send_run(&lane.counters, port, route, rest, run, inner_flow);
        }
        _ => rest.take(n).for_each(|m| deliver(v, lane, from, port, m)),
    }
}

/// Through a tunnel.
#[inline]
fn encap_run(
    v: View<'_>,
    lane: &mut Lane,
    src: u16,
    bd: &Bd,
    vtep: u16,
    rest: &mut Leaving<'_>,
    mut n: usize,
) {
    let Some(tunnel) = encap::Tunnel::find(v, bd, vtep) else {
        return rest.take(n).for_each(|m| to_vtep(v, lane, src, bd, vtep, m));
    };
    while n > 0 {
        let (packets, bytes) = tunnel.encap(&mut lane.ip_id, rest.front(n));
        let run = Run { packets, bytes, src };
        lane.tx.send_run(&lane.counters, tunnel.port, tunnel.route, rest, run, outer_flow);
        n -= packets;
        if n > 0 {
            // One that is not as most are.
            let Some(m) = rest.next() else { return };
            to_vtep(v, lane, src, bd, vtep, m);
            n -= 1;
        }
    }
}

/// One packet to a local port.
#[inline(never)]
fn deliver(v: View<'_>, lane: &mut Lane, from: Ingress, port: &PortEntry, m: Mbuf) {
    if m.pkt_len() > port.max_frame {
        return lane.counters.dropped(from.slot, DropReason::ExceedsPortMtu, 1);
    }
    let Some(route) = port.routes.get(v.worker) else {
        return lane.counters.dropped(from.slot, DropReason::PortNotReady, 1);
    };
    lane.tx.send(&lane.counters, port, route, m, from.slot, inner_flow);
}

/// One packet through a tunnel.
#[inline(never)]
pub(crate) fn to_vtep(v: View<'_>, lane: &mut Lane, src: u16, bd: &Bd, vtep: u16, m: Mbuf) {
    match encap::encap(v, lane, src, bd, vtep, m) {
        Outcome::Ready(m) => to_uplink(v, lane, src, m),
        Outcome::Done => {}
    }
}

/// A complete frame out of the uplink.
#[inline]
pub(crate) fn to_uplink(v: View<'_>, lane: &mut Lane, src: u16, m: Mbuf) {
    let uplink = v.tables.uplink.as_ref().and_then(|u| v.tables.port(u.slot));
    let Some((port, route)) = uplink.and_then(|p| Some((p, p.routes.get(v.worker)?))) else {
        return lane.counters.dropped(src, DropReason::PortNotReady, 1);
    };
    lane.tx.send(&lane.counters, port, route, m, src, outer_flow);
}

/// Spreads frames over a port's queues.
fn inner_flow(m: &Mbuf) -> u32 {
    weft_wire::flow_hash(m.data())
}

/// Spreads encapsulated packets over the uplink's queues by the outer UDP source port, which holds the flow's hash.
fn outer_flow(m: &Mbuf) -> u32 {
    m.data().get(34..36).map_or(0, |p| u32::from(p[0]) << 8 | u32::from(p[1]))
}

/// To every member of the bridge domain that is up and, unless the frame came from one, to every VTEP. The last one
/// gets the frame itself, the others get copies.
#[cold]
fn flood(v: View<'_>, lane: &mut Lane, from: Ingress, bd: &Bd, m: Mbuf) {
    let locals = bd.members.iter().filter(|s| **s != from.slot).map(|s| Target::Port(*s));
    let vteps = if from.tunnel { &[][..] } else { &bd.vteps[..] };
    let mut targets = locals.chain(vteps.iter().map(|t| Target::Vtep(*t))).peekable();
    if targets.peek().is_none() {
        let reason = if from.tunnel { DropReason::NoLocalMember } else { DropReason::NoFloodMember };
        return lane.counters.dropped(from.slot, reason, 1);
    }
    if lane.replicas_left == 0 {
        return lane.counters.dropped(from.slot, DropReason::FloodLimit, 1);
    }
    while let Some(target) = targets.next() {
        lane.replicas_left = lane.replicas_left.saturating_sub(1);
        if targets.peek().is_none() {
            return send_to(v, lane, from, bd, target, m);
        }
        lane.counters.replicas.add(1);
        match m.duplicate() {
            Some(copy) => send_to(v, lane, from, bd, target, copy),
            None => lane.counters.dropped(from.slot, DropReason::NoMbuf, 1),
        }
    }
}

enum Target {
    Port(u16),
    Vtep(u16),
}

fn send_to(v: View<'_>, lane: &mut Lane, from: Ingress, bd: &Bd, target: Target, m: Mbuf) {
    match target {
        Target::Vtep(vtep) => to_vtep(v, lane, from.slot, bd, vtep, m),
        Target::Port(slot) => match v.tables.port(slot) {
            Some(port) => deliver(v, lane, from, port, m),
            None => lane.counters.dropped(from.slot, DropReason::PortGone, 1),
        },
    }
}
