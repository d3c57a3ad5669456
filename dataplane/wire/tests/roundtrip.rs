//! What a template writes is read back by an independent decoder and by the classifier.

mod oracle;

use etherparse::{Ethernet2HeaderSlice, Ipv4HeaderSlice, UdpHeader, UdpHeaderSlice};
use oracle::Seen;
use proptest::prelude::*;
use std::net::Ipv4Addr;
use weft_wire::*;

fn params() -> impl Strategy<Value = TemplateParams> {
    (
        prop_oneof![Just(Encap::Vxlan), Just(Encap::Geneve)],
        any::<[[u8; 6]; 2]>(),
        any::<[[u8; 4]; 2]>(),
        any::<u16>(),
        any::<u8>(),
        any::<bool>(),
        prop_oneof![Just(Dscp::Inherit), (0..64u8).prop_map(Dscp::Fixed)],
    )
        .prop_map(|(encap, macs, ips, dst_port, ttl, df, dscp)| {
            let mut dst_mac = macs[1];
            dst_mac[0] &= !1;
            TemplateParams {
                encap,
                src_mac: MacAddr(macs[0]),
                dst_mac: MacAddr(dst_mac),
                src_ip: Ipv4Addr::from(ips[0]),
                dst_ip: Ipv4Addr::from(ips[1]),
                dst_port,
                ttl,
                df,
                dscp,
            }
        })
}

fn encapsulate(params: &TemplateParams, vni: u32, inner: &[u8], id: u16) -> Vec<u8> {
    let template = Template::new(params);
    let mut frame = vec![0x5a; template.len()];
    frame.extend(inner);
    let vni = Vni::new(vni).unwrap();
    assert!(template.write_with_id(&mut frame, inner.len() as u16, vni, &inspect(inner), id));
    frame
}

/// The receiving end, with the ports so that only the right one fits.
fn receiver(params: &TemplateParams) -> LocalVtep {
    let other = params.dst_port.wrapping_add(1);
    let (vxlan_port, geneve_port) = match params.encap {
        Encap::Vxlan => (params.dst_port, other),
        Encap::Geneve => (other, params.dst_port),
    };
    LocalVtep { ip: params.dst_ip, mac: params.dst_mac, vxlan_port, geneve_port }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_independent_decoder_reads_what_was_sent(
        params in params(), vni in 0..=0xff_ffffu32, id: u16,
        inner in proptest::collection::vec(any::<u8>(), 14..2000), padding in 0..64usize,
    ) {
        let mut frame = encapsulate(&params, vni, &inner, id);
        prop_assert_eq!(&frame[50..], &inner[..]);
        let vtep = receiver(&params);

        // Every field of the outer headers, by another parser.
        let ethernet = Ethernet2HeaderSlice::from_slice(&frame).unwrap();
        prop_assert_eq!(ethernet.source(), params.src_mac.0);
        prop_assert_eq!(ethernet.destination(), params.dst_mac.0);
        let ip = Ipv4HeaderSlice::from_slice(&frame[14..]).unwrap();
        prop_assert_eq!(ip.to_header().calc_header_checksum(), ip.header_checksum());
        prop_assert_eq!(ip.total_len() as usize, frame.len() - 14);
        prop_assert_eq!((ip.ttl(), ip.dont_fragment(), ip.more_fragments()), (params.ttl, params.df, false));
        prop_assert_eq!(ip.identification(), id);
        prop_assert_eq!((ip.source_addr(), ip.destination_addr()), (params.src_ip, params.dst_ip));
        let tos = ip.slice()[1];
        match params.dscp {
            Dscp::Fixed(dscp) => prop_assert_eq!(tos, dscp << 2),
            Dscp::Inherit => prop_assert_eq!(tos, inspect(&inner).tos),
        }
        let udp = UdpHeaderSlice::from_slice(&frame[34..]).unwrap();
        prop_assert!(udp.source_port() >= 49152);
        prop_assert_eq!((udp.destination_port(), udp.checksum()), (params.dst_port, 0));
        prop_assert_eq!(udp.length() as usize, frame.len() - 34);

        // Padding behind it is not part of the inner frame.
        frame.resize(frame.len() + padding, 0xee);
        let expected = Seen::Tunnel {
            geneve: params.encap == Encap::Geneve, vni, src: params.src_ip.octets(), inner: inner.clone(),
            udp_checksum: false,
        };
        prop_assert_eq!(
            oracle::read(&frame, vtep.mac.0, vtep.ip.octets(), vtep.vxlan_port, vtep.geneve_port), expected);

        match classify_underlay(&frame, frame.len(), &vtep, RxChecks::default()) {
            Ok(Underlay::Tunnel(rx)) => {
                prop_assert_eq!((rx.encap, rx.vni.get(), rx.src, rx.tos), (params.encap, vni, params.src_ip, tos));
                prop_assert_eq!(&frame[rx.inner_offset as usize..rx.outer_len as usize], &inner[..]);
                prop_assert!(!rx.need_udp_check);
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    /// The UDP checksum of another implementation, as a peer may send it, over segments of any lengths.
    #[test]
    fn udp_checksums_of_others(
        params in params(), inner in proptest::collection::vec(any::<u8>(), 14..300),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6), flip in any::<prop::sample::Index>(),
    ) {
        let mut frame = encapsulate(&params, 7, &inner, 0);
        let ip = Ipv4HeaderSlice::from_slice(&frame[14..]).unwrap();
        let mut udp = UdpHeader::from_slice(&frame[34..]).unwrap().0;
        udp.checksum = udp.calc_checksum_ipv4(&ip.to_header(), &frame[42..]).unwrap();
        frame[34..42].copy_from_slice(&udp.to_bytes());

        let vtep = receiver(&params);
        let rx = match classify_underlay(&frame, frame.len(), &vtep, RxChecks::default()) {
            Ok(Underlay::Tunnel(rx)) => rx,
            other => panic!("{other:?}"),
        };
        prop_assert!(rx.need_udp_check);
        let segments = |frame: &[u8]| {
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(frame.len() + 1)).collect();
            places.extend([0, frame.len()]);
            places.sort();
            places.windows(2).map(|pair| frame[pair[0]..pair[1]].to_vec()).collect::<Vec<_>>()
        };
        let ok = |frame: &[u8]| {
            let pieces = segments(frame);
            rx.udp_checksum_ok(pieces.iter().map(|piece| &piece[..]), vtep.ip)
        };
        prop_assert!(ok(&frame));
        // One flipped bit in what is summed, the checksum itself included unless it became "none".
        let bit = flip.index((frame.len() - 34) * 8);
        frame[34 + bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!ok(&frame) || frame[40..42] == [0, 0]);
    }

    #[test]
    fn sums(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), at in any::<prop::sample::Index>(), new: u16) {
        prop_assert_eq!(checksum::checksum(&bytes), oracle::checksum(&bytes));
        // An incremental update gives what summing it all again does.
        if bytes.len() >= 2 {
            let before = checksum::checksum(&bytes);
            let word = at.index(bytes.len() / 2) * 2;
            let old = u16::from_be_bytes([bytes[word], bytes[word + 1]]);
            bytes[word..word + 2].copy_from_slice(&new.to_be_bytes());
            let updated = checksum::update(before, old, new);
            let whole = oracle::checksum(&bytes);
            if bytes.iter().all(|&byte| byte == 0) {
                // The case that `update` documents.
                prop_assert!(before == 0xffff && updated == 0xffff || updated == 0);
            } else {
                prop_assert_eq!(updated, whole);
            }
        }
    }
}

/// The longest datagram that IPv4 can carry, and one byte more.
#[test]
fn the_longest_frame() {
    let params = TemplateParams {
        encap: Encap::Geneve,
        src_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        dst_mac: MacAddr([2, 0, 0, 0, 0, 2]),
        src_ip: Ipv4Addr::new(10, 0, 0, 1),
        dst_ip: Ipv4Addr::new(10, 0, 0, 2),
        dst_port: 6081,
        ttl: 64,
        df: true,
        dscp: Dscp::Inherit,
    };
    let inner = vec![0x45; 65535 - 36];
    let frame = encapsulate(&params, 1, &inner, 0);
    let vtep = receiver(&params);
    match oracle::read(&frame, vtep.mac.0, vtep.ip.octets(), vtep.vxlan_port, vtep.geneve_port) {
        Seen::Tunnel { inner: seen, .. } => assert!(seen == inner),
        other => panic!("{other:?}"),
    }
    match classify_underlay(&frame, frame.len(), &vtep, RxChecks::default()) {
        Ok(Underlay::Tunnel(rx)) => assert_eq!((rx.inner_offset, rx.outer_len), (50, 65549)),
        other => panic!("{other:?}"),
    }
    let mut out = [0; 50];
    assert!(!Template::new(&params).write(&mut out, 65500, Vni::MAX, &InnerInfo::default()));
}
