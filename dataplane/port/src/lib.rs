//! Ports: EAL, mbufs, NICs and vhost-user. The only crate of weft that calls into DPDK.
//!
//! What leaves this crate is safe: an [`Mbuf`] is owned and freed on drop, a queue has one owner by its type, a
//! device closes when the last of its queues is gone, and a guest that leaves is waited for (see [`vhost`]).
//!
//! | module | DPDK library |
//! |---|---|
//! | [`eal`], [`thread`] | rte_eal: start-up, thread registration |
//! | [`mempool`], [`mbuf`], [`burst`] | rte_mempool, rte_mbuf: packets and vectors of them |
//! | [`eth`] | rte_ethdev: NICs and virtual devices |
//! | [`vhost`] | rte_vhost: guests' virtio-net queues |
//! | [`Tap`] | none: the kernel's TAP devices, for one control thread |
//! | [`mod@tsc`] | the CPU's time stamp counter |

pub mod burst;
pub mod eal;
pub mod error;
pub mod eth;
mod ffi;
pub mod mbuf;
pub mod mempool;
mod queue;
mod tap;
pub mod thread;
pub mod tsc;
pub mod vhost;

pub use burst::{BURST, Burst, Leaving, free_burst};
pub use eal::{Eal, EalConfig};
pub use error::PortError;
pub use eth::{EthCaps, EthConfig, EthDev, EthStats, LinkState};
pub use mbuf::{Mbuf, Segments};
pub use mempool::{DEFAULT_DATA_ROOM, HEADROOM, Mempool};
pub use queue::{RxQueue, TxQueue};
pub use tap::Tap;
pub use thread::{ThreadGuard, pin_current_thread, set_timer_slack_ns};
pub use tsc::{tsc, tsc_hz};
pub use vhost::{VhostConfig, VhostEvent, VhostHooks, VhostMode, VhostPort, VhostState};
