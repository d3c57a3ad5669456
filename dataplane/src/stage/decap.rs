//! Frames from the underlay: tunnel packets lose their outer headers and find their bridge domain; what is not weft's
//! goes to the slow path.
//!
//! Isolation between tenants rests here: a packet enters a bridge domain only if its VNI is the domain's and its source
//! address is a VTEP of that domain.

use super::admit::destination;
use crate::drop::DropReason;
use crate::forwarding::{Tables, Uplink};
use crate::path::{Lane, Scratch, View};
use crate::underlay::punt::{Punt, Ring};
use std::net::Ipv4Addr;
use weft_port::{Burst, Mbuf};
use weft_tables::fdb::FdbKey;
use weft_wire::{Encap, OuterError, RxChecks, Underlay, Vni, classify_underlay, ecn, ethernet};

/// Bytes that must lie in the first buffer: outer headers with all options, and enough of the inner frame to hash it.
const HEADERS: usize = weft_wire::underlay::MAX_HEADERS + 66;

/// Moves the inner frames of tunnel packets into `out` with their bridge domain and FDB key.
pub(crate) fn decap(v: View<'_>, lane: &mut Lane, up: &Uplink, burst: &mut Burst, out: &mut Scratch) {
    for m in burst.iter() {
        m.prefetch();
    }
    let mut last = LastTunnel::default();
    for mut m in burst.drain(..) {
        // A stripped tag with VID 0 is only a priority (IEEE 802.1Q 6.9); any other VLAN is the host's business.
        let other_vlan = m.vlan_stripped().is_some_and(|tci| tci & 0x0fff != 0);
        let verdict = if other_vlan { Ok(None) } else { one(v, up, &mut last, &mut m) };
        match verdict {
            Ok(Some((bd, key))) => out.push(m, bd, key),
            Ok(None) => {
                let ring = if is_arp(m.data()) { Ring::Arp } else { Ring::Host };
                if lane.punt.push(ring, Punt::Host { mbuf: m, src: up.slot }).is_err() {
                    lane.counters.dropped(up.slot, DropReason::PuntFull, 1);
                }
            }
            Err(reason) => lane.counters.dropped(up.slot, reason, 1),
        }
    }
}

/// One frame: `Ok(None)` if it is for the slow path.
#[inline]
fn one(
    v: View<'_>,
    up: &Uplink,
    last: &mut LastTunnel,
    m: &mut Mbuf,
) -> Result<Option<(u32, FdbKey)>, DropReason> {
    if usize::from(m.data_len()) < HEADERS && m.nb_segs() > 1 && !m.linearize() {
        return Err(DropReason::NotLinear);
    }
    if m.ip_checksum_bad() {
        return Err(DropReason::OuterBadIpChecksum);
    }
    let checks = RxChecks {
        ip_checksum_known_good: m.ip_checksum_good(),
        udp_checksum_known_good: m.udp_checksum_good(),
    };
    let t = match classify_underlay(m.data(), m.pkt_len() as usize, &up.local, checks) {
        Ok(Underlay::Tunnel(t)) => t,
        Ok(Underlay::ToHost) => return Ok(None),
        Err(OuterError::Vlan) => return Ok(None),
        Err(e) => return Err(reason_of(e)),
    };
    let bd = last.find(v.tables, t.vni, t.src)?;
    let domain = v.tables.bds.get(bd as usize).ok_or(DropReason::UnknownVni)?;
    // Ethernet pads short frames: only what the UDP length covers is the inner frame.
    if !m.trim_to(t.outer_len) {
        return Err(DropReason::OuterBadIpLength);
    }
    if t.need_udp_check && !t.udp_checksum_ok(m.segments(), up.local.ip) {
        return Err(DropReason::OuterBadUdpChecksum);
    }
    if !m.adj(usize::from(t.inner_offset)) {
        return Err(DropReason::InnerRunt);
    }
    m.clear_offload();
    // A buffer shared with somebody is not written: then the mark is lost, not the packet.
    if ecn::matters(t.tos) && m.data_mut().is_some_and(|inner| ecn::decapsulate(inner, t.tos).is_err()) {
        return Err(DropReason::EcnNotCapable);
    }
    if t.encap == Encap::Vxlan && !domain.keep_inner_vlan && is_tagged(m.data()) {
        return Err(DropReason::InnerVlan);
    }
    let mac =
        destination(m.data()).map_err(|r| if r == DropReason::Runt { DropReason::InnerRunt } else { r })?;
    Ok(Some((bd, FdbKey::new(domain.network, mac.to_u64()))))
}

/// The tunnel that the packet before came by: bursts mostly hold few.
#[derive(Default)]
struct LastTunnel(Option<(Vni, Ipv4Addr, u32)>);

impl LastTunnel {
    #[inline]
    fn find(&mut self, t: &Tables, vni: Vni, src: Ipv4Addr) -> Result<u32, DropReason> {
        match self.0 {
            Some((v, s, bd)) if v == vni && s == src => Ok(bd),
            _ => {
                let bd = *t.vnis.get(&vni.get()).ok_or(DropReason::UnknownVni)?;
                let vtep = *t.vteps.get(&src).ok_or(DropReason::UnknownVtep)?;
                let known = t.bds.get(bd as usize).is_some_and(|b| b.vtep_set.contains(vtep));
                if !known {
                    return Err(DropReason::UnknownVtep);
                }
                self.0 = Some((vni, src, bd));
                Ok(bd)
            }
        }
    }
}

/// Whether an inner frame has a VLAN tag: 802.1Q or 802.1ad.
fn is_tagged(frame: &[u8]) -> bool {
    frame.get(12..14).is_some_and(|t| ethernet::is_tag(u16::from_be_bytes([t[0], t[1]])))
}

fn is_arp(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x08, 0x06])
}

fn reason_of(e: OuterError) -> DropReason {
    match e {
        OuterError::NotOurMac | OuterError::Vlan => DropReason::NotOurMac,
        OuterError::BadIpHeader => DropReason::OuterBadIpHeader,
        OuterError::BadIpChecksum => DropReason::OuterBadIpChecksum,
        OuterError::BadIpLength => DropReason::OuterBadIpLength,
        OuterError::Fragment => DropReason::OuterFragment,
        OuterError::BadUdpLength => DropReason::OuterBadUdpLength,
        OuterError::BadUdpChecksum => DropReason::OuterBadUdpChecksum,
        OuterError::VxlanNoVniFlag => DropReason::VxlanNoVni,
        OuterError::VxlanTruncated => DropReason::VxlanTruncated,
        OuterError::GeneveVersion => DropReason::GeneveVersion,
        OuterError::GeneveTruncated => DropReason::GeneveTruncated,
        OuterError::GeneveCriticalOption => DropReason::GeneveCriticalOption,
        OuterError::GeneveNotEthernet => DropReason::GeneveNotEthernet,
        OuterError::GeneveControl => DropReason::GeneveControl,
        OuterError::InnerTooShort => DropReason::InnerRunt,
    }
}
