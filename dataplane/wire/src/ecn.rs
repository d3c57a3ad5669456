//! Explicit congestion notification at the end of a tunnel: RFC 6040 section 4.2.
//!
//! A router in the underlay that marks the outer header instead of dropping the packet has told only the tunnel;
//! the mark has to reach the inner packet. Going in, the inner ECN field is copied outwards or Not-ECT is sent
//! ([`crate::Dscp`]).

use crate::{checksum, ethernet};

const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

/// The outer header says "congestion experienced", but the inner packet's transport does not understand ECN: the
/// packet MUST be dropped, for that is the only signal that it understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("outer ECN is CE, inner is Not-ECT")]
pub struct EcnDrop;

/// RFC 6040 figure 4: the inner ECN field after decapsulation.
#[inline]
pub const fn combine(inner: u8, outer: u8) -> Result<u8, EcnDrop> {
    match (inner & 3, outer & 3) {
        (NOT_ECT, CE) => Err(EcnDrop),
        (NOT_ECT, _) => Ok(NOT_ECT),
        (_, CE) => Ok(CE),
        (ECT_0, ECT_1) => Ok(ECT_1),
        (inner, _) => Ok(inner),
    }
}

/// Whether an outer TOS can change anything inside: false for nearly every packet, which then need not be written.
#[inline]
pub const fn matters(outer_tos: u8) -> bool {
    outer_tos & 3 == CE || outer_tos & 3 == ECT_1
}

/// Carries the outer ECN field over into the inner frame, which begins at `inner[0]`, behind zero to two VLAN
/// tags, and mends the inner IPv4 checksum by increment. A frame that is not IP has no ECN field and is left
/// alone; so is one whose header is cut off.
///
/// Ask [`matters`] first: it saves reading the inner frame.
#[inline]
pub fn decapsulate(inner: &mut [u8], outer_tos: u8) -> Result<(), EcnDrop> {
    if !matters(outer_tos) {
        return Ok(());
    }
    let Some((ethertype, l3)) = ethernet::skip_tags(inner) else {
        return Ok(());
    };
    let Some(packet) = inner.get_mut(l3..) else {
        return Ok(());
    };
    match ethertype {
        ethernet::IPV4 => set_ipv4(packet, outer_tos),
        ethernet::IPV6 => set_ipv6(packet, outer_tos),
        _ => Ok(()),
    }
}

fn set_ipv4(packet: &mut [u8], outer_tos: u8) -> Result<(), EcnDrop> {
    let Some(header) = packet.first_chunk_mut::<20>() else {
        return Ok(());
    };
    if header[0] >> 4 != 4 {
        return Ok(());
    }
    let old = u16::from_be_bytes([header[0], header[1]]);
    let ecn = combine(header[1], outer_tos)?;
    header[1] = header[1] & !3 | ecn;
    let new = u16::from_be_bytes([header[0], header[1]]);
    if old != new {
        let sum = checksum::update(u16::from_be_bytes([header[10], header[11]]), old, new);
        [header[10], header[11]] = sum.to_be_bytes();
    }
    Ok(())
}

fn set_ipv6(packet: &mut [u8], outer_tos: u8) -> Result<(), EcnDrop> {
    let Some(header) = packet.first_chunk_mut::<40>() else {
        return Ok(());
    };
    if header[0] >> 4 != 6 {
        return Ok(());
    }
    // The traffic class straddles the first two bytes; its lower half, with ECN, is the upper half of byte 1.
    let ecn = combine(header[1] >> 4, outer_tos)?;
    header[1] = header[1] & !0x30 | ecn << 4;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figure_4_of_rfc_6040() {
        // Rows: inner; columns: outer Not-ECT, ECT(0), ECT(1), CE.
        let columns = [NOT_ECT, ECT_0, ECT_1, CE];
        let table = [
            (NOT_ECT, [Ok(NOT_ECT), Ok(NOT_ECT), Ok(NOT_ECT), Err(EcnDrop)]),
            (ECT_0, [Ok(ECT_0), Ok(ECT_0), Ok(ECT_1), Ok(CE)]),
            (ECT_1, [Ok(ECT_1), Ok(ECT_1), Ok(ECT_1), Ok(CE)]),
            (CE, [Ok(CE), Ok(CE), Ok(CE), Ok(CE)]),
        ];
        for (inner, row) in table {
            for (outer, expected) in columns.into_iter().zip(row) {
                assert_eq!(combine(inner, outer), expected, "inner {inner:02b} outer {outer:02b}");
                if !matters(outer) {
                    assert_eq!(expected, Ok(inner));
                }
            }
        }
    }

    fn ipv4_frame(tos: u8, tags: usize) -> Vec<u8> {
        let mut frame = vec![0u8; 12];
        for _ in 0..tags {
            frame.extend([0x81, 0, 0, 5]);
        }
        frame.extend([8, 0]);
        let mut header = [0u8; 20];
        header[0] = 0x45;
        header[1] = tos;
        header[2..].copy_from_slice(&[0, 20, 1, 2, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        let sum = checksum::checksum(&header).to_be_bytes();
        header[10..12].copy_from_slice(&sum);
        frame.extend(header);
        frame
    }

    #[test]
    fn every_tos_over_ipv4() {
        for tags in 0..3 {
            for inner in 0..=255u8 {
                for outer in 0..=255u8 {
                    let mut frame = ipv4_frame(inner, tags);
                    let before = frame.clone();
                    let result = decapsulate(&mut frame, outer);
                    match combine(inner, outer) {
                        Err(drop) => {
                            assert_eq!(result, Err(drop));
                            assert_eq!(frame, before);
                        }
                        Ok(ecn) => {
                            assert_eq!(result, Ok(()));
                            assert_eq!(frame, ipv4_frame(inner & !3 | ecn, tags));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn ipv6_traffic_class() {
        let mut frame = vec![0u8; 12];
        frame.extend([0x86, 0xdd]);
        frame.extend([0x6a, 0xef, 0x12, 0x34]); // traffic class 0xae: DSCP 43, ECT(0); flow label 0xf1234
        frame.extend([0; 36]);
        assert_eq!(decapsulate(&mut frame, CE), Ok(()));
        assert_eq!(frame[14..18], [0x6a, 0xff, 0x12, 0x34]);
        frame[15] = 0xcf;
        assert_eq!(decapsulate(&mut frame, CE), Err(EcnDrop));
    }

    #[test]
    fn what_is_not_ip_is_left_alone() {
        let whole = ipv4_frame(0, 1);
        for len in 0..whole.len() {
            let mut frame = whole[..len].to_vec();
            assert_eq!(decapsulate(&mut frame, CE), Ok(()), "{len}");
            assert_eq!(frame, whole[..len]);
        }
        let mut arp = [0xff; 60];
        assert_eq!(decapsulate(&mut arp, CE), Ok(()));
        assert_eq!(arp, [0xff; 60]);
    }
}
