//! IPv4 headers (RFC 791).

use crate::checksum;
use std::net::Ipv4Addr;

/// Bytes of a header without options.
pub const MIN_LEN: usize = 20;
/// Bytes of a header with as many options as it can hold.
pub const MAX_LEN: usize = 60;

/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of SCTP.
pub const SCTP: u8 = 132;

/// The "don't fragment" bit of [`Header::fragment_word`].
pub const DF: u16 = 0x4000;

/// A view of the 20 bytes that every IPv4 header has. Nothing is validated but that they are there.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a>(&'a [u8; MIN_LEN]);

impl<'a> Header<'a> {
    /// `None` when there are fewer than 20 bytes.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        bytes.first_chunk().map(Header)
    }

    /// IP version: 4 in a valid header.
    #[inline]
    pub fn version(self) -> u8 {
        self.0[0] >> 4
    }

    /// Length of the header with its options, in bytes (0 to 60; a valid one has at least 20).
    #[inline]
    pub fn header_len(self) -> usize {
        usize::from(self.0[0] & 0xf) * 4
    }

    /// DSCP (upper six bits, RFC 2474) and ECN (lower two, RFC 3168).
    #[inline]
    pub fn tos(self) -> u8 {
        self.0[1]
    }

    /// Length of the datagram, header included, in bytes.
    #[inline]
    pub fn total_len(self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }

    /// Flags (upper three bits) and fragment offset in units of 8 bytes.
    #[inline]
    pub fn fragment_word(self) -> u16 {
        u16::from_be_bytes([self.0[6], self.0[7]])
    }

    /// Whether this is a fragment: more follow, or it is not the first.
    #[inline]
    pub fn is_fragment(self) -> bool {
        self.fragment_word() & 0x3fff != 0
    }

    /// Protocol of the payload.
    #[inline]
    pub fn protocol(self) -> u8 {
        self.0[9]
    }

    /// Source address.
    #[inline]
    pub fn src(self) -> Ipv4Addr {
        Ipv4Addr::new(self.0[12], self.0[13], self.0[14], self.0[15])
    }

    /// Destination address.
    #[inline]
    pub fn dst(self) -> Ipv4Addr {
        Ipv4Addr::new(self.0[16], self.0[17], self.0[18], self.0[19])
    }
}

/// Whether the header of `header_len` bytes at the start of `bytes` has a right checksum (RFC 791 section 3.1).
/// False when `bytes` is shorter.
#[inline]
pub fn checksum_ok(bytes: &[u8], header_len: usize) -> bool {
    // Options are rare: give the compiler the fixed size that it can unroll.
    if header_len == MIN_LEN {
        bytes.first_chunk::<MIN_LEN>().is_some_and(|header| checksum::valid(header))
    } else {
        bytes.get(..header_len).is_some_and(checksum::valid)
    }
}

/// Sum (not complemented) over the pseudo-header of UDP and TCP (RFC 768, RFC 9293 section 3.1); `len` is the
/// length of the UDP datagram or TCP segment in bytes.
#[inline]
pub fn pseudo_header_sum(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: u16) -> u16 {
    let words = |addr: Ipv4Addr| {
        let bits = addr.to_bits();
        (bits >> 16) + (bits & 0xffff)
    };
    checksum::fold(words(src) + words(dst) + u32::from(protocol) + u32::from(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    // A worked example known from many textbooks: 172.16.10.99 to 172.16.10.12, TCP.
    const HEADER: [u8; 20] = [
        0x45, 0x00, 0x00, 0x3c, 0x1c, 0x46, 0x40, 0x00, 0x40, 0x06, 0xb1, 0xe6, 0xac, 0x10, 0x0a, 0x63, 0xac,
        0x10, 0x0a, 0x0c,
    ];

    #[test]
    fn fields() {
        let header = Header::new(&HEADER).unwrap();
        assert_eq!((header.version(), header.header_len(), header.tos()), (4, 20, 0));
        assert_eq!((header.total_len(), header.fragment_word(), header.protocol()), (60, DF, TCP));
        assert!(!header.is_fragment());
        assert_eq!(header.src(), Ipv4Addr::new(172, 16, 10, 99));
        assert_eq!(header.dst(), Ipv4Addr::new(172, 16, 10, 12));
    }

    #[test]
    fn too_short_at_every_length() {
        for len in 0..MIN_LEN {
            assert!(Header::new(&HEADER[..len]).is_none());
            assert!(!checksum_ok(&HEADER[..len], 20));
        }
    }

    #[test]
    fn checksum_notices_every_flipped_bit() {
        assert!(checksum_ok(&HEADER, 20));
        for bit in 0..160 {
            let mut header = HEADER;
            header[bit / 8] ^= 1 << (bit % 8);
            assert!(!checksum_ok(&header, 20), "bit {bit}");
        }
    }

    #[test]
    fn checksum_covers_options() {
        let mut header = [0u8; 24];
        header[..20].copy_from_slice(&HEADER);
        header[0] = 0x46;
        header[20..].copy_from_slice(&[1, 1, 1, 0]);
        header[10..12].fill(0);
        let sum = checksum::checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        assert!(checksum_ok(&header, 24));
        header[21] = 2;
        assert!(!checksum_ok(&header, 24));
        assert!(!checksum_ok(&header[..23], 24));
    }

    #[test]
    fn fragments() {
        for (word, fragment) in
            [(0x0000, false), (DF, false), (0x8000, false), (0x2000, true), (0x0001, true)]
        {
            let mut header = HEADER;
            header[6..8].copy_from_slice(&u16::to_be_bytes(word));
            assert_eq!(Header::new(&header).unwrap().is_fragment(), fragment, "{word:#x}");
        }
    }
}
