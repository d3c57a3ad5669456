//! Frames of the underlay: no panic, and a tunnel packet's inner frame always lies within the frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::net::Ipv4Addr;
use weft_wire::{LocalVtep, MacAddr, RxChecks, Underlay, classify_underlay};

fuzz_target!(|data: &[u8]| {
    let vtep = LocalVtep {
        ip: Ipv4Addr::new(10, 0, 0, 1),
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        vxlan_port: 4789,
        geneve_port: 6081,
    };
    // The checksum stands in the way of finding anything behind it: once with, once without.
    for known in [false, true] {
        let checks = RxChecks { ip_checksum_known_good: known, udp_checksum_known_good: false };
        let result = classify_underlay(data, data.len(), &vtep, checks);
        if let Ok(Underlay::Tunnel(rx)) = result {
            let inner = &data[usize::from(rx.inner_offset)..rx.outer_len as usize];
            assert!(inner.len() >= 14);
            assert_eq!(usize::from(rx.udp_offset) + usize::from(rx.udp_len), rx.outer_len as usize);
            let whole = rx.udp_checksum_ok([data], vtep.ip);
            assert!(whole || rx.need_udp_check);
            let cut = usize::from(data[data.len() - 1]) % data.len();
            assert_eq!(whole, rx.udp_checksum_ok([&data[..cut], &data[cut..]], vtep.ip));
            // The headers alone, the rest being in other segments, give the same.
            let headers = &data[..usize::from(rx.inner_offset)];
            assert_eq!(result, classify_underlay(headers, data.len(), &vtep, checks));
        }
        let _ = classify_underlay(data, data.len() / 2, &vtep, checks);
        let _ = classify_underlay(data, data.len() + 1000, &vtep, checks);
    }
});
