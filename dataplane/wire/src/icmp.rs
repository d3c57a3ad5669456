//! ICMP echo (RFC 792; RFC 1122 section 3.2.2.6): the VTEP's address answers a ping.

use crate::{MacAddr, checksum, ethernet, ipv4};
use std::net::Ipv4Addr;

/// Bytes of an ICMP echo header.
pub const LEN: usize = 8;

/// Time to live of replies.
const TTL: u8 = 64;

const IP: usize = ethernet::LEN;
const ICMP: usize = IP + ipv4::MIN_LEN;

/// Why a frame is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IcmpError {
    /// The bytes end before the headers do, or the lengths contradict each other.
    #[error("truncated frame")]
    Truncated,
    /// Another MAC or IP address than ours, or a broadcast.
    #[error("not addressed to us")]
    NotForUs,
    /// Not an ICMP echo request over IPv4.
    #[error("not an ICMP echo request")]
    NotEchoRequest,
    /// A malformed IPv4 header, or a wrong checksum in it.
    #[error("bad IPv4 header")]
    BadIpHeader,
    /// An IPv4 header with options: recorded or source routes would have to be turned round, so the host may do it.
    #[error("IPv4 options")]
    IpOptions,
    /// A fragment, which cannot be answered before it is reassembled.
    #[error("fragment")]
    Fragment,
    /// The source is no station that could be answered: a group, broadcast, unspecified or loopback address, or
    /// our own (RFC 1122 section 3.2.1.3).
    #[error("unanswerable source address")]
    BadSource,
    /// The ICMP checksum is wrong.
    #[error("wrong ICMP checksum")]
    BadChecksum,
}

/// Turns an echo request to us into its reply, in place; the frame keeps its length.
///
/// `frame` is the whole packet from its Ethernet header on, in one piece. TOS, identification, DF bit and data
/// are echoed, the TTL starts anew. On an error the frame is unchanged.
pub fn echo_reply(frame: &mut [u8], our_ip: Ipv4Addr, our_mac: MacAddr) -> Result<(), IcmpError> {
    check(frame, our_ip, our_mac)?;
    let head: &mut [u8; ICMP + LEN] = frame.first_chunk_mut().ok_or(IcmpError::Truncated)?;

    head.copy_within(6..12, 0);
    head[6..12].copy_from_slice(&our_mac.0);
    // Swapping the addresses moves words that the checksum adds up in any order.
    head.copy_within(IP + 12..IP + 16, IP + 16);
    head[IP + 12..IP + 16].copy_from_slice(&our_ip.octets());
    replace_word(head, IP + 8, u16::from_be_bytes([TTL, ipv4::ICMP]), IP + 10);
    // Type 0, code 0.
    replace_word(head, ICMP, 0, ICMP + 2);
    mend_zeroes(frame);
    Ok(())
}

/// The reply to a request with identifier, sequence number and data all zero is nothing but zeroes, and then an
/// update leaves the wrong one of one's complement's two zeroes: see [`checksum::update`].
fn mend_zeroes(frame: &mut [u8]) {
    let total_len =
        ipv4::Header::new(frame.get(IP..).unwrap_or(&[])).map_or(0, |ip| usize::from(ip.total_len()));
    if let Some(icmp) = frame.get_mut(ICMP..IP + total_len)
        && icmp.iter().all(|&byte| byte == 0)
        && let Some(sum) = icmp.get_mut(2..4)
    {
        sum.fill(0xff);
    }
}

/// Stores a 16-bit word and updates the checksum that covers it.
fn replace_word(head: &mut [u8; ICMP + LEN], at: usize, new: u16, checksum_at: usize) {
    let old = u16::from_be_bytes([head[at], head[at + 1]]);
    let sum = u16::from_be_bytes([head[checksum_at], head[checksum_at + 1]]);
    head[at..at + 2].copy_from_slice(&new.to_be_bytes());
    head[checksum_at..checksum_at + 2].copy_from_slice(&checksum::update(sum, old, new).to_be_bytes());
}

fn check(frame: &[u8], our_ip: Ipv4Addr, our_mac: MacAddr) -> Result<(), IcmpError> {
    let header = ethernet::Header::new(frame).ok_or(IcmpError::Truncated)?;
    if header.dst() != our_mac {
        return Err(IcmpError::NotForUs);
    }
    if header.ethertype() != ethernet::IPV4 {
        return Err(IcmpError::NotEchoRequest);
    }
    let packet = frame.get(IP..).unwrap_or(&[]);
    let ip = ipv4::Header::new(packet).ok_or(IcmpError::Truncated)?;
    if ip.version() != 4 || ip.header_len() < ipv4::MIN_LEN {
        return Err(IcmpError::BadIpHeader);
    }
    if !ipv4::checksum_ok(packet, ip.header_len()) {
        return Err(if ip.header_len() > packet.len() {
            IcmpError::Truncated
        } else {
            IcmpError::BadIpHeader
        });
    }
    if ip.dst() != our_ip {
        return Err(IcmpError::NotForUs);
    }
    if ip.protocol() != ipv4::ICMP {
        return Err(IcmpError::NotEchoRequest);
    }
    if ip.header_len() != ipv4::MIN_LEN {
        return Err(IcmpError::IpOptions);
    }
    if ip.is_fragment() {
        return Err(IcmpError::Fragment);
    }
    let icmp = packet.get(ipv4::MIN_LEN..usize::from(ip.total_len())).ok_or(IcmpError::Truncated)?;
    let kind = icmp.first_chunk::<LEN>().ok_or(IcmpError::Truncated)?;
    if kind[..2] != [8, 0] {
        return Err(IcmpError::NotEchoRequest);
    }
    if !checksum::valid(icmp) {
        return Err(IcmpError::BadChecksum);
    }
    let source = ip.src();
    if source == our_ip
        || source.is_multicast()
        || source.is_broadcast()
        || source.is_loopback()
        || source.octets()[0] == 0
        || header.src().is_multicast()
    {
        return Err(IcmpError::BadSource);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
    const IP_US: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 1);
    const IP_PEER: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 2);

    fn fix_ip(frame: &mut [u8]) {
        frame[24..26].fill(0);
        let sum = checksum::checksum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }

    fn fix_icmp(frame: &mut [u8]) {
        let end = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        frame[36..38].fill(0);
        let sum = checksum::checksum(&frame[34..end]);
        frame[36..38].copy_from_slice(&sum.to_be_bytes());
    }

    fn request(data: usize) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.extend(MAC.0);
        frame.extend(PEER.0);
        frame.extend([0x08, 0x00, 0x45, 0x10]);
        frame.extend((28 + data as u16).to_be_bytes());
        frame.extend([0x12, 0x34, 0x40, 0, 63, 1, 0, 0]);
        frame.extend(IP_PEER.octets());
        frame.extend(IP_US.octets());
        frame.extend([8, 0, 0, 0, 0xab, 0xcd, 0, 7]);
        frame.extend((0..data).map(|i| i as u8));
        fix_ip(&mut frame);
        fix_icmp(&mut frame);
        if frame.len() < 60 {
            frame.resize(60, 0xee);
        }
        frame
    }

    #[test]
    fn replies_to_every_size() {
        for data in [0, 1, 2, 17, 18, 56, 1472, 8000] {
            let request = request(data);
            let mut reply = request.clone();
            assert_eq!(echo_reply(&mut reply, IP_US, MAC), Ok(()), "{data}");
            assert_eq!(reply.len(), request.len());
            assert_eq!(reply[..12], [PEER.0, MAC.0].concat());
            assert_eq!(reply[14..22], request[14..22], "TOS, length, identification and DF are kept");
            assert_eq!((reply[22], reply[23]), (64, 1));
            assert!(checksum::valid(&reply[14..34]));
            assert_eq!(reply[26..34], [IP_US.octets(), IP_PEER.octets()].concat());
            assert_eq!(reply[34..36], [0, 0]);
            assert!(checksum::valid(&reply[34..42 + data]), "{data}");
            assert_eq!(reply[38..], request[38..]);
        }
    }

    /// Found by fuzzing: the sum over zeroes is 0, not 0xffff, unless the checksum says so.
    #[test]
    fn reply_of_nothing_but_zeroes() {
        for data in [0, 1, 8, 56] {
            let mut frame = request(data);
            frame[38..42 + data].fill(0);
            fix_icmp(&mut frame);
            assert_eq!(frame[36..38], [0xf7, 0xff]);
            assert_eq!(echo_reply(&mut frame, IP_US, MAC), Ok(()));
            assert!(checksum::valid(&frame[34..42 + data]), "{data}");
            assert_eq!(frame[36..38], [0xff, 0xff]);
            // With one bit set elsewhere it is a checksum like any other.
            let mut frame = request(data);
            frame[38..42 + data].fill(0);
            frame[41] = 1;
            fix_icmp(&mut frame);
            assert_eq!(echo_reply(&mut frame, IP_US, MAC), Ok(()));
            assert_eq!(frame[36..38], [0xff, 0xfe]);
        }
    }

    #[test]
    fn refused_and_left_alone() {
        use IcmpError::*;
        type Change = fn(&mut Vec<u8>);
        let table: [(&str, Change, IcmpError); 20] = [
            ("another MAC", |f| f[5] = 9, NotForUs),
            ("broadcast MAC", |f| f[..6].fill(0xff), NotForUs),
            ("another EtherType", |f| f[13] = 6, NotEchoRequest),
            ("version 6", |f| f[14] = 0x65, BadIpHeader),
            ("short header length", |f| f[14] = 0x44, BadIpHeader),
            ("bad checksum", |f| f[24] ^= 1, BadIpHeader),
            ("another IP", |f| f[33] = 9, NotForUs),
            ("UDP", |f| f[23] = 17, NotEchoRequest),
            ("first fragment", |f| f[20] = 0x20, Fragment),
            ("last fragment", |f| f[21] = 1, Fragment),
            ("total length too long", |f| f[17] = 200, Truncated),
            ("total length less than the header", |f| f[17] = 19, Truncated),
            ("total length cuts the ICMP header", |f| f[17] = 27, Truncated),
            ("echo reply", |f| f[34] = 0, NotEchoRequest),
            ("code 1", |f| f[35] = 1, NotEchoRequest),
            ("multicast source", |f| f[26] = 224, BadSource),
            ("broadcast source", |f| f[26..30].fill(255), BadSource),
            ("unspecified source", |f| f[26..30].fill(0), BadSource),
            ("our own address as the source", |f| f[29] = 1, BadSource),
            ("multicast source MAC", |f| f[6] = 3, BadSource),
        ];
        for (name, change, expected) in table {
            let mut frame = request(56);
            change(&mut frame);
            if name != "bad checksum" {
                fix_ip(&mut frame);
            }
            let before = frame.clone();
            assert_eq!(echo_reply(&mut frame, IP_US, MAC), Err(expected), "{name}");
            assert_eq!(frame, before, "{name}");
        }
        let mut frame = request(56);
        frame[50] ^= 1;
        assert_eq!(echo_reply(&mut frame, IP_US, MAC), Err(BadChecksum));
    }

    #[test]
    fn options_are_left_to_the_host() {
        let mut frame = request(56);
        frame.splice(34..34, [1, 1, 1, 0]);
        frame[14] = 0x46;
        frame[17] += 4;
        frame[24..26].fill(0);
        let sum = checksum::checksum(&frame[14..38]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(echo_reply(&mut frame, IP_US, MAC), Err(IcmpError::IpOptions));
    }

    #[test]
    fn cut_at_every_length() {
        let whole = request(18);
        assert_eq!(whole.len(), 60);
        for len in 0..60 {
            assert_eq!(
                echo_reply(&mut whole[..len].to_vec(), IP_US, MAC),
                Err(IcmpError::Truncated),
                "{len}"
            );
        }
        assert_eq!(echo_reply(&mut whole.to_vec(), IP_US, MAC), Ok(()));
    }
}
