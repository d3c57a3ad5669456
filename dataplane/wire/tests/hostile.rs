//! Frames made to hurt: random ones, good ones with a few bytes changed, good ones cut short. The classifier has to
//! agree with an independent reading of the RFCs on every one of them, and nothing may panic.

mod oracle;

use etherparse::SlicedPacket;
use oracle::Seen;
use proptest::prelude::*;
use std::net::Ipv4Addr;
use weft_wire::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const IP: [u8; 4] = [10, 0, 0, 1];

fn vtep() -> LocalVtep {
    LocalVtep { ip: Ipv4Addr::from(IP), mac: MacAddr(MAC), vxlan_port: 4789, geneve_port: 6081 }
}

/// A good tunnel packet, written without the crate's help.
fn good(geneve: bool, ip_options: usize, tunnel_options: &[(u8, u8)], inner: &[u8]) -> Vec<u8> {
    let mut options = Vec::new();
    for &(kind, words) in tunnel_options {
        options.extend([0x01, 0x02, kind, words]);
        options.extend(vec![0xf0; 4 * usize::from(words)]);
    }
    let mut tunnel = if geneve {
        vec![(options.len() / 4) as u8, 0, 0x65, 0x58, 0, 1, 2, 0]
    } else {
        options.clear();
        vec![8, 0, 0, 0, 0, 1, 2, 0]
    };
    tunnel.extend(options);
    tunnel.extend(inner);

    let udp_len = 8 + tunnel.len();
    let mut ip = vec![0x45 + ip_options as u8, 0];
    ip.extend(((20 + 4 * ip_options + udp_len) as u16).to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2]);
    ip.extend(IP);
    ip.extend(vec![1; 4 * ip_options]);
    let sum = oracle::checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());

    let mut frame = MAC.to_vec();
    frame.extend([2, 0, 0, 0, 0, 2, 8, 0]);
    frame.extend(ip);
    frame.extend([0xc0, 1]);
    frame.extend(if geneve { 6081u16 } else { 4789 }.to_be_bytes());
    frame.extend((udp_len as u16).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(tunnel);
    frame
}

fn frames() -> impl Strategy<Value = Vec<u8>> {
    (
        any::<bool>(),
        0..=10usize,
        proptest::collection::vec((0..0x80u8, 0..8u8), 0..6),
        proptest::collection::vec(any::<u8>(), 0..80),
    )
        .prop_map(|(geneve, ip_options, options, inner)| {
            let words: usize = options.iter().map(|&(_, words)| 1 + usize::from(words)).sum();
            good(geneve, ip_options, if words < 64 { &options } else { &[] }, &inner)
        })
}

/// Mends the outer IPv4 checksum, so that changes behind it are reached.
fn mend(frame: &mut [u8]) {
    let Some(&first) = frame.get(14) else { return };
    let end = 14 + 4 * usize::from(first & 15);
    if end >= 34 && end <= frame.len() {
        frame[24..26].fill(0);
        let sum = oracle::checksum(&frame[14..end]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Both readings of one frame, and every other function on it: none may panic.
fn agree(frame: &[u8]) -> Result<bool, TestCaseError> {
    let expected = oracle::read(frame, MAC, IP, 4789, 6081);
    let got = classify_underlay(frame, frame.len(), &vtep(), RxChecks::default());
    let tagged = frame.len() >= 14 && (frame[12..14] == [0x81, 0] || frame[12..14] == [0x88, 0xa8]);
    match (&expected, &got) {
        (Seen::Tunnel { geneve, vni, src, inner, udp_checksum }, Ok(Underlay::Tunnel(rx))) => {
            prop_assert_eq!((*geneve, *vni), (rx.encap == Encap::Geneve, rx.vni.get()));
            prop_assert_eq!(Ipv4Addr::from(*src), rx.src);
            prop_assert_eq!(&inner[..], &frame[rx.inner_offset as usize..rx.outer_len as usize]);
            prop_assert_eq!(*udp_checksum, rx.need_udp_check);
            rx.udp_checksum_ok([frame], vtep().ip);
        }
        (Seen::NotTunnel, Ok(Underlay::ToHost)) | (Seen::Refused, Err(_)) => {}
        (Seen::NotTunnel, Err(OuterError::Vlan)) if tagged => {}
        _ => prop_assert!(false, "expected {:?}, got {:?}", expected, got),
    }
    let common = CommonVtep::new(&vtep()).read(frame);
    prop_assert!(!CommonPattern::NONE.fits(frame));
    // It fits the pattern of another packet of its tunnel only if it is common, and then it has the same VNI and source.
    for geneve in [false, true] {
        let other = good(geneve, 0, &[], &[0; 33]);
        if CommonPattern::of(&other).fits(frame) {
            prop_assert_eq!(common, CommonVtep::new(&vtep()).read(&other));
        }
    }
    if let Some(c) = common {
        prop_assert!(CommonPattern::of(frame).fits(frame));
        let Ok(Underlay::Tunnel(rx)) = got else {
            return Err(TestCaseError::fail(format!("common {c:?}, but {got:?}")));
        };
        prop_assert_eq!((c.encap, c.vni, c.src), (rx.encap, rx.vni, rx.src));
        prop_assert_eq!(CommonTunnel::INNER_OFFSET, usize::from(rx.inner_offset));
        prop_assert_eq!(frame.len(), rx.outer_len as usize);
        prop_assert!(!rx.need_udp_check && !ecn::matters(rx.tos));
    }
    let info = inspect(frame);
    prop_assert_eq!(info.hash, flow_hash(frame));
    let mut copy = frame.to_vec();
    if icmp::echo_reply(&mut copy, vtep().ip, vtep().mac).is_err() {
        prop_assert_eq!(&copy[..], frame);
    }
    let _ = arp::parse(frame);
    for tos in 0..4 {
        let mut copy = frame.to_vec();
        let _ = ecn::decapsulate(&mut copy, tos);
        prop_assert_eq!(copy.len(), frame.len());
    }
    Ok(matches!(got, Ok(Underlay::Tunnel(_))))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        agree(&bytes)?;
    }

    #[test]
    fn random_behind_a_right_address(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        agree(&[&MAC[..], &[2, 0, 0, 0, 0, 2, 8, 0], &bytes].concat())?;
    }

    #[test]
    fn good_ones_are_good(frame in frames()) {
        let inner = oracle::read(&frame, MAC, IP, 4789, 6081);
        prop_assert_eq!(agree(&frame)?, inner != Seen::Refused);
    }

    #[test]
    fn common_ones_are_known_as_such(
        geneve: bool, tos in 0..=255u8, id: u16, df: bool, ttl: u8, port: u16, vni: [u8; 3], src: [u8; 4], reserved: u8,
        inner in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut frame = good(geneve, 0, &[], &inner);
        frame[15] = tos;
        frame[18..20].copy_from_slice(&id.to_be_bytes());
        frame[20] = if df { 0x40 } else { 0 };
        frame[22] = ttl;
        frame[26..30].copy_from_slice(&src);
        frame[34..36].copy_from_slice(&port.to_be_bytes());
        frame[46..49].copy_from_slice(&vni);
        frame[49] = reserved;
        if geneve { frame[43] = reserved & 0x3f } else { frame[42] = reserved | 8 }
        mend(&mut frame);
        agree(&frame)?;
        let common = CommonVtep::new(&vtep()).read(&frame);
        prop_assert_eq!(common.is_some(), inner.len() >= 14 && tos & 1 == 0);
        if common.is_some() {
            // The next one of the tunnel: another id, source port and length.
            let mut next = good(geneve, 0, &[], &[&inner[..], &[1, 2, 3]].concat());
            next[..16].copy_from_slice(&frame[..16]);
            next[20] = frame[20];
            (next[18], next[22], next[34]) = (!id as u8, !ttl, !port as u8);
            next[26..30].copy_from_slice(&src);
            next[42..50].copy_from_slice(&frame[42..50]);
            mend(&mut next);
            prop_assert_eq!(CommonVtep::new(&vtep()).read(&next), common);
            prop_assert!(CommonPattern::of(&frame).fits(&next));
            next[24] ^= 1;
            prop_assert!(!CommonPattern::of(&frame).fits(&next));
        }
        // Padded, it has to be cut, which is not common.
        frame.push(0);
        prop_assert_eq!(CommonVtep::new(&vtep()).read(&frame), None);
        agree(&frame)?;
    }

    #[test]
    fn a_few_bytes_changed(
        mut frame in frames(), mended: bool,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for (at, value) in changes {
            // Mostly headers.
            let end = frame.len().min(70);
            frame[at.index(end)] = value;
        }
        if mended {
            mend(&mut frame);
        }
        agree(&frame)?;
    }

    #[test]
    fn one_bit_changed(mut frame in frames(), bit in 0..(70 * 8usize)) {
        let bit = bit % (frame.len() * 8);
        frame[bit / 8] ^= 1 << (bit % 8);
        mend(&mut frame);
        agree(&frame)?;
    }

    #[test]
    fn cut_short(frame in frames(), at in any::<prop::sample::Index>(), mended: bool) {
        let mut frame = frame[..at.index(frame.len() + 1)].to_vec();
        if mended && frame.len() >= 34 {
            let total = (frame.len() - 14) as u16;
            frame[16..18].copy_from_slice(&total.to_be_bytes());
            mend(&mut frame);
        }
        agree(&frame)?;
    }

    /// Flow hash: equal when another parser sees equal flows, different when it sees different ones.
    #[test]
    fn flows(
        v6: bool, tcp: bool, tags in 0..3usize, hosts: [u8; 2], ports: [u16; 2], other_ports: [u16; 2],
        payloads in any::<[[u8; 9]; 2]>(), ttls: [u8; 2],
    ) {
        let build = |ports: [u16; 2], payload: &[u8], ttl: u8| {
            let mut frame = Vec::new();
            let (a, b) = (hosts[0], hosts[1]);
            let builder = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, a], [2, 0, 0, 0, 0, b]);
            macro_rules! finish { ($builder:expr) => {{
                let ip = if v6 {
                    $builder.ipv6([a; 16], [b; 16], ttl)
                } else {
                    $builder.ipv4([10, 0, 0, a], [10, 0, 0, b], ttl)
                };
                if tcp {
                    ip.tcp(ports[0], ports[1], 1, 2).write(&mut frame, payload).unwrap();
                } else {
                    ip.udp(ports[0], ports[1]).write(&mut frame, payload).unwrap();
                }
            }} }
            match tags {
                0 => finish!(builder),
                1 => finish!(builder.single_vlan(5.try_into().unwrap())),
                _ => finish!(builder.double_vlan(5.try_into().unwrap(), 6.try_into().unwrap())),
            }
            frame
        };
        let first = build(ports, &payloads[0], ttls[0]);
        let second = build(other_ports, &payloads[1], ttls[1]);
        let flow = |frame: &[u8]| {
            let sliced = SlicedPacket::from_ethernet(frame).unwrap();
            match sliced.transport.unwrap() {
                etherparse::TransportSlice::Tcp(tcp) => (tcp.source_port(), tcp.destination_port()),
                etherparse::TransportSlice::Udp(udp) => (udp.source_port(), udp.destination_port()),
                _ => unreachable!(),
            }
        };
        prop_assert_eq!(flow(&first) == flow(&second), flow_hash(&first) == flow_hash(&second));
        prop_assert_eq!(flow_hash(&first), flow_hash(&build(ports, &payloads[1], ttls[1])));
        prop_assert_eq!(inspect(&first).vlan, tags > 0);
    }
}
