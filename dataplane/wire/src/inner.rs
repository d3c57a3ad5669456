//! One look at a frame from a guest: what encapsulation needs to know of it.
//!
//! The frame is hostile: anything that does not parse falls back to the MAC addresses, nothing is an error. Only
//! the bytes given are read; headers that lie beyond the first segment of a packet count as absent.

use crate::words::{le32, le64};
use crate::{ethernet, ipv4};

/// What [`inspect`] finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InnerInfo {
    /// IPv4 TOS or IPv6 traffic class (DSCP in the upper six bits, ECN in the lower two); 0 if not IP.
    pub tos: u8,
    /// Whether the frame carries a VLAN tag (802.1Q or 802.1ad) right behind its addresses: RFC 7348 section 6.1.
    pub vlan: bool,
    /// [`flow_hash`] of the frame.
    pub hash: u32,
}

/// Extension headers that are walked before an IPv6 packet is hashed by addresses and protocol only.
const MAX_EXTENSIONS: usize = 6;

/// In the word of the IPv4 header that begins with the fragment offset, the first byte being the lowest: the offset, the
/// flag that more follow, and the protocol.
const NOT_FRAGMENTED: u32 = 0xff00_ff3f;
/// That word, masked, of TCP and UDP.
const TCP: u32 = (ipv4::TCP as u32) << 24;
const UDP: u32 = (ipv4::UDP as u32) << 24;

// Digits of pi, made odd: constants with nothing up their sleeve.
const K0: u64 = 0x243f_6a88_85a3_08d3;
const K1: u64 = 0x1319_8a2e_0370_7345;
const K2: u64 = 0xa409_3822_299f_31d1;
const K3: u64 = 0x9216_d5d9_8979_fb1b;

/// A number that is the same for all frames of a flow and spreads flows evenly; fast, not cryptographic.
///
/// Behind zero to two VLAN tags it covers, for TCP, UDP and SCTP over IPv4 or IPv6, the 5-tuple; for other
/// protocols the addresses and the protocol; for every fragment, first ones too, also just those, so that all
/// fragments of a datagram take one path (a fragment of IPv6 counts as protocol 44, as RFC 8200 section 4.5 lets
/// the next-header value differ between fragments). Anything else is hashed by its MAC addresses and EtherType,
/// and a frame of less than 14 bytes has hash 0.
#[inline]
pub fn flow_hash(frame: &[u8]) -> u32 {
    inspect(frame).hash
}

/// Looks at a frame once and tells what encapsulation needs. Never fails and never panics.
#[inline]
pub fn inspect(frame: &[u8]) -> InnerInfo {
    // Nearly every frame is untagged IPv4 without options, no fragment, and TCP or UDP: all offsets are constants.
    if let Some(head) = frame.first_chunk::<38>()
        && le32(head, 12) & 0x00ff_ffff == 0x0045_0008
        && let l4 @ (TCP | UDP) = le32(head, 20) & NOT_FRAGMENTED
    {
        let hash = hash_ipv4(le64(head, 26), (l4 >> 24) as u8, true, le32(head, 34));
        return InnerInfo { tos: head[15], vlan: false, hash };
    }
    inspect_any(frame)
}

/// The same for any frame: tags, options, IPv6, short ones.
fn inspect_any(frame: &[u8]) -> InnerInfo {
    let Some((ethertype, l3)) = ethernet::skip_tags(frame) else {
        return InnerInfo::default();
    };
    let vlan = ethernet::Header::new(frame).is_some_and(|header| ethernet::is_tag(header.ethertype()));
    let packet = frame.get(l3..).unwrap_or(&[]);
    let ip = match ethertype {
        ethernet::IPV4 => inspect_ipv4(packet),
        ethernet::IPV6 => inspect_ipv6(packet),
        _ => None,
    };
    match ip {
        Some((tos, hash)) => InnerInfo { tos, vlan, hash },
        None => InnerInfo { tos: 0, vlan, hash: hash_l2(frame, ethertype) },
    }
}

/// TOS and hash; `None` when it is no IPv4 header.
fn inspect_ipv4(packet: &[u8]) -> Option<(u8, u32)> {
    let header = ipv4::Header::new(packet)?;
    if header.version() != 4 || header.header_len() < ipv4::MIN_LEN {
        return None;
    }
    let addresses = u64::from_le_bytes(*packet.get(12..)?.first_chunk()?);
    let ports = if has_ports(header.protocol()) && !header.is_fragment() {
        packet.get(header.header_len()..).and_then(ports)
    } else {
        None
    };
    let hash = hash_ipv4(addresses, header.protocol(), ports.is_some(), ports.unwrap_or(0));
    Some((header.tos(), hash))
}

/// Traffic class and hash; `None` when it is no IPv6 header.
fn inspect_ipv6(packet: &[u8]) -> Option<(u8, u32)> {
    let header = packet.first_chunk::<40>()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let traffic_class = header[0] << 4 | header[1] >> 4;
    let (protocol, payload) = skip_extensions(header[6], &packet[40..]);
    let ports = if has_ports(protocol) { payload.and_then(ports) } else { None };
    let word = |at: usize| {
        header.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b))
    };
    let mut hash = mix(word(8) ^ K0, K1);
    for address in [word(16), word(24), word(32)] {
        hash = mix(hash ^ address, K2);
    }
    Some((traffic_class, last(hash, protocol, ports.is_some(), ports.unwrap_or(0))))
}

/// Walks over hop-by-hop, routing and destination options (RFC 8200 section 4) and the authentication header
/// (RFC 4302). Gives the protocol behind them and its bytes; no bytes when they cannot be reached.
fn skip_extensions(first: u8, after: &[u8]) -> (u8, Option<&[u8]>) {
    let mut next = first;
    let mut rest = after;
    for _ in 0..MAX_EXTENSIONS {
        let unit = match next {
            0 | 43 | 60 => 8,
            51 => 4,
            _ => return (next, Some(rest)),
        };
        let Some(&[following, length]) = rest.first_chunk::<2>() else {
            return (next, None);
        };
        // Lengths do not count the first 8 bytes; the authentication header's is in words of 4.
        let Some(behind) = rest.get(8 + usize::from(length) * unit..) else {
            return (next, None);
        };
        next = following;
        rest = behind;
    }
    (next, None)
}

/// TCP, UDP and SCTP all begin with source and destination port.
#[inline]
fn has_ports(protocol: u8) -> bool {
    matches!(protocol, ipv4::TCP | ipv4::UDP | ipv4::SCTP)
}

#[inline]
fn ports(l4: &[u8]) -> Option<u32> {
    l4.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

#[inline]
fn hash_ipv4(addresses: u64, protocol: u8, with_ports: bool, ports: u32) -> u32 {
    last(mix(addresses ^ K0, K1), protocol, with_ports, ports)
}

#[inline]
fn last(addresses: u64, protocol: u8, with_ports: bool, ports: u32) -> u32 {
    let rest = u64::from(ports) | u64::from(protocol) << 32 | u64::from(with_ports) << 40;
    finish(mix(addresses ^ rest, K3))
}

fn hash_l2(frame: &[u8], ethertype: u16) -> u32 {
    let Some(&[a, b, c, d, e, f, g, h, i, j, k, l]) = frame.first_chunk::<12>() else {
        return 0;
    };
    let [p, q] = ethertype.to_le_bytes();
    let destination = u64::from_le_bytes([a, b, c, d, e, f, p, q]);
    let source = u64::from_le_bytes([g, h, i, j, k, l, 0, 0]);
    finish(mix(mix(destination ^ K0, K1) ^ source, K2))
}

/// A folded multiply: every bit of the input reaches the middle of the 128-bit product.
#[inline]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[inline]
fn finish(hash: u64) -> u32 {
    // Neighbouring ports differ in few bits, and one product leaves a pattern of them; this one breaks it up.
    ((hash ^ hash >> 32).wrapping_mul(K2) >> 32) as u32
}

#[cfg(test)]
mod tests;
