//! vhost-user ports (rte_vhost): the virtio-net queues of guests.
//!
//! # Who does what
//!
//! One thread of DPDK's serves the sockets of all guests and calls back (`callbacks`): a guest came, a ring was
//! enabled, a guest goes. Callbacks write a few atomics of the port (`shared`) and post events. Workers own the queues (`queue`) and
//! look at the atomics once per burst. No lock is common to both.
//!
//! # Who moves the frames
//!
//! Split rings are served here (`vring`), packed ones by `rte_vhost_dequeue_burst` and `rte_vhost_enqueue_burst`. librte_vhost's messages may
//! move rings and memory; it calls back before and after each, and in between no owner of a queue is let in (`shared`).
//!
//! # A guest that leaves
//!
//! librte_vhost frees a device when `destroy_device` returns, so that must not happen while a worker is inside a
//! burst call with the device's id. Each queue handle announces its calls in a word of its own (`presence`); the callback takes
//! the id out of the shared state, makes that visible to all threads, and waits until no call that may have seen it is under way.
//! Then it lets the owner of the port wait for a grace period of its own ([`VhostHooks::wait_grace_period`]).
//!
//! # What guests are offered
//!
//! Everything that librte_vhost can do without weft's help, without checksum and segmentation offloads ([`features`]).

mod callbacks;
pub mod features;
mod port;
mod presence;
mod queue;
mod shared;
mod socket;
mod vring;

pub use port::{VhostConfig, VhostMode, VhostPort, VhostState};
pub use queue::{VhostRx, VhostTx};
pub use shared::{VhostEvent, VhostHooks};
pub use vring::Losses;
