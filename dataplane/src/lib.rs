//! The packet path of weft: workers, stages, counters, and the underlay's slow path.
//!
//! Start reading at [`path`], which lists what happens to a burst in order, and at [`worker`], which runs it.
#![deny(unsafe_code)]

#[cfg(feature = "bench")]
pub mod bench;
pub mod counters;
pub mod drop;
pub mod fair;
pub mod forwarding;
pub mod path;
mod stage;
pub mod timing;
pub mod tx;
pub mod underlay;
pub mod worker;

/// Port slots: 1,024 ports for VMs, and room for uplinks.
pub const MAX_PORTS: usize = 1056;
/// The uplink's port slot.
pub const UPLINK: u16 = 0;
/// Longest frame taken from a local port, in bytes without FCS: a jumbo packet of 9,216 bytes with two VLAN tags.
pub const MAX_FRAME: u32 = 9216 + 14 + 8;
/// Remote VTEP slots.
pub const MAX_VTEPS: usize = 16384;
