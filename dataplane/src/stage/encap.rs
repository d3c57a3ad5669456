//! Encapsulation: the VTEP's ready-made outer headers, written in front of the frame and patched.

use crate::drop::DropReason;
use crate::forwarding::{Bd, PortEntry, TxRoute};
use crate::path::{Lane, View};
use crate::underlay::punt::{Punt, Ring};
use weft_port::Mbuf;
use weft_wire::{InnerInfo, Stamp, Template, Vni};

/// What became of a packet.
pub(crate) enum Outcome {
    /// Encapsulated; send it out of the uplink.
    Ready(Mbuf),
    /// Dropped and counted, or waiting for the next hop's MAC.
    Done,
}

/// What all packets of a run into one tunnel have in common.
pub(crate) struct Tunnel<'r> {
    /// The uplink.
    pub port: &'r PortEntry,
    pub route: &'r TxRoute,
    stamp: Stamp,
    /// Longest inner frame.
    longest: u32,
    refuses_tags: bool,
    may_fragment: bool,
}

impl<'r> Tunnel<'r> {
    /// `None` if no packet can go there now; [`encap`] knows why, for each.
    #[inline]
    pub fn find(v: View<'r>, bd: &Bd, vtep: u16) -> Option<Self> {
        let hop = v.fwd.vteps.get(vtep.into(), v.reader)?;
        let uplink = v.tables.uplink.as_ref()?;
        let port = v.tables.port(uplink.slot)?;
        Some(Self {
            port,
            route: port.routes.get(v.worker)?,
            stamp: hop.template.as_ref()?.stamp(bd.vni?),
            longest: uplink.max_frame.checked_sub(Template::LEN as u32)?.min(Template::MAX_INNER.into()),
            refuses_tags: hop.vxlan && !bd.keep_inner_vlan,
            may_fragment: hop.may_fragment,
        })
    }

    /// Encapsulates packets from the front on, up to one for which that is not as simple as for most: too long, tagged,
    /// shared, without headroom. Returns how many, and their bytes.
    #[inline]
    pub fn encap(&self, ip_id: &mut u16, packets: &mut [Mbuf]) -> (usize, u64) {
        // What most underlays have in common is worth a loop of its own.
        if self.stamp.is_plain() && !self.may_fragment {
            self.encap_all(packets, |out, len, info| self.stamp.write_plain(out, len, info.hash))
        } else {
            self.encap_all(packets, |out, len, info| {
                let id = if self.may_fragment { next_id(ip_id) } else { 0 };
                self.stamp.write(out, len, info, id);
            })
        }
    }

    // Not inlined: the registers are all needed here.
    #[inline(never)]
    fn encap_all(
        &self,
        packets: &mut [Mbuf],
        mut write: impl FnMut(&mut [u8; Template::LEN], u16, &InnerInfo),
    ) -> (usize, u64) {
        let (mut done, mut bytes) = (0, 0);
        for m in packets {
            let info = weft_wire::inspect(m.data());
            let len = m.pkt_len();
            if len > self.longest || info.vlan && self.refuses_tags {
                break;
            }
            let Some(out) = m.prepend_array() else { break };
            write(out, len as u16, &info);
            bytes += u64::from(len);
            done += 1;
        }
        (done, bytes + (done * Template::LEN) as u64)
    }
}

#[inline]
fn next_id(ip_id: &mut u16) -> u16 {
    *ip_id = ip_id.wrapping_add(1);
    *ip_id
}

/// Encapsulates `m` for a VTEP slot; `src` is the slot where drops are counted.
#[inline]
pub(crate) fn encap(v: View<'_>, lane: &mut Lane, src: u16, bd: &Bd, vtep: u16, m: Mbuf) -> Outcome {
    let drop = |lane: &mut Lane, reason| {
        lane.counters.dropped(src, reason, 1);
        Outcome::Done
    };
    let Some(hop) = v.fwd.vteps.get(u32::from(vtep), v.reader) else {
        return drop(lane, DropReason::NextHopGone);
    };
    let Some(vni) = bd.vni else { return drop(lane, DropReason::NoVni) };
    let info = weft_wire::inspect(m.data());
    if info.vlan && hop.vxlan && !bd.keep_inner_vlan {
        return drop(lane, DropReason::InnerVlan);
    }
    // Before it may wait: what waits is bounded in packets, so their length must be bounded, too.
    let limit = v.tables.uplink.as_ref().map_or(0, |u| u.max_frame);
    if m.pkt_len() as usize + Template::LEN > limit as usize {
        return drop(lane, DropReason::ExceedsUnderlayMtu);
    }
    let Some(template) = &hop.template else {
        let waiting = Punt::Hold { mbuf: m, vtep, network: bd.network, src };
        if lane.punt.push(Ring::Hold, waiting).is_err() {
            return drop(lane, DropReason::PuntFull);
        }
        return Outcome::Done;
    };
    let id = if hop.may_fragment { next_id(&mut lane.ip_id) } else { 0 };
    match prepend(template, m, vni, &info, id) {
        Ok(m) => Outcome::Ready(m),
        Err(reason) => drop(lane, reason),
    }
}

/// Writes the outer headers into the headroom or, if that is used up or shared, in front of a copy.
#[inline]
fn prepend(t: &Template, mut m: Mbuf, vni: Vni, info: &InnerInfo, id: u16) -> Result<Mbuf, DropReason> {
    // The caller has compared the length with the uplink's MTU, which is 16 bits.
    let inner = u16::try_from(m.pkt_len()).map_err(|_| DropReason::ExceedsUnderlayMtu)?;
    let write =
        |m: &mut Mbuf| m.prepend(t.len()).is_some_and(|out| t.write_with_id(out, inner, vni, info, id));
    if !write(&mut m) {
        m = m.duplicate().ok_or(DropReason::NoMbuf)?;
        if !write(&mut m) {
            return Err(DropReason::NoHeadroom);
        }
    }
    Ok(m)
}
