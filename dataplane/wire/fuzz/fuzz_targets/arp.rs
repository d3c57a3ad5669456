//! ARP frames: what is accepted can be built again, byte for byte in all that ARP defines.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_wire::arp::{self, ArpOp};

fuzz_target!(|data: &[u8]| {
    let Some(packet) = arp::parse(data) else { return };
    assert!(!packet.sha.is_multicast());
    let mut out = [0xff; 60];
    match packet.op {
        ArpOp::Request => arp::build_request(packet.sha, packet.spa, packet.tpa, &mut out),
        ArpOp::Reply => arp::build_reply(packet.sha, packet.spa, packet.tha, packet.tpa, &mut out),
    };
    // A request's target hardware address has no meaning and is sent as zero.
    assert_eq!(out[14..32], data[14..32]);
    assert_eq!(out[38..42], data[38..42]);
});
