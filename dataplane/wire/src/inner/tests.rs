use super::*;
use proptest::prelude::*;

const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

/// Addresses, tags, EtherType, packet.
fn frame(tags: &[u16], ethertype: u16, packet: &[u8]) -> Vec<u8> {
    let mut bytes = MACS.to_vec();
    for tag in tags {
        bytes.extend(tag.to_be_bytes());
        bytes.extend([0, 9]);
    }
    bytes.extend(ethertype.to_be_bytes());
    bytes.extend(packet);
    bytes
}

/// TOS 0x2e, addresses 10.0.0.1 and 10.0.0.2; `options` are as many bytes as given, a multiple of four.
fn ipv4(protocol: u8, fragment_word: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45 + (options.len() / 4) as u8, 0x2e, 0, 0, 0x11, 0x22];
    packet.extend(fragment_word.to_be_bytes());
    packet.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend(options);
    packet.extend(payload);
    packet
}

/// Traffic class 0x2e.
fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x62, 0xe1, 0x23, 0x45, 0, payload.len() as u8, next, 64];
    packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    packet.extend(payload);
    packet
}

const PORTS: [u8; 8] = [0x12, 0x34, 0, 80, 0, 8, 0, 0];
const OTHER_PORTS: [u8; 8] = [0x12, 0x35, 0, 80, 0, 8, 0, 0];

#[test]
fn tos_and_vlan() {
    let packet4 = ipv4(17, 0, &[], &PORTS);
    let packet6 = ipv6(17, &PORTS);
    type Case<'a> = (&'a [u16], u16, &'a [u8], u8, bool);
    let table: [Case<'_>; 11] = [
        (&[], 0x0800, &packet4, 0x2e, false),
        (&[0x8100], 0x0800, &packet4, 0x2e, true),
        (&[0x88a8, 0x8100], 0x0800, &packet4, 0x2e, true),
        (&[0x88a8, 0x8100, 0x8100], 0x0800, &packet4, 0, true),
        (&[], 0x86dd, &packet6, 0x2e, false),
        (&[0x8100], 0x86dd, &packet6, 0x2e, true),
        (&[], 0x0806, &packet4, 0, false),
        (&[], 0x0800, &packet6, 0, false),
        (&[], 0x86dd, &packet4, 0, false),
        (&[], 0x0800, &packet4[..19], 0, false),
        (&[], 0x86dd, &packet6[..39], 0, false),
    ];
    for (tags, ethertype, packet, tos, vlan) in table {
        let info = inspect(&frame(tags, ethertype, packet));
        assert_eq!((info.tos, info.vlan), (tos, vlan), "{tags:x?} {ethertype:x}");
        assert_eq!(info.hash, flow_hash(&frame(tags, ethertype, packet)));
    }
}

/// Pairs of frames that differ in their ports only: is the difference seen?
#[test]
fn when_ports_count() {
    let v4 = |protocol, fragment_word, options: &[u8], ports: &[u8]| {
        frame(&[], 0x0800, &ipv4(protocol, fragment_word, options, ports))
    };
    type Build<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;
    let extended = |chain: &[u8], ports: &[u8]| {
        let first = chain[0];
        frame(&[], 0x86dd, &ipv6(first, &[&chain[1..], ports].concat()))
    };
    // Each extension header: next, length, and filling.
    let hop_by_hop_udp = [0, 17, 0, 0, 0, 0, 0, 0, 0];
    let long_destination_options_tcp = [60, 6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let authentication_udp = [51, 17, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let routing_then_options = [43, 60, 0, 0, 0, 0, 0, 0, 0, 132, 0, 0, 0, 0, 0, 0, 0];
    let fragment = [44, 17, 0, 0, 1, 0, 0, 0, 7];
    let atomic_fragment = [44, 17, 0, 0, 0, 0, 0, 0, 7];
    let cut = [0, 17, 200, 0, 0, 0, 0, 0, 0];
    let too_many = [0u8; 1 + 8 * MAX_EXTENSIONS];
    let table: [(&str, Build<'_>, bool); 21] = [
        ("TCP", &|p| v4(6, 0, &[], p), true),
        ("UDP", &|p| v4(17, 0, &[], p), true),
        ("UDP, DF", &|p| v4(17, 0x4000, &[], p), true),
        ("UDP, reserved flag", &|p| v4(17, 0x8000, &[], p), true),
        ("SCTP", &|p| v4(132, 0, &[], p), true),
        ("ICMP", &|p| v4(1, 0, &[], p), false),
        ("ESP", &|p| v4(50, 0, &[], p), false),
        ("first fragment", &|p| v4(17, 0x2000, &[], p), false),
        ("middle fragment", &|p| v4(17, 0x2010, &[], p), false),
        ("last fragment", &|p| v4(17, 0x0110, &[], p), false),
        ("IPv4 options", &|p| v4(17, 0, &[1; 8], p), true),
        ("fragment with options", &|p| v4(17, 0x2000, &[1; 8], p), false),
        ("IPv6 UDP", &|p| frame(&[], 0x86dd, &ipv6(17, p)), true),
        ("IPv6 ICMP", &|p| frame(&[], 0x86dd, &ipv6(58, p)), false),
        ("hop-by-hop", &|p| extended(&hop_by_hop_udp, p), true),
        ("destination options", &|p| extended(&long_destination_options_tcp, p), true),
        ("authentication", &|p| extended(&authentication_udp, p), true),
        ("two extensions, SCTP", &|p| extended(&routing_then_options, p), true),
        ("IPv6 fragment", &|p| extended(&fragment, p), false),
        ("IPv6 atomic fragment", &|p| extended(&atomic_fragment, p), false),
        ("extension longer than the packet", &|p| extended(&cut, p), false),
    ];
    for (name, build, counted) in table {
        let (a, b) = (flow_hash(&build(&PORTS)), flow_hash(&build(&OTHER_PORTS)));
        assert_eq!(a != b, counted, "{name}");
    }
    // Six extensions are walked, and the seventh header is not looked at.
    let (a, b) = (extended(&too_many, &PORTS), extended(&too_many, &OTHER_PORTS));
    assert_eq!(flow_hash(&a), flow_hash(&b));
}

#[test]
fn all_fragments_of_a_datagram_have_one_hash() {
    let fragment = |word, payload: &[u8]| flow_hash(&frame(&[], 0x0800, &ipv4(17, word, &[], payload)));
    let first = fragment(0x2000, &PORTS);
    assert_eq!(first, fragment(0x20b9, b"middle piece"));
    assert_eq!(first, fragment(0x0172, b"end"));
    assert_eq!(first, fragment(0x0172, b""));
    let fragment6 = |offset_and_more: [u8; 2], next| {
        let header = [next, 0, offset_and_more[0], offset_and_more[1], 0, 0, 0, 7];
        flow_hash(&frame(&[], 0x86dd, &ipv6(44, &header)))
    };
    assert_eq!(fragment6([0, 1], 17), fragment6([5, 0xa8], 59));
}

#[test]
fn tags_do_not_change_the_flow() {
    for packet in [ipv4(17, 0, &[], &PORTS), ipv4(6, 0, &[0; 4], &PORTS)] {
        let plain = flow_hash(&frame(&[], 0x0800, &packet));
        assert_eq!(plain, flow_hash(&frame(&[0x8100], 0x0800, &packet)));
        assert_eq!(plain, flow_hash(&frame(&[0x88a8, 0x8100], 0x0800, &packet)));
    }
}

#[test]
fn without_ip_the_addresses_and_the_type_count() {
    let base = frame(&[], 0x0806, &[0; 28]);
    let hash = flow_hash(&base);
    for byte in 0..14 {
        for bit in 0..8 {
            let mut other = base.clone();
            other[byte] ^= 1 << bit;
            assert_ne!(flow_hash(&other), hash, "byte {byte} bit {bit}");
        }
    }
    let mut other = base.clone();
    other[14..].fill(0xff);
    assert_eq!(flow_hash(&other), hash);
    // Malformed IP is hashed the same way.
    for (ethertype, packet) in
        [(0x0800, [0x44; 40]), (0x0800, [0x65; 40]), (0x86dd, [0x45; 40]), (0x86dd, [0x00; 40])]
    {
        let a = frame(&[], ethertype, &packet);
        let mut b = a.clone();
        b[15..].fill(0xaa);
        assert_eq!(flow_hash(&a), flow_hash(&b), "{ethertype:x} {:x}", packet[0]);
    }
}

#[test]
fn frames_cut_at_every_length() {
    let whole = frame(&[0x88a8, 0x8100], 0x86dd, &ipv6(0, &[[6, 0, 0, 0, 0, 0, 0, 0], PORTS].concat()));
    for len in 0..=whole.len() {
        let info = inspect(&whole[..len]);
        match len {
            0..14 => assert_eq!(info, InnerInfo::default()),
            14..62 => assert_eq!((info.tos, info.vlan), (0, true)),
            _ => assert_eq!((info.tos, info.vlan), (0x2e, true)),
        }
    }
    let whole = frame(&[], 0x0800, &ipv4(17, 0, &[], &PORTS));
    let addresses_only = flow_hash(&whole[..34]);
    for len in 34..=whole.len() {
        let hash = flow_hash(&whole[..len]);
        if len < 38 {
            assert_eq!(hash, addresses_only, "ports are cut off at {len}");
        } else {
            assert_eq!(hash, flow_hash(&whole), "{len}");
        }
    }
}

/// The source port takes 14 bits of the hash: neighbouring flows, as guests make them, should spread evenly.
#[test]
fn neighbouring_flows_spread() {
    type Vary = fn(&mut Vec<u8>, u16);
    let table: [(&str, Vary); 4] = [
        ("source port", |f, i| f[34..36].copy_from_slice(&(32768 + i).to_be_bytes())),
        ("destination port", |f, i| f[36..38].copy_from_slice(&i.to_be_bytes())),
        ("source address", |f, i| f[28..30].copy_from_slice(&i.to_be_bytes())),
        ("destination address", |f, i| f[31..33].copy_from_slice(&i.to_be_bytes())),
    ];
    const FLOWS: u16 = 16384;
    for (name, vary) in table {
        let mut worst = 0.0f64;
        for base in 0..40u8 {
            let mut paths = [0i32; 64];
            let mut distinct = std::collections::HashSet::new();
            let mut bytes = frame(&[], 0x0800, &ipv4(17, 0, &[], &PORTS));
            bytes[26..38].iter_mut().for_each(|byte| *byte = byte.wrapping_add(base.wrapping_mul(59)));
            for i in 0..FLOWS {
                vary(&mut bytes, i);
                let hash = flow_hash(&bytes);
                let entropy = (hash ^ hash >> 14 ^ hash >> 28) & 0x3fff;
                paths[(entropy % 64) as usize] += 1;
                distinct.insert(entropy);
            }
            let expected = i32::from(FLOWS) / 64;
            let chi: f64 = paths.iter().map(|n| f64::from((n - expected).pow(2)) / f64::from(expected)).sum();
            worst = worst.max(chi);
            // 1 - 1/e of the 16384 ports are hit by as many random flows: about 10,357.
            assert!(distinct.len() > 10_100, "{name}: {}", distinct.len());
        }
        // Chi-squared with 63 degrees of freedom exceeds 120 once in 10^5 even hashes.
        assert!(worst < 120.0, "{name}: {worst}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// The shortcut for plain IPv4 gives what the long way gives.
    #[test]
    fn shortcut_agrees(tos: u8, protocol in prop_oneof![Just(6u8), Just(17), Just(132), any::<u8>()],
                       word in prop_oneof![Just(0u16), Just(0x4000), any::<u16>()],
                       payload in proptest::collection::vec(any::<u8>(), 0..40)) {
        let mut packet = ipv4(protocol, word, &[], &payload);
        packet[1] = tos;
        let bytes = frame(&[], 0x0800, &packet);
        prop_assert_eq!(inspect(&bytes), inspect_any(&bytes));
        prop_assert_eq!(inspect(&bytes).tos, tos);
    }

    #[test]
    fn any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..120),
                 ethertype in prop_oneof![Just(0x0800u16), Just(0x86dd), Just(0x8100), Just(0x88a8), any::<u16>()],
                 first in any::<u8>()) {
        for (at, byte) in ethertype.to_be_bytes().into_iter().chain([first]).enumerate() {
            if let Some(place) = bytes.get_mut(12 + at) {
                *place = byte;
            }
        }
        prop_assert_eq!(inspect(&bytes), inspect_any(&bytes));
    }
}
