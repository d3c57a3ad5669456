//! The tunnel packet that nearly all are: an untagged frame to our MAC, IPv4 without options, not fragmented, UDP
//! without a checksum, VXLAN or GENEVE without options, no padding, no congestion mark.
//!
//! All its fields have fixed places. They are read as a few wide words, and what must be as expected is gathered in one
//! word that is zero if it is. [`classify_underlay`](super::classify_underlay) decides about everything else; where
//! this says yes, it says the same.

use super::LocalVtep;
use crate::{Encap, Vni, ethernet, geneve, ipv4, udp, vxlan};
use std::net::Ipv4Addr;

/// Bytes of the outer headers.
const HEADERS: usize = ethernet::LEN + ipv4::MIN_LEN + udp::LEN + vxlan::LEN;
/// With the inner Ethernet header.
const SHORTEST: usize = HEADERS + ethernet::LEN;
/// The ECN bit that is set in ECT(1) and CE: see [`crate::ecn::matters`].
const ECN_LOW: u8 = 1;

const _: () = assert!(vxlan::LEN == geneve::LEN);

/// A common tunnel packet with sound outer headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommonTunnel {
    /// By which tunnel it came.
    pub encap: Encap,
    /// The virtual network.
    pub vni: Vni,
    /// The sending VTEP, as the packet claims.
    pub src: Ipv4Addr,
}

impl CommonTunnel {
    /// Where the inner frame begins, in bytes. It ends where the packet does and has at least 14 bytes.
    pub const INNER_OFFSET: usize = HEADERS;
}

/// Whom we are in the underlay, as common packets show it: the words in which they must not differ.
#[derive(Clone, Copy, Debug)]
pub struct CommonVtep {
    /// The MAC address, first byte lowest.
    mac: u64,
    ip: u32,
    /// Ports with their bytes swapped, as little-endian words show them.
    vxlan_port: u16,
    geneve_port: u16,
}

impl CommonVtep {
    /// For a whole burst.
    pub fn new(vtep: &LocalVtep) -> Self {
        let [a, b, c, d, e, f] = vtep.mac.0;
        Self {
            mac: u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
            ip: u32::from_le_bytes(vtep.ip.octets()),
            vxlan_port: vtep.vxlan_port.swap_bytes(),
            geneve_port: vtep.geneve_port.swap_bytes(),
        }
    }

    /// Reads a packet that lies in `frame` whole. `None`: it is not a common one, ask
    /// [`classify_underlay`](super::classify_underlay), which may also find that it is a tunnel packet.
    #[inline(always)]
    pub fn read(&self, frame: &[u8]) -> Option<CommonTunnel> {
        let head = frame.first_chunk::<SHORTEST>()?;
        let (word, half) = (|at| le64(head, at), |at| le32(head, at));
        // EtherType, version and header length, TOS.
        let kind = half(12);
        // The IPv4 header: as three words for the checksum, and its fields out of these.
        let (ip0, ip1, ip2) = (word(14), word(22), half(30));
        let total_len = usize::from(((ip0 >> 16) as u16).swap_bytes());
        let udp = word(34);
        let udp_len = usize::from(((udp >> 32) as u16).swap_bytes());
        let tunnel = word(42);

        // Zero in what follows: as expected.
        let mac = (word(0) ^ self.mac) << 16;
        let kind = (kind ^ 0x0045_0008) & (0x00ff_ffff | u32::from(ECN_LOW) << 24);
        let fragment = (ip0 >> 48) as u16 & 0x3fff_u16.swap_bytes();
        let protocol = (ip1 >> 8) as u8 ^ ipv4::UDP;
        let lengths = (total_len + ethernet::LEN) ^ frame.len() | (udp_len + ipv4::MIN_LEN) ^ total_len;
        let checksum = !sum(ip0, ip1, ip2);
        let udp_checksum = (udp >> 48) as u16;

        let port = (udp >> 16) as u16;
        let (encap, header) = if port == self.vxlan_port {
            // Only the I flag counts.
            (Encap::Vxlan, (tunnel ^ 0x08) & 0x08)
        } else {
            // Version and number of options, the O and C bits, the protocol.
            let expected = u64::from(geneve::ETHERNET.swap_bytes()) << 16;
            let other_port = u64::from(port ^ self.geneve_port);
            (Encap::Geneve, (tunnel ^ expected) & 0xffff_c0ff | other_port)
        };
        let different = mac
            | u64::from(kind)
            | u64::from(fragment | checksum | udp_checksum)
            | u64::from(protocol)
            | lengths as u64
            | u64::from(ip2 ^ self.ip)
            | header;
        if different != 0 {
            return None;
        }
        let [.., a, b, c, _] = tunnel.to_le_bytes();
        Some(CommonTunnel {
            encap,
            vni: Vni::from_be_bytes([a, b, c]),
            src: Ipv4Addr::from(((ip1 >> 32) as u32).to_le_bytes()),
        })
    }
}

/// One's complement sum of the header's 20 bytes (in whatever order of bytes: see [`crate::checksum::sum`]).
#[inline(always)]
fn sum(a: u64, b: u64, c: u32) -> u16 {
    let low = |word: u64| word & 0xffff_ffff;
    let total = low(a) + (a >> 32) + low(b) + (b >> 32) + u64::from(c);
    // At most 5 * (2^32 - 1): the carries fit the first fold.
    crate::checksum::fold((low(total) as u32 & 0xffff) + (low(total) as u32 >> 16) + (total >> 32) as u32)
}

#[inline(always)]
fn le64<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u64::from_le_bytes(*word))
}

#[inline(always)]
fn le32<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_le_bytes(*word))
}
