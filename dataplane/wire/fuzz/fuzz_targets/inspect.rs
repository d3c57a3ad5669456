//! Frames of guests: no panic, and what `inspect` says of a frame does not depend on what lies behind its headers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_wire::{ecn, flow_hash, inspect};

fuzz_target!(|data: &[u8]| {
    let info = inspect(data);
    assert_eq!(info.hash, flow_hash(data));
    // Two tags, IPv6, six extension headers of the largest size and the ports.
    if data.len() > 22 + 40 + 6 * 2048 + 4 {
        assert_eq!(info, inspect(&data[..22 + 40 + 6 * 2048 + 4]));
    }
    for outer in 0..4 {
        let mut frame = data.to_vec();
        let result = ecn::decapsulate(&mut frame, outer);
        assert!(result.is_ok() || frame == data);
        // DSCP, flow and tags are not touched.
        let after = inspect(&frame);
        assert_eq!((after.hash, after.vlan, after.tos & !3), (info.hash, info.vlan, info.tos & !3));
    }
});
