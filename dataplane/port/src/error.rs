//! What can go wrong outside the packet path. Every message says what failed, where, and what to do.

use std::io;
use std::path::PathBuf;

/// An error from opening, changing or closing a port, a pool or EAL itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// EAL was started before: DPDK can be started once in a process, even after a failure.
    #[error(
        "DPDK's EAL was already started in this process: it can be started once only, restart the program"
    )]
    EalAlreadyStarted,
    /// `rte_eal_init` failed.
    #[error("cannot start DPDK's EAL: {reason} (arguments: {args}): {hint}")]
    EalInit {
        /// `rte_strerror`'s words.
        reason: String,
        /// The arguments, as given.
        args: String,
        /// What to do.
        hint: &'static str,
    },
    /// The folder from which EAL loads its drivers is missing or empty.
    #[error("DPDK's drivers are not in {}: install them: apt install dpdk librte-meta-all", dir.display())]
    NoDrivers {
        /// The folder that this build's EAL looks into.
        dir: PathBuf,
    },
    /// A CPU core or an affinity mask was refused.
    #[error("cannot {what}: {source}: the cores of this process are {allowed}")]
    Affinity {
        /// What was tried, such as "pin this thread to core 3".
        what: String,
        /// Cores the process may run on.
        allowed: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A thread cannot get an lcore id.
    #[error("cannot register the thread with DPDK: {reason}: {hint}")]
    Thread {
        /// `rte_strerror`'s words.
        reason: String,
        /// What to do.
        hint: &'static str,
    },
    /// A pool of mbufs could not be made.
    #[error("cannot make mbuf pool '{name}' of {count} mbufs, {bytes} bytes in all: {reason}: {hint}")]
    Mempool {
        /// Name asked for.
        name: String,
        /// Number of mbufs asked for.
        count: u32,
        /// About how much memory that takes.
        bytes: u64,
        /// `rte_strerror`'s words.
        reason: String,
        /// What to do.
        hint: &'static str,
    },
    /// A value cannot be what it is.
    #[error("{what}: {why}")]
    Invalid {
        /// The object and its key, such as "device 'net_null0': rx_queues".
        what: String,
        /// Why not, and what is possible.
        why: String,
    },
    /// An Ethernet device refused a step.
    #[error("device '{device}': {step} failed: {reason}{hint}")]
    Eth {
        /// The device as configured.
        device: String,
        /// The step, such as "start".
        step: &'static str,
        /// `rte_strerror`'s words.
        reason: String,
        /// What to do, with a leading separator, or nothing.
        hint: String,
    },
    /// A device is open already.
    #[error("device '{device}' is open already as another port: close that one first, or use another device")]
    EthBusy {
        /// The device as configured.
        device: String,
    },
    /// The device or its path to memory cannot carry frames of the configured size.
    #[error("device '{device}': MTU {mtu} does not work: {why}")]
    Mtu {
        /// The device as configured.
        device: String,
        /// MTU asked for, in bytes of IP packet.
        mtu: u16,
        /// What limits it, and what to change.
        why: String,
    },
    /// A vhost-user socket refused a step.
    #[error("vhost-user socket {}: {step} failed: {hint}", path.display())]
    Vhost {
        /// The socket.
        path: PathBuf,
        /// The step, such as "register".
        step: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// Something else is where the socket shall be.
    #[error("vhost-user socket {}: {why}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What is there, and what to do.
        why: String,
    },
}
