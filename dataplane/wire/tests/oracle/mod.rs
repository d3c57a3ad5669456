//! A second reading of the same RFCs, slow and naive, that shares no code with the crate under test: outer headers
//! by `etherparse`, tunnel headers byte by byte.
#![allow(dead_code, reason = "each test binary uses its own part")]

use etherparse::{Ethernet2HeaderSlice, Ipv4HeaderSlice, UdpHeaderSlice};

/// What the oracle makes of an untagged underlay frame to `our_mac` and `our_ip`.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// A sound tunnel packet: (geneve?, vni, source address, inner frame, has a UDP checksum).
    Tunnel { geneve: bool, vni: u32, src: [u8; 4], inner: Vec<u8>, udp_checksum: bool },
    /// Not a tunnel packet for us.
    NotTunnel,
    /// A tunnel packet for us, but broken or refused.
    Refused,
}

/// Reads a whole frame.
pub fn read(frame: &[u8], our_mac: [u8; 6], our_ip: [u8; 4], vxlan_port: u16, geneve_port: u16) -> Seen {
    let Ok(ethernet) = Ethernet2HeaderSlice::from_slice(frame) else { return Seen::Refused };
    if ethernet.destination() != our_mac {
        return if ethernet.destination()[0] % 2 == 1 { Seen::NotTunnel } else { Seen::Refused };
    }
    if ethernet.ether_type().0 != 0x0800 {
        // Tagged frames have tests of their own.
        return Seen::NotTunnel;
    }
    let packet = &frame[14..];
    if packet.len() < 20 || packet[9] != 17 || packet[16..20] != our_ip {
        return Seen::NotTunnel;
    }
    let Ok(ip) = Ipv4HeaderSlice::from_slice(packet) else { return Seen::Refused };
    if ip.is_fragmenting_payload() {
        return Seen::Refused;
    }
    let Ok(udp) = UdpHeaderSlice::from_slice(&packet[ip.slice().len()..]) else { return Seen::Refused };
    let geneve = match udp.destination_port() {
        port if port == vxlan_port => false,
        port if port == geneve_port => true,
        _ => return Seen::NotTunnel,
    };
    // Over the bytes as they are: etherparse's header forgets the reserved flag.
    if checksum(ip.slice()) != 0 {
        return Seen::Refused;
    }
    let total = ip.total_len() as usize;
    if total > packet.len() || total < ip.slice().len() + 8 {
        return Seen::Refused;
    }
    let datagram = &packet[ip.slice().len()..total];
    let udp_len = udp.length() as usize;
    if udp_len < 8 || udp_len > datagram.len() {
        return Seen::Refused;
    }
    let payload = &datagram[8..udp_len];
    let Some((vni, inner)) = (if geneve { geneve_payload(payload) } else { vxlan_payload(payload) }) else {
        return Seen::Refused;
    };
    if inner.len() < 14 {
        return Seen::Refused;
    }
    Seen::Tunnel { geneve, vni, src: ip.source(), inner: inner.to_vec(), udp_checksum: udp.checksum() != 0 }
}

/// VNI and inner frame.
pub fn vxlan_payload(bytes: &[u8]) -> Option<(u32, &[u8])> {
    if bytes.len() < 8 || bytes[0] % 16 < 8 {
        return None;
    }
    Some((number(&bytes[4..7]), &bytes[8..]))
}

/// VNI and inner frame; `None` for every packet that must not be forwarded.
pub fn geneve_payload(bytes: &[u8]) -> Option<(u32, &[u8])> {
    if bytes.len() < 8 || bytes[0] >= 64 || bytes[1] >= 64 || number(&bytes[2..4]) != 0x6558 {
        return None;
    }
    let end = 8 + 4 * bytes[0] as usize;
    let mut at = 8;
    while at < end {
        if at + 4 > end || end > bytes.len() || bytes[at + 2] >= 128 {
            return None;
        }
        at += 4 + 4 * (bytes[at + 3] % 32) as usize;
    }
    if at != end { None } else { Some((number(&bytes[4..7]), &bytes[end..])) }
}

/// A big-endian number.
pub fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, &byte| number * 256 + u32::from(byte))
}

/// The internet checksum as RFC 1071 defines it, one 16-bit word after the other.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    let mut at = 0;
    while at < bytes.len() {
        let high = u32::from(bytes[at]);
        let low = if at + 1 < bytes.len() { u32::from(bytes[at + 1]) } else { 0 };
        sum += high * 256 + low;
        if sum > 0xffff {
            sum -= 0xffff;
        }
        at += 2;
    }
    0xffff - sum as u16
}
