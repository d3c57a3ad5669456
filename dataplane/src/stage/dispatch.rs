//! Sends each packet of a burst where its next hop says: to a local port, into a tunnel, or to all of its bridge domain.

use super::encap::{self, Outcome};
use crate::drop::DropReason;
use crate::forwarding::{Bd, Hop, NextHopId, PortEntry};
use crate::path::{Ingress, Lane, MAX_BURST, Scratch, View};
use weft_port::Mbuf;

/// Empties `work`.
pub(crate) fn dispatch(
    v: View<'_>,
    lane: &mut Lane,
    from: Ingress,
    work: &mut Scratch,
    hops: &[u32; MAX_BURST],
) {
    for (i, m) in work.pkts.drain(..).enumerate() {
        let Some(bd) = v.tables.bds.get(work.bds[i] as usize) else {
            lane.counters.dropped(from.slot, DropReason::PortGone, 1);
            continue;
        };
        match NextHopId::decode(hops[i]) {
            Hop::Port { slot, .. } if slot == from.slot => {
                lane.counters.dropped(from.slot, DropReason::SamePort, 1);
            }
            Hop::Port { slot, generation } => match v.tables.port(slot) {
                // The domain as well: a port that is about to move must not get frames of its next one early.
                Some(port) if port.generation == generation && port.bd == work.bds[i] => {
                    deliver(v, lane, from, port, m)
                }
                _ => lane.counters.dropped(from.slot, DropReason::PortGone, 1),
            },
            Hop::Vtep(_) if from.tunnel => lane.counters.dropped(from.slot, DropReason::SplitHorizon, 1),
            Hop::Vtep(vtep) => to_vtep(v, lane, from.slot, bd, vtep, m),
            Hop::Miss => flood(v, lane, from, bd, m),
        }
    }
}

/// To a local port.
#[inline]
fn deliver(v: View<'_>, lane: &mut Lane, from: Ingress, port: &PortEntry, m: Mbuf) {
    if m.pkt_len() > port.max_frame {
        return lane.counters.dropped(from.slot, DropReason::ExceedsPortMtu, 1);
    }
    let Some(route) = port.routes.get(v.worker) else {
        return lane.counters.dropped(from.slot, DropReason::PortNotReady, 1);
    };
    lane.tx.send(&lane.counters, port, route, m, from.slot, |m| weft_wire::flow_hash(m.data()));
}

/// Through a tunnel.
#[inline]
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
