//! The bytes on the wire: addresses, header views, the parser and the encapsulation templates.
//!
//! This crate is pure: no DPDK, no allocation, no `unsafe`, and no panic on any input. It reads bytes that come
//! from two kinds of strangers, guests (inner frames) and the underlay (outer frames), so every length is
//! checked once, by taking a fixed-size array from the slice, and the accessors after that cannot fail.
//!
//! Where to find what:
//!
//! * one file per header: [`mac`], [`vni`], [`ethernet`], [`ipv4`], [`udp`], [`vxlan`], [`geneve`], [`arp`], [`icmp`];
//! * [`inner`]: one pass over a guest's frame that gives what encapsulation needs (flow hash, TOS, VLAN or not);
//! * [`template`]: the ready-made outer header, copied in front of a frame and patched;
//! * [`underlay`]: what a frame from the uplink is: a tunnel packet for us, something for the host, or an error;
//! * [`ecn`]: what RFC 6040 asks of a decapsulator;
//! * [`checksum`]: the internet checksum, whole and incremental.
//!
//! Numbers are in host order in every signature; on the wire everything is big-endian.

#![forbid(unsafe_code)]

pub mod arp;
pub mod checksum;
pub mod ecn;
pub mod encap;
pub mod ethernet;
pub mod geneve;
pub mod icmp;
pub mod inner;
pub mod ipv4;
pub mod mac;
pub mod template;
pub mod udp;
pub mod underlay;
pub mod vni;
pub mod vxlan;
mod words;

pub use encap::Encap;
pub use inner::{InnerInfo, flow_hash, inspect};
pub use mac::MacAddr;
pub use template::{Dscp, Stamp, Template, TemplateParams};
pub use udp::udp_checksum_ok;
pub use underlay::{
    CommonPattern, CommonTunnel, CommonVtep, LocalVtep, OuterError, RxChecks, TunnelRx, Underlay,
    classify_underlay,
};
pub use vni::Vni;
