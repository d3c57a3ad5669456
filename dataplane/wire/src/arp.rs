//! ARP for IPv4 over Ethernet (RFC 826): whole frames, Ethernet header included.

use crate::{MacAddr, ethernet};
use std::net::Ipv4Addr;

/// Bytes of an ARP packet for Ethernet and IPv4, without the Ethernet header.
pub const LEN: usize = 28;

/// Hardware type Ethernet, protocol type IPv4, lengths 6 and 4: the only combination spoken here.
const FIXED: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];

/// What an ARP packet wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArpOp {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// The fields of an ARP packet, named as in RFC 826.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpPacket {
    /// Request or reply.
    pub op: ArpOp,
    /// Sender hardware address; never a group address.
    pub sha: MacAddr,
    /// Sender protocol address; 0.0.0.0 in a probe (RFC 5227).
    pub spa: Ipv4Addr,
    /// Target hardware address; without meaning in a request.
    pub tha: MacAddr,
    /// Target protocol address.
    pub tpa: Ipv4Addr,
}

/// Reads an untagged ARP frame from its Ethernet header on.
///
/// `None` when it is no request or reply for IPv4 over Ethernet, when it is cut short, and when it claims a group
/// address as the sender's, which must not be believed (RFC 1812 section 3.3.2).
pub fn parse(frame: &[u8]) -> Option<ArpPacket> {
    let header = ethernet::Header::new(frame)?;
    let arp: &[u8; LEN] = frame.get(ethernet::LEN..)?.first_chunk()?;
    if header.ethertype() != ethernet::ARP || arp[..6] != FIXED {
        return None;
    }
    let op = match u16::from_be_bytes([arp[6], arp[7]]) {
        1 => ArpOp::Request,
        2 => ArpOp::Reply,
        _ => return None,
    };
    let mac = |at: usize| MacAddr(std::array::from_fn(|i| arp[at + i]));
    let ip = |at: usize| Ipv4Addr::new(arp[at], arp[at + 1], arp[at + 2], arp[at + 3]);
    let packet = ArpPacket { op, sha: mac(8), spa: ip(14), tha: mac(18), tpa: ip(24) };
    (!packet.sha.is_multicast()).then_some(packet)
}

/// Writes a broadcast request "who has `tpa`, tell `spa` at `sha`" and gives its length in bytes. With `tpa` the
/// same as `spa` it is an announcement (RFC 5227 section 3).
pub fn build_request(
    sha: MacAddr,
    spa: Ipv4Addr,
    tpa: Ipv4Addr,
    out: &mut [u8; ethernet::MIN_FRAME],
) -> usize {
    let packet = ArpPacket { op: ArpOp::Request, sha, spa, tha: MacAddr::ZERO, tpa };
    build(MacAddr::BROADCAST, &packet, out)
}

/// Writes a unicast request to `dst`, which asks whether a known neighbour is still there (RFC 1122 section
/// 2.3.2.1), and gives its length in bytes.
pub fn build_poll(
    dst: MacAddr,
    sha: MacAddr,
    spa: Ipv4Addr,
    tpa: Ipv4Addr,
    out: &mut [u8; ethernet::MIN_FRAME],
) -> usize {
    let packet = ArpPacket { op: ArpOp::Request, sha, spa, tha: MacAddr::ZERO, tpa };
    build(dst, &packet, out)
}

/// Writes the reply "`spa` is at `sha`" to the station `tha` with address `tpa` and gives its length in bytes.
pub fn build_reply(
    sha: MacAddr,
    spa: Ipv4Addr,
    tha: MacAddr,
    tpa: Ipv4Addr,
    out: &mut [u8; ethernet::MIN_FRAME],
) -> usize {
    build(tha, &ArpPacket { op: ArpOp::Reply, sha, spa, tha, tpa }, out)
}

/// The frame is padded with zeroes to the shortest that Ethernet allows.
fn build(dst: MacAddr, packet: &ArpPacket, out: &mut [u8; ethernet::MIN_FRAME]) -> usize {
    out.fill(0);
    out[0..6].copy_from_slice(&dst.0);
    out[6..12].copy_from_slice(&packet.sha.0);
    out[12..14].copy_from_slice(&ethernet::ARP.to_be_bytes());
    out[14..20].copy_from_slice(&FIXED);
    out[21] = match packet.op {
        ArpOp::Request => 1,
        ArpOp::Reply => 2,
    };
    out[22..28].copy_from_slice(&packet.sha.0);
    out[28..32].copy_from_slice(&packet.spa.octets());
    out[32..38].copy_from_slice(&packet.tha.0);
    out[38..42].copy_from_slice(&packet.tpa.octets());
    out.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);
    const IP_A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const IP_B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    #[test]
    fn request_byte_for_byte() {
        let mut out = [0xee; 60];
        assert_eq!(build_request(A, IP_A, IP_B, &mut out), 60);
        #[rustfmt::skip]
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0xa, 0x08, 0x06,
            0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 0xa, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2,
        ];
        assert_eq!(out[..42], expected);
        assert_eq!(out[42..], [0; 18]);
        let packet = parse(&out).unwrap();
        assert_eq!(
            packet,
            ArpPacket { op: ArpOp::Request, sha: A, spa: IP_A, tha: MacAddr::ZERO, tpa: IP_B }
        );
    }

    #[test]
    fn reply_and_poll() {
        let mut out = [0; 60];
        assert_eq!(build_reply(B, IP_B, A, IP_A, &mut out), 60);
        assert_eq!(out[..12], [2, 0, 0, 0, 0, 0xa, 2, 0, 0, 0, 0, 0xb]);
        assert_eq!(parse(&out), Some(ArpPacket { op: ArpOp::Reply, sha: B, spa: IP_B, tha: A, tpa: IP_A }));
        assert_eq!(build_poll(B, A, IP_A, IP_B, &mut out), 60);
        assert_eq!(out[..6], B.0);
        assert_eq!(parse(&out).unwrap().op, ArpOp::Request);
    }

    #[test]
    fn refused() {
        let mut good = [0; 60];
        build_reply(B, IP_B, A, IP_A, &mut good);
        for len in 0..42 {
            assert_eq!(parse(&good[..len]), None, "{len}");
        }
        assert!(parse(&good[..42]).is_some());
        // (byte, value): EtherType, hardware type, protocol type, lengths, operation, a group sender.
        for (at, value) in [
            (12, 0x81),
            (13, 0),
            (14, 1),
            (15, 6),
            (16, 9),
            (17, 1),
            (18, 8),
            (19, 16),
            (20, 1),
            (21, 0),
            (21, 3),
            (22, 3),
        ] {
            let mut frame = good;
            frame[at] = value;
            assert_eq!(parse(&frame), None, "byte {at}");
        }
    }
}
