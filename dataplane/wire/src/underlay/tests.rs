use super::*;
use crate::checksum;
use OuterError::*;

const OURS: LocalVtep = LocalVtep {
    ip: Ipv4Addr::new(192, 168, 50, 1),
    mac: MacAddr([2, 0, 0, 0, 0, 1]),
    vxlan_port: 4789,
    geneve_port: 6081,
};
const VXLAN: [u8; 8] = [0x08, 0, 0, 0, 0, 0, 100, 0];
const GENEVE: [u8; 8] = [0, 0, 0x65, 0x58, 0, 0, 100, 0];

/// A frame with `ip_options` and `payload` behind the UDP header; all lengths and the IP checksum are right, the UDP
/// checksum is none.
fn frame(port: u16, ip_options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
    bytes.extend([0x45 + (ip_options.len() / 4) as u8, 0x03]);
    bytes.extend(((28 + ip_options.len() + payload.len()) as u16).to_be_bytes());
    bytes.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 192, 168, 50, 2, 192, 168, 50, 1]);
    bytes.extend(ip_options);
    bytes.extend([0xc0, 0]);
    bytes.extend(port.to_be_bytes());
    bytes.extend(((8 + payload.len()) as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(payload);
    fix(&mut bytes);
    bytes
}

/// Mends the IP checksum.
fn fix(bytes: &mut [u8]) {
    let end = 14 + usize::from(bytes[14] & 0xf) * 4;
    if end >= 34 && end <= bytes.len() {
        bytes[24..26].fill(0);
        let sum = checksum::checksum(&bytes[14..end]);
        bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    }
}

fn tunnel(header: [u8; 8], options: &[u8], inner: usize) -> Vec<u8> {
    let port = if header[0] == 0x08 { 4789 } else { 6081 };
    frame(port, &[], &[&header, options, &vec![0x77; inner]].concat())
}

fn classify(bytes: &[u8]) -> Result<Underlay, OuterError> {
    classify_underlay(bytes, bytes.len(), &OURS, RxChecks::default())
}

fn rx(bytes: &[u8]) -> TunnelRx {
    match classify(bytes) {
        Ok(Underlay::Tunnel(rx)) => rx,
        other => panic!("{other:?}"),
    }
}

#[test]
fn vxlan() {
    let bytes = tunnel(VXLAN, &[], 60);
    let expected = TunnelRx {
        encap: Encap::Vxlan,
        vni: Vni::new(100).unwrap(),
        src: Ipv4Addr::new(192, 168, 50, 2),
        inner_offset: 50,
        outer_len: 110,
        udp_offset: 34,
        udp_len: 76,
        need_udp_check: false,
        tos: 3,
    };
    assert_eq!(rx(&bytes), expected);
    // Padding of the frame is not part of it, whether in the same segment or in another.
    let padded = [&bytes[..], &[0; 13]].concat();
    assert_eq!(rx(&padded), expected);
    assert_eq!(
        classify_underlay(&bytes[..90], 130, &OURS, RxChecks::default()),
        Ok(Underlay::Tunnel(expected))
    );
}

#[test]
fn geneve_with_options() {
    let bytes = tunnel([2, 0, 0x65, 0x58, 0, 0, 100, 0], &[1, 2, 3, 1, 9, 9, 9, 9], 14);
    let got = rx(&bytes);
    assert_eq!((got.encap, got.inner_offset, got.outer_len), (Encap::Geneve, 58, 72));
    let mut longest = [0u8; 252];
    longest[3] = 31;
    longest[128 + 3] = 30;
    let got = rx(&tunnel([63, 0, 0x65, 0x58, 0, 0, 100, 0], &longest, 14));
    assert_eq!((got.inner_offset, got.outer_len), (50 + 252, 50 + 252 + 14));
}

#[test]
fn ip_options_are_skipped() {
    let got = rx(&frame(4789, &[1; 40], &[&VXLAN[..], &[0; 14]].concat()));
    assert_eq!((got.inner_offset, got.outer_len, got.udp_offset), (90, 104, 74));
}

#[test]
fn reserved_bits_are_ignored() {
    assert_eq!(rx(&frame(4789, &[], &[&[0xff, 1, 2, 3, 0, 0, 5, 0xff][..], &[0; 14]].concat())).vni.get(), 5);
    assert_eq!(rx(&tunnel([0, 0x3f, 0x65, 0x58, 0, 0, 5, 0xff], &[], 14)).vni.get(), 5);
}

#[test]
fn udp_may_end_before_ip() {
    let mut bytes = tunnel(VXLAN, &[], 60);
    bytes[39] = 16 + 50;
    let got = rx(&bytes);
    assert_eq!((got.outer_len, got.udp_len), (100, 66));
}

#[test]
fn configured_ports() {
    let vtep = LocalVtep { vxlan_port: 8472, geneve_port: 4789, ..OURS };
    let bytes = tunnel(VXLAN, &[], 14);
    let as_geneve = classify_underlay(&bytes, bytes.len(), &vtep, RxChecks::default());
    assert_eq!(
        as_geneve,
        Err(GeneveTruncated),
        "read as GENEVE the first byte announces 32 bytes of options"
    );
    let bytes = frame(8472, &[], &[&VXLAN[..], &[0; 14]].concat());
    assert!(matches!(
        classify_underlay(&bytes, bytes.len(), &vtep, RxChecks::default()),
        Ok(Underlay::Tunnel(_))
    ));
    assert_eq!(classify(&bytes), Ok(Underlay::ToHost));
}

#[test]
fn table_of_changes() {
    type Change = fn(&mut Vec<u8>);
    let to_host = Ok(());
    let vxlan: [(&str, Change, Result<(), OuterError>); 29] = [
        ("another unicast MAC", |f| f[5] = 9, Err(NotOurMac)),
        ("broadcast", |f| f[..6].fill(0xff), to_host),
        ("multicast", |f| f[0] = 1, to_host),
        ("ARP", |f| f[13] = 6, to_host),
        ("IPv6", |f| f[12..14].copy_from_slice(&[0x86, 0xdd]), to_host),
        ("802.3 length", |f| f[12..14].copy_from_slice(&[0, 60]), to_host),
        ("another address", |f| f[33] = 9, to_host),
        ("ICMP", |f| f[23] = 1, to_host),
        ("TCP", |f| f[23] = 6, to_host),
        ("another port", |f| f[37] ^= 1, to_host),
        ("another port and a bad checksum", |f| (f[37], f[24]) = (0, f[24] ^ 1), to_host),
        ("version 6", |f| f[14] = 0x65, Err(BadIpHeader)),
        ("header of 16 bytes", |f| f[14] = 0x44, Err(BadIpHeader)),
        ("header of 0 bytes", |f| f[14] = 0x40, Err(BadIpHeader)),
        ("header longer than the frame", |f| (f[14] = 0x4f, f.truncate(73)).1, Err(BadIpHeader)),
        ("bad checksum", |f| f[24] ^= 1, Err(BadIpChecksum)),
        ("first fragment", |f| f[20] = 0x20, Err(Fragment)),
        ("other fragment", |f| f[21] = 1, Err(Fragment)),
        ("fragment for another port", |f| (f[20], f[37]) = (0x20, 0), Err(Fragment)),
        ("total length one more than there is", |f| f[17] += 1, Err(BadIpLength)),
        ("total length without UDP header", |f| f[17] = 27, Err(BadIpLength)),
        ("total length zero", |f| f[17] = 0, Err(BadIpLength)),
        ("UDP length more than IP has", |f| f[39] += 1, Err(BadUdpLength)),
        ("UDP length 7", |f| f[39] = 7, Err(BadUdpLength)),
        ("UDP length 0", |f| f[39] = 0, Err(BadUdpLength)),
        ("no I flag", |f| f[42] = 0xf7, Err(VxlanNoVniFlag)),
        ("UDP ends in the VXLAN header", |f| f[39] = 15, Err(VxlanTruncated)),
        ("no inner frame", |f| f[39] = 16, Err(InnerTooShort)),
        ("inner frame of 13 bytes", |f| f[39] = 29, Err(InnerTooShort)),
    ];
    let geneve: [(&str, Change, Result<(), OuterError>); 12] = [
        ("version 1", |f| f[42] = 0x40, Err(GeneveVersion)),
        ("version 3 and all else wrong, too", |f| f[42..46].fill(0xff), Err(GeneveVersion)),
        ("options longer than the packet", |f| f[42] = 16, Err(GeneveTruncated)),
        ("option longer than the options", |f| (f[42], f[53]) = (2, 2), Err(GeneveTruncated)),
        ("UDP ends in the header", |f| f[39] = 15, Err(GeneveTruncated)),
        ("control message", |f| f[43] = 0x80, Err(GeneveControl)),
        ("critical bit in the header", |f| f[43] = 0x40, Err(GeneveCriticalOption)),
        ("critical option", |f| (f[42], f[52]) = (1, 0x80), Err(GeneveCriticalOption)),
        ("critical option behind another", |f| (f[42], f[56]) = (2, 0x80), Err(GeneveCriticalOption)),
        ("IPv4 inside", |f| f[44..46].copy_from_slice(&[0x08, 0x00]), Err(GeneveNotEthernet)),
        ("no inner frame", |f| f[39] = 16, Err(InnerTooShort)),
        ("options leave no inner frame", |f| f[42] = 13, Err(InnerTooShort)),
    ];
    let mut bytes = tunnel(GENEVE, &[], 60);
    bytes[50..].fill(0);
    let cases = vxlan.map(|case| (tunnel(VXLAN, &[], 60), case)).into_iter();
    for (mut bytes, (name, change, expected)) in cases.chain(geneve.map(|case| (bytes.clone(), case))) {
        change(&mut bytes);
        if !name.contains("bad checksum") {
            fix(&mut bytes);
        }
        let expected = expected.map(|()| Underlay::ToHost);
        assert_eq!(classify(&bytes), expected, "{name}");
        // With an outer tag every defect, too, has one name.
        let mut tagged = bytes.clone();
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        let expected = match expected {
            Err(NotOurMac) => Err(NotOurMac),
            Err(_) => Err(Vlan),
            other => other,
        };
        assert_eq!(classify(&tagged), expected, "tagged: {name}");
    }
}

#[test]
fn outer_tags() {
    let plain = tunnel(VXLAN, &[], 60);
    for tags in [&[0x81u8, 0, 0, 0][..], &[0x81, 0, 0, 5], &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6]] {
        let mut bytes = plain.clone();
        bytes.splice(12..12, tags.iter().copied());
        assert_eq!(classify(&bytes), Err(Vlan), "{tags:x?}");
    }
    let mut three = plain;
    three.splice(12..12, [0x81, 0, 0, 5].repeat(3));
    assert_eq!(classify(&three), Ok(Underlay::ToHost));
}

#[test]
fn cut_at_every_length() {
    for (header, truncated) in [(VXLAN, VxlanTruncated), (GENEVE, GeneveTruncated)] {
        let whole = tunnel(header, &[], 60);
        for len in 0..whole.len() {
            let expected = match len {
                0..14 => Err(NotOurMac),
                14..34 => Ok(Underlay::ToHost), // not even a destination address
                _ => Err(BadIpLength),
            };
            assert_eq!(classify(&whole[..len]), expected, "{len}");
            // The same with an IP length that hides the cut, as far as it can.
            if len >= 34 {
                let mut bytes = whole[..len].to_vec();
                bytes[17] = (len - 14) as u8;
                fix(&mut bytes);
                let expected = if len < 42 { BadIpLength } else { BadUdpLength };
                assert_eq!(classify(&bytes), Err(expected), "{len}");
                // And with a UDP length that does so as well.
                if len >= 42 {
                    bytes[39] = (len - 34) as u8;
                    match len {
                        42..50 => assert_eq!(classify(&bytes), Err(truncated), "{len}"),
                        50..64 => assert_eq!(classify(&bytes), Err(InnerTooShort), "{len}"),
                        _ => assert_eq!(rx(&bytes).outer_len as usize, len),
                    }
                }
            }
        }
    }
}

/// Headers that lie beyond the first segment count as missing; a tunnel packet is never made of what was not seen.
#[test]
fn first_segment_of_every_length() {
    let whole = tunnel([3, 0, 0x65, 0x58, 0, 0, 100, 0], &[1, 1, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0], 60);
    for len in 0..=whole.len() {
        let got = classify_underlay(&whole[..len], whole.len(), &OURS, RxChecks::default());
        match len {
            0..14 => assert_eq!(got, Err(NotOurMac)),
            14..34 => assert_eq!(got, Ok(Underlay::ToHost)),
            34..42 => assert_eq!(got, Err(BadIpLength)),
            42..62 => assert_eq!(got, Err(GeneveTruncated)),
            _ => assert!(matches!(got, Ok(Underlay::Tunnel(rx)) if rx.inner_offset == 62), "{len}"),
        }
    }
    // A first segment longer than the packet is cut to it.
    assert_eq!(classify_underlay(&whole, 100, &OURS, RxChecks::default()), Err(BadIpLength));
}

#[test]
fn what_the_nic_checked_is_not_checked_again() {
    let mut bytes = tunnel(VXLAN, &[], 60);
    bytes[24] ^= 1;
    let known = RxChecks { ip_checksum_known_good: true, udp_checksum_known_good: false };
    assert!(matches!(classify_underlay(&bytes, bytes.len(), &OURS, known), Ok(Underlay::Tunnel(_))));
    let known = RxChecks { ip_checksum_known_good: false, udp_checksum_known_good: true };
    assert_eq!(classify_underlay(&bytes, bytes.len(), &OURS, known), Err(BadIpChecksum));
}

#[test]
fn udp_checksum() {
    let mut bytes = tunnel(VXLAN, &[], 61);
    let sum = ipv4::pseudo_header_sum(Ipv4Addr::new(192, 168, 50, 2), OURS.ip, 17, 77);
    let sum = !checksum::add(sum, checksum::sum(&bytes[34..]));
    bytes[40..42].copy_from_slice(&sum.to_be_bytes());
    bytes.extend([9; 5]);
    let got = rx(&bytes);
    assert!(got.need_udp_check);
    for cut in 0..bytes.len() {
        assert!(got.udp_checksum_ok([&bytes[..cut], &bytes[cut..]], OURS.ip), "{cut}");
    }
    let known = RxChecks { ip_checksum_known_good: false, udp_checksum_known_good: true };
    match classify_underlay(&bytes, bytes.len(), &OURS, known) {
        Ok(Underlay::Tunnel(rx)) => assert!(!rx.need_udp_check),
        other => panic!("{other:?}"),
    }
    bytes[100] ^= 1;
    assert!(!got.udp_checksum_ok([&bytes[..50], &bytes[50..]], OURS.ip));
    assert!(!got.udp_checksum_ok([&bytes[..50]], OURS.ip), "bytes are missing");
}

#[test]
fn no_packet_has_the_pattern_of_none() {
    // Zeroes wherever that pattern has them, the lengths and the checksum right.
    let mut bytes = vec![0; 80];
    bytes[16..18].copy_from_slice(&66u16.to_be_bytes());
    bytes[38..40].copy_from_slice(&46u16.to_be_bytes());
    let sum = checksum::checksum(&bytes[14..34]);
    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    for tail in 0..=u16::MAX {
        bytes[48..50].copy_from_slice(&tail.to_be_bytes());
        assert!(!CommonPattern::NONE.fits(&bytes));
    }
    assert!(CommonPattern::of(&bytes).fits(&bytes), "it is the pattern that is none");
    assert!(!CommonPattern::of(&bytes[..63]).fits(&bytes), "of nothing");
}
