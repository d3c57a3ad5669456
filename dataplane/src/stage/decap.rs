//! Frames from the underlay: tunnel packets lose their outer headers and find their bridge domain; what is not weft's
//! goes to the slow path.
//!
//! Isolation between tenants rests here: a packet enters a bridge domain only if its VNI is the domain's and its source
//! address is a VTEP of that domain.

use super::admit::{destination, refused};
use crate::drop::DropReason;
use crate::forwarding::{Tables, Uplink};
use crate::path::{Lane, Scratch, View};
use crate::underlay::punt::{Punt, Ring};
use std::net::Ipv4Addr;
use weft_port::{Burst, Mbuf};
use weft_tables::fdb::FdbKey;
use weft_wire::{CommonPattern, CommonTunnel, CommonVtep, Encap, OuterError, RxChecks, Underlay, Vni};
use weft_wire::{classify_underlay, ecn, ethernet};

/// Bytes that must lie in the first buffer: outer headers with all options, and enough of the inner frame to hash it.
const HEADERS: usize = weft_wire::underlay::MAX_HEADERS + 66;

/// Leaves the inner frames of tunnel packets in `burst`, and their bridge domains and FDB keys in `work`.
pub(crate) fn decap(v: View<'_>, lane: &mut Lane, up: &Uplink, burst: &mut Burst, work: &mut Scratch) {
    let vtep = CommonVtep::new(&up.local);
    let mut last = Tunnel::NONE;
    let (mut gone, mut punted) = (0u64, 0u64);
    let places = work.keys.iter_mut().zip(&mut work.bds);
    for (i, (m, (key, bd))) in burst.iter_mut().zip(places).enumerate() {
        let verdict = if last.fits(m) {
            enter(m, &last, CommonTunnel::INNER_OFFSET)
        } else {
            match any(v, up, &vtep, &mut last, m) {
                Ok(None) => {
                    punted |= 1 << i;
                    continue;
                }
                Ok(Some(mac)) => Ok(mac),
                Err(reason) => Err(reason),
            }
        };
        match verdict {
            Ok(mac) => (*bd, *key) = (last.bd, last.network.with_mac(mac)),
            Err(reason) => gone |= refused(lane, up.slot, reason) << i,
        }
    }
    if gone | punted != 0 {
        work.remove(burst, gone | punted, |i, m| {
            if punted >> i & 1 == 1 {
                punt(lane, up, m)
            }
        });
    }
}

/// To the agent.
#[cold]
fn punt(lane: &mut Lane, up: &Uplink, m: Mbuf) {
    let ring = if is_arp(m.data()) { Ring::Arp } else { Ring::Host };
    if lane.punt.push(ring, Punt::Host { mbuf: m, src: up.slot }).is_err() {
        lane.counters.dropped(up.slot, DropReason::PuntFull, 1);
    }
}

/// The destination MAC of an inner frame; `None`: the packet is for the slow path.
type Verdict = Result<Option<u64>, DropReason>;

/// A frame that is not of the last one's tunnel, or not a common one. Its tunnel, if it came by one, is in `last` then.
#[inline(never)]
fn any(v: View<'_>, up: &Uplink, vtep: &CommonVtep, last: &mut Tunnel, m: &mut Mbuf) -> Verdict {
    // A stripped tag with VID 0 is only a priority (IEEE 802.1Q 6.9); any other VLAN is the host's business.
    if m.vlan_stripped().is_some_and(|tci| tci & 0x0fff != 0) {
        return Ok(None);
    }
    if is_simple(m)
        && let Some(t) = vtep.read(m.data())
    {
        *last = Tunnel::find(v.tables, t.vni, t.src, t.encap)?;
        last.pattern = CommonPattern::of(m.data());
        return enter(m, last, CommonTunnel::INNER_OFFSET).map(Some);
    }
    one(v, up, last, m)
}

/// In one piece, and the device has nothing to say against it.
#[inline(always)]
fn is_simple(m: &Mbuf) -> bool {
    u32::from(m.data_len()) == m.pkt_len() && m.vlan_stripped().is_none() && !m.ip_checksum_bad()
}

/// One frame: `Ok(None)` if it is for the slow path.
fn one(v: View<'_>, up: &Uplink, last: &mut Tunnel, m: &mut Mbuf) -> Verdict {
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
    *last = Tunnel::find(v.tables, t.vni, t.src, t.encap)?;
    // Ethernet pads short frames: only what the UDP length covers is the inner frame.
    if !m.trim_to(t.outer_len) {
        return Err(DropReason::OuterBadIpLength);
    }
    if t.need_udp_check && !t.udp_checksum_ok(m.segments(), up.local.ip) {
        return Err(DropReason::OuterBadUdpChecksum);
    }
    // A buffer shared with somebody is not written: then the mark is lost, not the packet.
    if ecn::matters(t.tos)
        && let Some(inner) = m.data_mut().and_then(|frame| frame.get_mut(usize::from(t.inner_offset)..))
        && ecn::decapsulate(inner, t.tos).is_err()
    {
        return Err(DropReason::EcnNotCapable);
    }
    enter(m, last, t.inner_offset.into()).map(Some)
}

/// Takes the outer headers off. Is the inner frame one that the bridge domain lets in? Its destination MAC.
#[inline(always)]
fn enter(m: &mut Mbuf, tunnel: &Tunnel, inner_offset: usize) -> Result<u64, DropReason> {
    if !m.adj(inner_offset) {
        return Err(DropReason::InnerRunt);
    }
    m.clear_offload();
    if tunnel.refuses_tags && is_tagged(m.data()) {
        return Err(DropReason::InnerVlan);
    }
    destination(m.data()).map_err(|r| if r == DropReason::Runt { DropReason::InnerRunt } else { r })
}

/// A VNI and a VTEP of its bridge domain: what of the domain matters here. Kept for the next packets, as bursts mostly
/// hold few tunnels.
struct Tunnel {
    /// Of the last common packet that came by it.
    pattern: CommonPattern,
    bd: u32,
    /// The key of the domain's MAC 0.
    network: FdbKey,
    refuses_tags: bool,
}

impl Tunnel {
    const NONE: Self =
        Self { pattern: CommonPattern::NONE, bd: u32::MAX, network: FdbKey::new(0, 0), refuses_tags: true };

    /// Whether a packet is a common one of this tunnel.
    #[inline(always)]
    fn fits(&self, m: &Mbuf) -> bool {
        is_simple(m) && self.pattern.fits(m.data())
    }

    /// Here isolation is decided: the VNI's domain must have the source for a VTEP.
    fn find(t: &Tables, vni: Vni, src: Ipv4Addr, encap: Encap) -> Result<Self, DropReason> {
        let bd = *t.vnis.get(&vni.get()).ok_or(DropReason::UnknownVni)?;
        let vtep = *t.vteps.get(&src).ok_or(DropReason::UnknownVtep)?;
        let domain = t.bds.get(bd as usize).filter(|b| b.vtep_set.contains(vtep));
        let domain = domain.ok_or(DropReason::UnknownVtep)?;
        Ok(Self {
            pattern: CommonPattern::NONE,
            bd,
            network: FdbKey::new(domain.network, 0),
            refuses_tags: encap == Encap::Vxlan && !domain.keep_inner_vlan,
        })
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
