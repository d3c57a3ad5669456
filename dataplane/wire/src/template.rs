//! Ready-made outer headers: built once for each remote VTEP, then copied in front of a frame and patched.
//!
//! ```text
//! Ethernet 14 | IPv4 20 | UDP 8 | VXLAN or GENEVE 8      = 50 bytes
//! ```
//!
//! Patched for each packet: the IPv4 TOS, total length and checksum, the UDP source port and length, the VNI. The
//! sum over the constant part of the IPv4 header is made beforehand. A template with its patching data fills
//! exactly one cache line, so that encapsulation touches one line per next hop.
//!
//! The UDP checksum is sent as zero. For VXLAN that is what RFC 7348 section 4.1 asks for ("SHOULD be transmitted
//! as zero"). For GENEVE it is a deviation from RFC 8926 section 3.3, which says that the checksum SHOULD be
//! generated and allows zero over IPv4 for performance: a software checksum would read the whole frame.

use crate::{Encap, InnerInfo, MacAddr, Vni, checksum, ethernet, geneve, ipv4, udp, vxlan};
use std::net::Ipv4Addr;

const IP: usize = ethernet::LEN;
const UDP: usize = IP + ipv4::MIN_LEN;
const TUNNEL: usize = UDP + udp::LEN;
const LEN: usize = TUNNEL + 8;

/// Bytes that a template adds to the inner frame within the IPv4 datagram.
const IP_OVERHEAD: u16 = (LEN - IP) as u16;
/// The same within the UDP datagram.
const UDP_OVERHEAD: u16 = (LEN - UDP) as u16;
/// Longest inner frame whose datagram has a length of 16 bits.
const MAX_INNER: u16 = u16::MAX - IP_OVERHEAD;

/// Where the outer header's DSCP and ECN come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dscp {
    /// Always this DSCP (0 to 63; upper bits are ignored). ECN is sent as Not-ECT, RFC 6040's compatibility mode:
    /// the underlay must then drop rather than mark.
    Fixed(u8),
    /// The inner packet's DSCP (RFC 2983, uniform model) and its ECN as it is, RFC 6040's normal mode (section
    /// 4.1). Zero when the inner frame is not IP.
    Inherit,
}

/// What a [`Template`] is made of.
#[derive(Clone, Copy, Debug)]
pub struct TemplateParams {
    /// The tunnel header.
    pub encap: Encap,
    /// The uplink's MAC address.
    pub src_mac: MacAddr,
    /// MAC address of the next hop in the underlay.
    pub dst_mac: MacAddr,
    /// The local VTEP.
    pub src_ip: Ipv4Addr,
    /// The remote VTEP.
    pub dst_ip: Ipv4Addr,
    /// UDP destination port.
    pub dst_port: u16,
    /// IPv4 time to live.
    pub ttl: u8,
    /// "Don't fragment". When it is set the IPv4 identification is zero (an atomic datagram, RFC 6864 section
    /// 4.1); when it is not, routers may fragment, and packets need different identifications: see
    /// [`Template::write_with_id`].
    pub df: bool,
    /// DSCP and ECN policy.
    pub dscp: Dscp,
}

/// An outer header ready to be copied. One cache line; never changed after it is made.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Template {
    header: [u8; LEN],
    /// Sum over the IPv4 header with version/IHL, but with TOS, length, identification and checksum zero.
    base_sum: u16,
    tos: u8,
    /// Which bits of the inner TOS are copied: all or none.
    inherit: u8,
}

const _: () = assert!(size_of::<Template>() == 64);

impl Template {
    /// Bytes of outer headers that any template writes: Ethernet, IPv4, UDP and VXLAN or GENEVE without options.
    pub const LEN: usize = LEN;
    /// Longest inner frame, in bytes, for which there is a header: more do not fit an IPv4 datagram.
    pub const MAX_INNER: u16 = MAX_INNER;

    /// Builds the header for one remote VTEP.
    pub fn new(params: &TemplateParams) -> Template {
        let mut header = [0u8; LEN];
        header[0..6].copy_from_slice(&params.dst_mac.0);
        header[6..12].copy_from_slice(&params.src_mac.0);
        header[12..14].copy_from_slice(&ethernet::IPV4.to_be_bytes());
        header[IP] = 0x45;
        header[IP + 6..IP + 8].copy_from_slice(&if params.df { ipv4::DF } else { 0 }.to_be_bytes());
        header[IP + 8] = params.ttl;
        header[IP + 9] = ipv4::UDP;
        header[IP + 12..IP + 16].copy_from_slice(&params.src_ip.octets());
        header[IP + 16..IP + 20].copy_from_slice(&params.dst_ip.octets());
        header[UDP + 2..UDP + 4].copy_from_slice(&params.dst_port.to_be_bytes());
        let no_vni = Vni::from_be_bytes([0; 3]);
        header[TUNNEL..].copy_from_slice(&match params.encap {
            Encap::Vxlan => vxlan::header(no_vni),
            Encap::Geneve => geneve::header(no_vni),
        });
        let (tos, inherit) = match params.dscp {
            Dscp::Fixed(dscp) => (dscp << 2, 0),
            Dscp::Inherit => (0, 0xff),
        };
        let base_sum = checksum::sum(&header[IP..UDP]);
        Template { header, base_sum, tos, inherit }
    }

    /// Bytes of the outer header: what has to be prepended.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "a header is never empty")]
    pub const fn len(&self) -> usize {
        LEN
    }

    /// Writes the outer header into the first [`Template::len`] bytes of `out`, the room in front of the frame.
    ///
    /// `inner_len` is the length of the whole inner frame in bytes, over all segments. The UDP source port is
    /// 49152 plus 14 bits of the flow's hash (RFC 7348 section 5, RFC 8926 section 3.3: entropy for ECMP, from
    /// the dynamic port range). False, with `out` unchanged, when `out` is too short or the datagram would be
    /// longer than 65535 bytes.
    #[inline]
    #[must_use = "when false nothing was written"]
    pub fn write(&self, out: &mut [u8], inner_len: u16, vni: Vni, info: &InnerInfo) -> bool {
        self.write_with_id(out, inner_len, vni, info, 0)
    }

    /// [`Template::write`] with an IPv4 identification, which templates without DF need: for example a counter
    /// of the worker's own.
    #[inline]
    #[must_use = "when false nothing was written"]
    pub fn write_with_id(&self, out: &mut [u8], inner_len: u16, vni: Vni, info: &InnerInfo, id: u16) -> bool {
        let Some(out) = out.first_chunk_mut::<LEN>().filter(|_| inner_len <= MAX_INNER) else {
            return false;
        };
        self.stamp(vni).write(out, inner_len, info, id);
        true
    }

    /// The template for one VNI, for a run of packets.
    #[inline]
    pub fn stamp(&self, vni: Vni) -> Stamp {
        let (words, tail) = self.header.as_chunks::<8>();
        let mut words: [u64; 6] = std::array::from_fn(|i| words.get(i).map_or(0, |w| u64::from_le_bytes(*w)));
        let tail = tail.first_chunk::<2>().map_or(0, |t| u16::from_le_bytes(*t));
        let [a, b, c] = vni.to_be_bytes();
        words[5] |= u64::from(a) << 48 | u64::from(b) << 56;
        Stamp {
            words,
            tail: tail | u16::from(c),
            base_sum: self.base_sum.swap_bytes(),
            tos: self.tos,
            inherit: self.inherit,
        }
    }
}

/// A [`Template`] for one VNI, taken apart into words. What varies from packet to packet is put into a word before
/// it is stored: bytes that are patched in memory are narrow stores, for which wide loads that follow would wait.
///
/// ```text
/// word 0: destination MAC, source MAC    3: checksum, source, half of destination address
///      1: source MAC, EtherType, IHL, TOS  4: the other half, ports, UDP length
///      2: length, id, fragment, TTL, UDP   5: UDP checksum, tunnel header up to 16 bits of the VNI   tail: the rest
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// As they lie in memory: the first byte is the lowest.
    words: [u64; 6],
    tail: u16,
    /// The template's, its bytes in the order of the wire.
    base_sum: u16,
    tos: u8,
    inherit: u8,
}

impl Stamp {
    /// Whether all packets have the same TOS, whatever their inner frames': see [`Stamp::write_plain`].
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.inherit == 0
    }

    /// Writes the outer header as [`Template::write_with_id`] does. `inner_len` is at most [`Template::MAX_INNER`]: a
    /// longer one gives a header with wrong lengths.
    #[inline(always)]
    pub fn write(&self, out: &mut [u8; LEN], inner_len: u16, info: &InnerInfo, id: u16) {
        let tos = self.tos | info.tos & self.inherit;
        self.put(out, inner_len, info.hash, tos, id.swap_bytes());
    }

    /// As [`Stamp::write`] with id 0, for a stamp that [is plain](Stamp::is_plain): it needs nothing of the inner frame
    /// but its hash.
    #[inline(always)]
    pub fn write_plain(&self, out: &mut [u8; LEN], inner_len: u16, hash: u32) {
        debug_assert!(self.is_plain());
        self.put(out, inner_len, hash, self.tos, 0);
    }

    #[inline(always)]
    fn put(&self, out: &mut [u8; LEN], inner_len: u16, hash: u32, tos: u8, id: u16) {
        debug_assert!(inner_len <= MAX_INNER);
        // In the order of the wire: a checksum can be made in any (RFC 1071 section 2).
        let total = inner_len.wrapping_add(IP_OVERHEAD).swap_bytes();
        let udp = inner_len.wrapping_add(UDP_OVERHEAD).swap_bytes();
        let constant = checksum::add(self.base_sum, u16::from(tos) << 8);
        let checksum = !checksum::add(checksum::add(constant, id), total);
        let [w0, w1, w2, w3, w4, w5] = self.words;
        let words = [
            w0,
            w1 | u64::from(tos) << 56,
            w2 | u64::from(total) | u64::from(id) << 16,
            w3 | u64::from(checksum),
            w4 | u64::from(source_port(hash).swap_bytes()) << 16 | u64::from(udp) << 48,
            w5,
        ];
        let (places, tail) = out.as_chunks_mut::<8>();
        for (place, word) in places.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        tail.copy_from_slice(&self.tail.to_le_bytes());
    }
}

/// 49152 to 65535: the hash folded to 14 bits.
#[inline]
const fn source_port(hash: u32) -> u16 {
    0xc000 | ((hash ^ hash >> 14 ^ hash >> 28) & 0x3fff) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(encap: Encap) -> TemplateParams {
        TemplateParams {
            encap,
            src_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            dst_mac: MacAddr([2, 0, 0, 0, 0, 2]),
            src_ip: Ipv4Addr::new(192, 168, 50, 1),
            dst_ip: Ipv4Addr::new(192, 168, 50, 2),
            dst_port: encap.default_port(),
            ttl: 64,
            df: true,
            dscp: Dscp::Fixed(0),
        }
    }

    fn write(params: &TemplateParams, inner_len: u16, info: InnerInfo) -> [u8; LEN] {
        let mut out = [0xaa; LEN];
        assert!(Template::new(params).write(&mut out, inner_len, Vni::new(0x01_0203).unwrap(), &info));
        out
    }

    #[test]
    fn vxlan_byte_for_byte() {
        let out = write(&params(Encap::Vxlan), 60, InnerInfo { tos: 0xff, vlan: false, hash: 0 });
        #[rustfmt::skip]
        let expected = [
            2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00,
            0x45, 0, 0, 96, 0, 0, 0x40, 0, 64, 17, 0x55, 0x39, 192, 168, 50, 1, 192, 168, 50, 2,
            0xc0, 0, 0x12, 0xb5, 0, 76, 0, 0,
            0x08, 0, 0, 0, 1, 2, 3, 0,
        ];
        assert_eq!(out, expected);
    }

    #[test]
    fn geneve_byte_for_byte() {
        let out = write(&params(Encap::Geneve), 1514, InnerInfo { tos: 0, vlan: false, hash: 0x0000_3fff });
        assert_eq!(out[16..18], 1550u16.to_be_bytes());
        assert_eq!(out[34..42], [0xff, 0xff, 0x17, 0xc1, 0x05, 0xfa, 0, 0]);
        assert_eq!(out[42..], [0, 0, 0x65, 0x58, 1, 2, 3, 0]);
        assert!(checksum::valid(&out[14..34]));
    }

    #[test]
    fn tos_policies() {
        for tos in 0..=255u8 {
            let info = InnerInfo { tos, vlan: false, hash: 7 };
            for dscp in 0..64 {
                let out =
                    write(&TemplateParams { dscp: Dscp::Fixed(dscp), ..params(Encap::Vxlan) }, 60, info);
                assert_eq!(out[15], dscp << 2);
                assert!(checksum::valid(&out[14..34]));
            }
            let out = write(&TemplateParams { dscp: Dscp::Inherit, ..params(Encap::Vxlan) }, 60, info);
            assert_eq!(out[15], tos);
            assert!(checksum::valid(&out[14..34]));
        }
    }

    #[test]
    fn df_and_identification() {
        let may_fragment = TemplateParams { df: false, ..params(Encap::Vxlan) };
        let template = Template::new(&may_fragment);
        let vni = Vni::new(1).unwrap();
        for id in [0u16, 1, 0x7fff, 0xffff] {
            let mut out = [0; LEN];
            assert!(template.write_with_id(&mut out, 100, vni, &InnerInfo::default(), id));
            assert_eq!(out[18..20], id.to_be_bytes());
            assert_eq!(out[20..22], [0, 0]);
            assert!(checksum::valid(&out[14..34]));
        }
        assert_eq!(write(&params(Encap::Vxlan), 100, InnerInfo::default())[20..22], [0x40, 0]);
    }

    #[test]
    fn checksum_is_right_for_every_length() {
        let template = Template::new(&params(Encap::Vxlan));
        let mut out = [0; LEN];
        for inner_len in 0..=65499 {
            assert!(template.write(&mut out, inner_len, Vni::MAX, &InnerInfo::default()));
            assert!(checksum::valid(&out[14..34]), "{inner_len}");
        }
        for inner_len in 65500..=u16::MAX {
            assert!(!template.write(&mut out, inner_len, Vni::MAX, &InnerInfo::default()));
        }
    }

    #[test]
    fn room_that_is_too_short_is_left_alone() {
        let template = Template::new(&params(Encap::Geneve));
        for len in 0..LEN {
            let mut out = [0x55; LEN];
            assert!(!template.write(&mut out[..len], 60, Vni::MAX, &InnerInfo::default()));
            assert_eq!(out, [0x55; LEN]);
        }
        let mut out = [0x55; LEN + 20];
        assert!(template.write(&mut out, 60, Vni::MAX, &InnerInfo::default()));
        assert_eq!(out[LEN..], [0x55; 20], "bytes behind the header are not touched");
    }

    #[test]
    fn source_ports_fill_the_dynamic_range() {
        let mut seen = vec![false; 65536];
        for hash in 0..0x4000 {
            seen[usize::from(source_port(hash))] = true;
        }
        assert!(seen[49152..].iter().all(|&seen| seen) && !seen[..49152].iter().any(|&seen| seen));
        for bit in 0..32 {
            assert_ne!(source_port(0), source_port(1 << bit), "bit {bit} of the hash counts");
        }
    }
}
