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
    pub fn read(&self, frame: &[u8]) -> Option<CommonTunnel> {
        let w = Words::of(frame)?;
        let header = w.tunnel_header();
        // EtherType, version and header length, TOS.
        let kind = (w.0[1] >> 32) as u32;
        if (w.0[0] ^ self.mac) << 16 != 0
            || (kind ^ 0x0045_0008) & (0x00ff_ffff | u32::from(ECN_LOW) << 24) != 0
            || (w.0[2] ^ u64::from(ipv4::UDP) << 56) & NOT_FRAGMENTED_UDP != 0
            || w.destination() != self.ip
            || !w.lengths_fit(frame.len())
            || !w.checksum_fits(w.constant_sum())
            || w.0[5] as u16 != 0
        {
            return None;
        }
        let port = (w.0[4] >> 32) as u16;
        let encap = if port == self.vxlan_port {
            // Only the I flag counts.
            (header & 0x08 != 0).then_some(Encap::Vxlan)?
        } else {
            // Version and number of options, the O and C bits, the protocol.
            let expected = u64::from(geneve::ETHERNET.swap_bytes()) << 16;
            let fits = port == self.geneve_port && (header ^ expected) & 0xffff_c0ff == 0;
            fits.then_some(Encap::Geneve)?
        };
        let [.., a, b, c, _] = header.to_le_bytes();
        let src = Ipv4Addr::from(((w.0[3] >> 16) as u32).to_le_bytes());
        Some(CommonTunnel { encap, vni: Vni::from_be_bytes([a, b, c]), src })
    }
}

/// The outer headers of one common packet, as far as the next ones of its tunnel have the same: who looks like that is a
/// common packet of that tunnel, and its fields need not be read.
#[derive(Clone, Copy, Debug)]
pub struct CommonPattern {
    words: Words,
    /// What the constant words of the IPv4 header add to its checksum.
    sum: u64,
}

impl CommonPattern {
    /// Looks like no packet: the last word has 16 bits in all of them.
    pub const NONE: Self = Self { words: Words([0; 6], u32::MAX), sum: 0 };

    /// Of a packet that [`CommonVtep::read`] has read; [`CommonPattern::NONE`] of one that is too short for that.
    pub fn of(frame: &[u8]) -> Self {
        Words::of(frame).map_or(Self::NONE, |words| Self { words, sum: words.constant_sum() })
    }

    /// Whether the packet that lies in `frame` whole is a common one of the same tunnel. If not, it may be all the same.
    #[inline(always)]
    pub fn fits(&self, frame: &[u8]) -> bool {
        let Some(w) = Words::of(frame) else { return false };
        let same = &self.words;
        w.0[0] == same.0[0]
            && w.0[1] == same.0[1]
            && (w.0[2] ^ same.0[2]) & NOT_FRAGMENTED_UDP_EXACT == 0
            // All but the checksum.
            && (w.0[3] ^ same.0[3]) >> 16 == 0
            && (w.0[4] ^ same.0[4]) & ADDRESS_AND_PORT == 0
            && w.0[5] == same.0[5]
            && w.1 == same.1
            && w.lengths_fit(frame.len())
            && w.checksum_fits(self.sum)
    }
}

/// In word 2: the fragment offset and the flag that more follow, and the protocol.
const NOT_FRAGMENTED_UDP: u64 = 0xff00_ff3f_0000_0000;
/// The same with the other two flags.
const NOT_FRAGMENTED_UDP_EXACT: u64 = 0xff00_ffff_0000_0000;
/// In word 4: the second half of the destination address, and the destination port.
const ADDRESS_AND_PORT: u64 = 0x0000_ffff_0000_ffff;

/// The outer headers as words; the first byte is the lowest.
///
/// ```text
/// word 0: destination MAC, source MAC      3: checksum, source, half of destination address
///      1: source MAC, EtherType, IHL, TOS  4: the other half, ports, UDP length
///      2: length, id, fragment, TTL, UDP   5: UDP checksum, tunnel header up to 16 bits of the VNI   .1: the rest
/// ```
#[derive(Clone, Copy, Debug)]
struct Words([u64; 6], u32);

impl Words {
    /// `None` when the inner frame would have less than 14 bytes.
    #[inline(always)]
    fn of(frame: &[u8]) -> Option<Self> {
        let (words, _) = frame.first_chunk::<SHORTEST>()?.as_chunks::<8>();
        let [a, b, c, d, e, f, g, ..] = *words else { return None };
        Some(Self([a, b, c, d, e, f].map(u64::from_le_bytes), u64::from_le_bytes(g) as u32 & 0xffff))
    }

    #[inline(always)]
    fn tunnel_header(&self) -> u64 {
        self.0[5] >> 16 | u64::from(self.1) << 48
    }

    #[inline(always)]
    fn destination(&self) -> u32 {
        (self.0[3] >> 48) as u32 | (self.0[4] as u32) << 16
    }

    /// The IPv4 packet ends with the frame, and the UDP datagram with both.
    #[inline(always)]
    fn lengths_fit(&self, frame: usize) -> bool {
        let length = |headers: usize| (frame.wrapping_sub(headers) as u16).swap_bytes();
        frame <= ethernet::LEN + usize::from(u16::MAX)
            && self.0[2] as u16 == length(ethernet::LEN)
            && (self.0[4] >> 48) as u16 == length(ethernet::LEN + ipv4::MIN_LEN)
    }

    /// What the words of the IPv4 header add to its checksum that do not change from packet to packet of a tunnel:
    /// version and TOS, addresses.
    #[inline(always)]
    fn constant_sum(&self) -> u64 {
        (self.0[1] >> 48) + (self.0[3] >> 48) + (self.0[3] >> 16 & 0xffff_ffff) + (self.0[4] & 0xffff)
    }

    /// Whether the checksum is right, given the sum of what is constant. As 2^16 is 1 modulo 2^16 - 1, so are 2^32 and
    /// sums of words of any width; the order of bytes does not matter either (RFC 1071 section 2). The sum is above
    /// zero, as the version is in it, so that it is all ones if it is divisible.
    #[inline(always)]
    fn checksum_fits(&self, constant: u64) -> bool {
        let length_to_protocol = (self.0[2] & 0xffff_ffff) + (self.0[2] >> 32);
        (constant + length_to_protocol + (self.0[3] & 0xffff)).is_multiple_of(0xffff)
    }
}
