//! UDP headers (RFC 768).

use crate::checksum::Running;
use crate::ipv4;
use std::net::Ipv4Addr;

/// Bytes of the header.
pub const LEN: usize = 8;

/// A view of a UDP header.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a>(&'a [u8; LEN]);

impl<'a> Header<'a> {
    /// `None` when there are fewer than 8 bytes.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        bytes.first_chunk().map(Header)
    }

    /// Source port.
    #[inline]
    pub fn src_port(self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]])
    }

    /// Destination port.
    #[inline]
    pub fn dst_port(self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }

    /// Length of header and payload in bytes; a valid one is at least 8.
    #[inline]
    pub fn length(self) -> u16 {
        u16::from_be_bytes([self.0[4], self.0[5]])
    }

    /// The checksum; zero means that the sender made none.
    #[inline]
    pub fn checksum(self) -> u16 {
        u16::from_be_bytes([self.0[6], self.0[7]])
    }
}

/// Whether the checksum of a UDP datagram over IPv4 is right. A checksum field of zero means "none" and is fine.
///
/// `segments` are the pieces of the packet in order, of any lengths, the first one starting at the UDP header;
/// `udp_len` is the length that the UDP header gives, in bytes: what lies behind it is padding and not summed.
/// False when the segments hold fewer bytes than that.
#[inline]
pub fn udp_checksum_ok<'a>(
    segments: impl IntoIterator<Item = &'a [u8]>,
    src: Ipv4Addr,
    dst: Ipv4Addr,
    udp_len: u16,
) -> bool {
    if usize::from(udp_len) < LEN {
        return false;
    }
    let mut running = Running::starting_at(ipv4::pseudo_header_sum(src, dst, ipv4::UDP, udp_len));
    let mut seen = 0usize;
    let mut field = 0u8;
    for segment in segments {
        let left = usize::from(udp_len) - seen;
        let piece = segment.get(..left).unwrap_or(segment);
        for place in [6usize, 7] {
            field |= place.checked_sub(seen).and_then(|at| piece.get(at)).copied().unwrap_or(0);
        }
        running.push(piece);
        seen += piece.len();
        if seen == usize::from(udp_len) {
            break;
        }
    }
    seen == usize::from(udp_len) && (field == 0 || running.sum() == 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SRC: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 31);
    const DST: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 30);

    // Made by hand: ports 20 and 10, length 10, "Hi", checksum 0x35c5.
    const DATAGRAM: [u8; 10] = [0, 20, 0, 10, 0, 10, 0x35, 0xc5, b'H', b'i'];

    fn ok(datagram: &[u8], len: u16) -> bool {
        udp_checksum_ok([datagram], SRC, DST, len)
    }

    #[test]
    fn fields() {
        let header = Header::new(&DATAGRAM).unwrap();
        assert_eq!(
            (header.src_port(), header.dst_port(), header.length(), header.checksum()),
            (20, 10, 10, 0x35c5)
        );
        for len in 0..LEN {
            assert!(Header::new(&DATAGRAM[..len]).is_none());
        }
    }

    #[test]
    fn a_right_checksum_however_it_is_cut() {
        for a in 0..=DATAGRAM.len() {
            for b in a..=DATAGRAM.len() {
                let pieces = [&DATAGRAM[..a], &DATAGRAM[a..b], &[], &DATAGRAM[b..], b"padding"];
                assert!(udp_checksum_ok(pieces, SRC, DST, 10), "{a} {b}");
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        for bit in 0..80 {
            let mut datagram = DATAGRAM;
            datagram[bit / 8] ^= 1 << (bit % 8);
            assert!(!ok(&datagram, 10), "bit {bit}");
        }
        assert!(!udp_checksum_ok([&DATAGRAM[..]], SRC, Ipv4Addr::new(192, 168, 0, 29), 10));
    }

    #[test]
    fn zero_means_none() {
        let mut datagram = DATAGRAM;
        datagram[6..8].fill(0);
        assert!(ok(&datagram, 10));
        assert!(udp_checksum_ok([&datagram[..7], &datagram[7..]], SRC, DST, 10));
        assert!(!ok(&datagram, 11), "but not when bytes are missing");
    }

    #[test]
    fn lengths_that_do_not_fit() {
        for len in 0..=9usize {
            assert!(!ok(&DATAGRAM[..len], 10));
        }
        for len in 0..8 {
            assert!(!ok(&DATAGRAM, len));
        }
        assert!(!ok(&DATAGRAM, 11));
        assert!(!udp_checksum_ok([], SRC, DST, 10));
    }
}
