//! What a device counts and says of its link.

use dpdk_sys as sys;

/// Counters of a device since it was started (`rte_eth_stats_get`). Bytes are of Ethernet frames without the FCS;
/// some drivers count it in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EthStats {
    /// Packets received and handed to weft.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets that the device dropped as its receive queues were full: weft polls too slowly.
    pub imissed: u64,
    /// Erroneous packets received.
    pub ierrors: u64,
    /// Packets that could not be sent.
    pub oerrors: u64,
    /// Receptions that failed as the mbuf pool was empty.
    pub rx_nombuf: u64,
}

impl From<sys::rte_eth_stats> for EthStats {
    fn from(s: sys::rte_eth_stats) -> Self {
        Self {
            rx_packets: s.ipackets,
            tx_packets: s.opackets,
            rx_bytes: s.ibytes,
            tx_bytes: s.obytes,
            imissed: s.imissed,
            ierrors: s.ierrors,
            oerrors: s.oerrors,
            rx_nombuf: s.rx_nombuf,
        }
    }
}

/// State of a device's link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkState {
    /// Carrier, or a connected peer for virtual devices.
    pub up: bool,
    /// Megabits per second, 0 if unknown.
    pub speed_mbps: u32,
    /// Full duplex.
    pub full_duplex: bool,
}
