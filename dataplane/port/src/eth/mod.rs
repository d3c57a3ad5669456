//! Ethernet devices (rte_ethdev): NICs by their PCI address, and DPDK's virtual devices by their arguments.

mod config;
mod device;
mod kernel;
mod queue;
mod stats;

pub use config::EthConfig;
pub use device::{EthCaps, EthDev};
pub use queue::{EthRx, EthTx};
pub use stats::{EthStats, LinkState};
