//! What is a frame that came from the underlay? A tunnel packet for us, something for the host, or an error.
//!
//! The order of the questions is the policy:
//!
//! 1. Unicast to another MAC address: [`OuterError::NotOurMac`]. So is a frame without a whole Ethernet header.
//! 2. Broadcast, multicast, anything but IPv4, another destination address than the VTEP's, another protocol
//!    than UDP: the host's ([`Underlay::ToHost`]). The host judges the rest of such a frame.
//! 3. UDP to the VTEP's address: header fields that keep us from finding the port are errors, fragments too
//!    (RFC 7348 section 4.3 lets a VTEP discard them; a fragment cannot be told from a tunnel packet's).
//! 4. Another UDP port than the tunnels': the host's.
//! 5. From here on it is meant for us, and every defect is an error with its own name.
//!
//! Behind one or two VLAN tags (priority tags too) the same questions are asked, and what would be a tunnel packet
//! or an error is [`OuterError::Vlan`]: the VTEP's address lives in the untagged network only.

mod common;

pub use common::{CommonPattern, CommonTunnel, CommonVtep};

use crate::geneve::OptionsError;
use crate::{Encap, MacAddr, Vni, ethernet, geneve, ipv4, udp, vxlan};
use std::net::Ipv4Addr;

/// Most bytes of outer headers that are ever read: two tags, IPv4 and GENEVE with all their options. The first
/// segment given to [`classify_underlay`] has to hold this many bytes or the whole packet.
pub const MAX_HEADERS: usize =
    ethernet::LEN + 2 * ethernet::TAG_LEN + ipv4::MAX_LEN + udp::LEN + geneve::LEN + geneve::MAX_OPTIONS_LEN;

/// Whom we are in the underlay.
#[derive(Clone, Copy, Debug)]
pub struct LocalVtep {
    /// The VTEP's address.
    pub ip: Ipv4Addr,
    /// The uplink's MAC address.
    pub mac: MacAddr,
    /// UDP port on which VXLAN arrives.
    pub vxlan_port: u16,
    /// UDP port on which GENEVE arrives; not the same.
    pub geneve_port: u16,
}

/// What the NIC has already checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct RxChecks {
    /// The NIC found the outer IPv4 header checksum good.
    pub ip_checksum_known_good: bool,
    /// The NIC found the outer UDP checksum good.
    pub udp_checksum_known_good: bool,
}

/// Where a frame from the underlay goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Underlay {
    /// A tunnel packet with sound outer headers.
    Tunnel(TunnelRx),
    /// Not for the fast path: ARP, ICMP, or what belongs to the host.
    ToHost,
}

/// A tunnel packet. All offsets are from the start of the Ethernet frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelRx {
    /// By which tunnel it came.
    pub encap: Encap,
    /// The virtual network.
    pub vni: Vni,
    /// The sending VTEP, as the packet claims.
    pub src: Ipv4Addr,
    /// Where the inner frame begins, in bytes. It ends at `outer_len` and has at least 14 bytes.
    pub inner_offset: u16,
    /// Where the UDP datagram and thus the inner frame ends, in bytes: cut the packet here. What follows is padding
    /// of the Ethernet frame, or lies between the ends of the UDP and of the IP datagram.
    pub outer_len: u32,
    /// Where the UDP header begins, in bytes.
    pub udp_offset: u16,
    /// Length of the UDP datagram in bytes.
    pub udp_len: u16,
    /// The packet has a UDP checksum that nobody has checked: ask [`TunnelRx::udp_checksum_ok`] before
    /// decapsulating, and drop with [`OuterError::BadUdpChecksum`] (RFC 7348 section 4.1, RFC 8926 section 3.3).
    pub need_udp_check: bool,
    /// The outer TOS: its ECN bits are to be carried over ([`crate::ecn`]).
    pub tos: u8,
}

impl TunnelRx {
    /// Checks the UDP checksum. `segments` are those of the packet from the start of the Ethernet frame on; `dst`
    /// is the VTEP's address.
    #[inline]
    pub fn udp_checksum_ok<'a>(&self, segments: impl IntoIterator<Item = &'a [u8]>, dst: Ipv4Addr) -> bool {
        let mut skip = usize::from(self.udp_offset);
        let from_udp = segments.into_iter().map(move |segment| {
            let piece = segment.get(skip..).unwrap_or(&[]);
            skip -= segment.len().min(skip);
            piece
        });
        udp::udp_checksum_ok(from_udp, self.src, dst, self.udp_len)
    }
}

/// Why a frame from the underlay is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum OuterError {
    /// Unicast to another MAC address, or too short to have one.
    #[error("not addressed to the uplink's MAC address")]
    NotOurMac,
    /// IP version is not 4, or the header length is less than 20 bytes or more than there are.
    #[error("malformed outer IPv4 header")]
    BadIpHeader,
    /// The outer IPv4 header checksum is wrong.
    #[error("wrong outer IPv4 header checksum")]
    BadIpChecksum,
    /// The total length has no room for a UDP header, or is more than arrived.
    #[error("outer IPv4 total length does not fit the frame")]
    BadIpLength,
    /// A fragment of a UDP datagram.
    #[error("fragment of a UDP datagram to the VTEP address")]
    Fragment,
    /// The UDP length is less than 8 or more than the IP payload.
    #[error("outer UDP length does not fit the IP datagram")]
    BadUdpLength,
    /// The UDP checksum is not zero and wrong.
    #[error("wrong outer UDP checksum")]
    BadUdpChecksum,
    /// VXLAN without the I flag (RFC 7348 section 5).
    #[error("VXLAN header without a valid VNI")]
    VxlanNoVniFlag,
    /// Less than a VXLAN header.
    #[error("truncated VXLAN header")]
    VxlanTruncated,
    /// GENEVE of an unknown version (RFC 8926 section 3.4).
    #[error("unknown GENEVE version")]
    GeneveVersion,
    /// The GENEVE header or its options do not fit, or the options' lengths do not add up.
    #[error("truncated GENEVE header or options")]
    GeneveTruncated,
    /// GENEVE with a critical option, of which weft knows none (RFC 8926 section 3.4).
    #[error("unknown critical GENEVE option")]
    GeneveCriticalOption,
    /// GENEVE with something else than an Ethernet frame inside.
    #[error("GENEVE payload is not an Ethernet frame")]
    GeneveNotEthernet,
    /// A GENEVE control message (O bit), which must not be forwarded (RFC 8926 section 3.4).
    #[error("GENEVE control message")]
    GeneveControl,
    /// The inner frame has less than 14 bytes.
    #[error("inner frame shorter than an Ethernet header")]
    InnerTooShort,
    /// A tunnel packet with an outer VLAN tag.
    #[error("tunnel packet with an outer VLAN tag")]
    Vlan,
}

/// Tells what a frame from the underlay is, by the policy at the head of this module.
///
/// `first_seg` has to hold the first [`MAX_HEADERS`] bytes of the packet, or all of it: headers that lie beyond
/// it count as missing. `pkt_len` is the length of the whole packet over all segments, in bytes.
#[inline]
pub fn classify_underlay(
    first_seg: &[u8],
    pkt_len: usize,
    vtep: &LocalVtep,
    checks: RxChecks,
) -> Result<Underlay, OuterError> {
    let frame = first_seg.get(..pkt_len).unwrap_or(first_seg);
    let Some(header) = ethernet::Header::new(frame) else {
        return Err(OuterError::NotOurMac);
    };
    if header.dst() != vtep.mac {
        return if header.dst().is_multicast() { Ok(Underlay::ToHost) } else { Err(OuterError::NotOurMac) };
    }
    match header.ethertype() {
        ethernet::IPV4 => classify_ipv4(frame, pkt_len, ethernet::LEN, vtep, checks),
        tag if ethernet::is_tag(tag) => classify_tagged(frame, pkt_len, vtep, checks),
        _ => Ok(Underlay::ToHost),
    }
}

#[cold]
fn classify_tagged(
    frame: &[u8],
    pkt_len: usize,
    vtep: &LocalVtep,
    checks: RxChecks,
) -> Result<Underlay, OuterError> {
    match ethernet::skip_tags(frame) {
        Some((ethernet::IPV4, l3)) => match classify_ipv4(frame, pkt_len, l3, vtep, checks) {
            Ok(Underlay::ToHost) => Ok(Underlay::ToHost),
            Ok(Underlay::Tunnel(_)) | Err(_) => Err(OuterError::Vlan),
        },
        _ => Ok(Underlay::ToHost),
    }
}

/// `l3` is where the IPv4 header should begin.
#[inline]
fn classify_ipv4(
    frame: &[u8],
    pkt_len: usize,
    l3: usize,
    vtep: &LocalVtep,
    checks: RxChecks,
) -> Result<Underlay, OuterError> {
    let packet = frame.get(l3..).unwrap_or(&[]);
    let Some(ip) = ipv4::Header::new(packet) else {
        return Ok(Underlay::ToHost);
    };
    if ip.dst() != vtep.ip || ip.protocol() != ipv4::UDP {
        return Ok(Underlay::ToHost);
    }
    let ip_header_len = ip.header_len();
    if ip.version() != 4 || ip_header_len < ipv4::MIN_LEN || ip_header_len > packet.len() {
        return Err(OuterError::BadIpHeader);
    }
    if ip.is_fragment() {
        return Err(OuterError::Fragment);
    }
    let datagram = packet.get(ip_header_len..).unwrap_or(&[]);
    let Some(udp) = udp::Header::new(datagram) else {
        return Err(OuterError::BadIpLength);
    };
    let encap = if udp.dst_port() == vtep.vxlan_port {
        Encap::Vxlan
    } else if udp.dst_port() == vtep.geneve_port {
        Encap::Geneve
    } else {
        return Ok(Underlay::ToHost);
    };

    if !checks.ip_checksum_known_good && !ipv4::checksum_ok(packet, ip_header_len) {
        return Err(OuterError::BadIpChecksum);
    }
    // Bytes of the IP datagram; the frame may be longer (padding), never shorter.
    let total_len = usize::from(ip.total_len());
    if total_len < ip_header_len + udp::LEN || total_len > pkt_len.saturating_sub(l3) {
        return Err(OuterError::BadIpLength);
    }
    // A UDP length below the IP payload's is allowed: the datagram ends where UDP says (RFC 768, RFC 1122 section
    // 4.1.3 asks for no equality), and the bytes behind it are cut off with the padding.
    let udp_len = usize::from(udp.length());
    if udp_len < udp::LEN || udp_len > total_len - ip_header_len {
        return Err(OuterError::BadUdpLength);
    }
    let tunnel = datagram.get(udp::LEN..).unwrap_or(&[]);
    let payload_len = udp_len - udp::LEN;
    let (vni, tunnel_len) = match encap {
        Encap::Vxlan => check_vxlan(tunnel, payload_len)?,
        Encap::Geneve => check_geneve(tunnel, payload_len)?,
    };
    if payload_len - tunnel_len < ethernet::LEN {
        return Err(OuterError::InnerTooShort);
    }
    let udp_offset = l3 + ip_header_len;
    Ok(Underlay::Tunnel(TunnelRx {
        encap,
        vni,
        src: ip.src(),
        // At most MAX_HEADERS.
        inner_offset: (udp_offset + udp::LEN + tunnel_len) as u16,
        outer_len: (udp_offset + udp_len) as u32,
        udp_offset: udp_offset as u16,
        udp_len: udp.length(),
        need_udp_check: udp.checksum() != 0 && !checks.udp_checksum_known_good,
        tos: ip.tos(),
    }))
}

/// VNI and header length. `payload_len` is the length of the UDP payload, `bytes` what of it is at hand.
#[inline]
fn check_vxlan(bytes: &[u8], payload_len: usize) -> Result<(Vni, usize), OuterError> {
    let header = vxlan::Header::new(bytes).ok_or(OuterError::VxlanTruncated)?;
    if payload_len < vxlan::LEN {
        return Err(OuterError::VxlanTruncated);
    }
    if !header.has_vni() {
        return Err(OuterError::VxlanNoVniFlag);
    }
    Ok((header.vni(), vxlan::LEN))
}

/// The same for GENEVE; the length includes the options.
#[inline]
fn check_geneve(bytes: &[u8], payload_len: usize) -> Result<(Vni, usize), OuterError> {
    let header = geneve::Header::new(bytes).ok_or(OuterError::GeneveTruncated)?;
    if payload_len < geneve::LEN {
        return Err(OuterError::GeneveTruncated);
    }
    // What an unknown version's other bits mean is unknown, too.
    if header.version() != 0 {
        return Err(OuterError::GeneveVersion);
    }
    let len = geneve::LEN + header.options_len();
    if len > payload_len {
        return Err(OuterError::GeneveTruncated);
    }
    if header.is_control() {
        return Err(OuterError::GeneveControl);
    }
    if header.has_critical() {
        return Err(OuterError::GeneveCriticalOption);
    }
    let options = bytes.get(geneve::LEN..len).ok_or(OuterError::GeneveTruncated)?;
    geneve::check_options(options).map_err(|error| match error {
        OptionsError::Truncated => OuterError::GeneveTruncated,
        OptionsError::Critical => OuterError::GeneveCriticalOption,
    })?;
    if header.protocol() != geneve::ETHERNET {
        return Err(OuterError::GeneveNotEthernet);
    }
    Ok((header.vni(), len))
}

#[cfg(test)]
mod tests;
