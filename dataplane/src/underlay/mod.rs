//! The underlay's slow path: everything on the uplink that is not a tunnel packet.
//!
//! Workers [`punt`] such frames to one control thread, the [`agent`], which answers ARP and ICMP echo for the VTEP
//! address, resolves next hops ([`neighbor`]), holds a few packets that wait for resolution ([`hold`]), and exchanges
//! the rest with the host's kernel over a TAP, so that a server whose only NIC is bound to weft stays reachable.

pub mod agent;
pub mod hold;
pub mod neighbor;
pub mod punt;
