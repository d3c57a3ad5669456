//! Ranges of numbers, shared by the reader of the file and the checks of the model.

use std::ops::RangeInclusive;

/// A range of allowed numbers.
pub type Range = RangeInclusive<u64>;

/// `dpdk.memory_mb`, MiB.
pub const MEMORY_MB: Range = 64..=1 << 20;
/// `dpdk.queue_mbufs`, unless 0: more than a sender may have waiting at queues that take nothing.
pub const QUEUE_MBUFS: Range = 1024..=1 << 18;
/// UDP ports.
pub const UDP_PORT: Range = 1..=65535;
/// `tunnel.ttl`.
pub const TTL: Range = 1..=255;
/// DSCP: six bits (RFC 2474).
pub const DSCP: Range = 0..=63;
/// IP MTUs: from the least that every IPv4 host must take (RFC 791) to what the largest common NICs do.
pub const MTU: Range = 576..=9600;
/// `uplink.rx_queues`.
pub const RX_QUEUES: Range = 0..=128;
/// `uplink.exception_pps`.
pub const EXCEPTION_PPS: Range = 1..=10_000_000;
/// VNIs: 24 bits.
pub const VNI: Range = 0..=0xff_ffff;
/// Queue pairs of a port.
pub const PORT_QUEUES: Range = 1..=crate::model::PortKind::MAX_QUEUES as u64;

/// What is wrong with `value`, and what is allowed; nothing if it lies in `range`.
pub fn check(field: &str, value: impl Into<i128>, range: &Range) -> Option<(String, String)> {
    let value = value.into();
    if value >= i128::from(*range.start()) && value <= i128::from(*range.end()) {
        return None;
    }
    Some((
        format!("{field} = {value} is out of range"),
        format!("allowed: {} to {}", range.start(), range.end()),
    ))
}
