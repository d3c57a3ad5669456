//! Echo requests: a reply has right checksums and goes back where the request came from; a refusal changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::net::Ipv4Addr;
use weft_wire::{MacAddr, checksum, icmp};

fuzz_target!(|data: &[u8]| {
    let (ip, mac) = (Ipv4Addr::new(10, 0, 0, 1), MacAddr([2, 0, 0, 0, 0, 1]));
    // As it is, and with both checksums mended so that what lies behind them is reached.
    let mut mended = data.to_vec();
    if mended.len() >= 42 {
        let end = usize::from(u16::from_be_bytes([mended[16], mended[17]])).clamp(28, mended.len() - 14) + 14;
        for (at, from, to) in [(24, 14, 34), (36, 34, end)] {
            mended[at..at + 2].fill(0);
            let sum = checksum::checksum(&mended[from..to]);
            mended[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
    }
    for request in [data, &mended[..]] {
        let mut frame = request.to_vec();
        if icmp::echo_reply(&mut frame, ip, mac).is_err() {
            assert_eq!(frame, request);
            continue;
        }
        let end = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        assert!(checksum::valid(&frame[14..34]));
        assert!(checksum::valid(&frame[34..end]));
        assert_eq!(frame[..6], request[6..12]);
        assert_eq!(frame[30..34], request[26..30]);
        assert_eq!(frame[38..], request[38..]);
        // A reply is no request: two hosts cannot answer each other for ever.
        assert!(icmp::echo_reply(&mut frame, ip, mac).is_err());
    }
});
