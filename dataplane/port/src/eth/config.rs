//! What a device is opened with, and what can be said about it before DPDK is asked.

use crate::error::PortError;
use crate::mempool::Mempool;

/// How to open an Ethernet device.
#[derive(Debug, Clone)]
pub struct EthConfig {
    /// A PCI address (`0000:01:00.0`, listed in [`crate::EalConfig::pci_allow`]) or a virtual device with its
    /// arguments (`net_memif0,role=server,...`). It is plugged in if DPDK does not have it yet.
    pub device: String,
    /// Receive queues wished for; [`crate::EthDev::open`] returns as many as the device can do.
    pub rx_queues: u16,
    /// Transmit queues wished for; likewise.
    pub tx_queues: u16,
    /// Descriptors in each receive queue; 0: the device's preference. Adjusted to the device's limits.
    pub rx_desc: u16,
    /// Descriptors in each transmit queue; likewise.
    pub tx_desc: u16,
    /// Largest IP packet in bytes, Ethernet header not counted.
    pub mtu: u16,
    /// Receive frames to any MAC address.
    pub promiscuous: bool,
    /// Have the device check IPv4 and UDP checksums if it can. A virtio device then receives without its vector path.
    pub rx_checksums: bool,
    /// Have the buffers of sent packets come back early, once a quarter of the ring is sent; else the driver lets them
    /// lie until the ring is nearly full, which is a little faster and keeps as many buffers of whoever sent them.
    pub free_early: bool,
    /// Where received packets come from. Should stand on the device's NUMA node.
    pub pool: Mempool,
}

/// Bytes of Ethernet header and frame check sequence, and of two VLAN tags: what a frame has on top of the MTU.
pub(super) const OVERHEAD: u32 = 14 + 4 + 8;

/// Bytes that the kernel puts in front of the frame in a packet socket's ring (TPACKET_V2: header, address, and
/// alignment of what follows the MAC header to 16).
const TPACKET_FRONT: u32 = 66;

/// Bytes of a slot that the driver does not reckon as frame (the header of TPACKET_V2 alone).
const TPACKET_HEADER: u32 = 32;

impl EthConfig {
    /// The device's name at DPDK: what stands before the first comma.
    pub(super) fn name(&self) -> &str {
        self.device.split(',').next().unwrap_or_default()
    }

    /// The last value of a `key=value` argument.
    fn argument(&self, key: &str) -> Option<&str> {
        self.device
            .split(',')
            .skip(1)
            .filter_map(|arg| arg.split_once('='))
            .filter(|a| a.0 == key)
            .map(|a| a.1)
            .last()
    }

    /// True for `0000:01:00.0` and `01:00.0`.
    pub(super) fn is_pci(&self) -> bool {
        let hex = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_hexdigit());
        let Some((front, function)) = self.name().rsplit_once('.') else { return false };
        let parts: Vec<&str> = front.split(':').collect();
        hex(function) && (2..=3).contains(&parts.len()) && parts.iter().all(|part| hex(part))
    }

    /// The kernel interface under an af_packet device.
    pub(super) fn af_packet_interface(&self) -> Option<&str> {
        self.name().starts_with("net_af_packet").then(|| self.argument("iface").unwrap_or_default())
    }

    pub(super) fn check(&self) -> Result<(), PortError> {
        let invalid = |key: &str, why: &str| {
            Err(PortError::Invalid { what: format!("device '{}': {key}", self.device), why: why.to_owned() })
        };
        if self.name().is_empty() {
            return invalid(
                "name",
                "give a PCI address such as 0000:01:00.0, or a virtual device such as net_tap0",
            );
        }
        if self.rx_queues == 0 || self.tx_queues == 0 {
            return invalid("queues", "at least one receive and one transmit queue are needed");
        }
        if self.mtu < 68 {
            return invalid("mtu", "68 bytes is the least that IPv4 allows (RFC 791)");
        }
        if self.af_packet_interface().is_some() {
            self.check_af_packet()?;
        }
        Ok(())
    }

    /// The kernel cuts frames that do not fit its ring's slots, silently; the driver refuses slots that do not fit
    /// an mbuf, with an error that does not say so.
    fn check_af_packet(&self) -> Result<(), PortError> {
        let number = |key: &str, default: u32| match self.argument(key) {
            None => Ok(default),
            Some(text) => text.parse::<u32>().map_err(|_| PortError::Invalid {
                what: format!("device '{}': {key}", self.device),
                why: format!("'{text}' is not a number"),
            }),
        };
        let (framesz, blocksz) = (number("framesz", 2048)?, number("blocksz", 4096)?);
        let frame = u32::from(self.mtu) + OVERHEAD - 4;
        let needed = (frame + TPACKET_FRONT).next_multiple_of(16);
        let mtu_error = |why| Err(PortError::Mtu { device: self.device.clone(), mtu: self.mtu, why });
        if framesz < needed {
            let framesz = needed.next_power_of_two().max(2048);
            let blocksz = framesz.max(4096);
            return mtu_error(format!(
                "its frames need slots of {needed} bytes: add framesz={framesz},blocksz={blocksz} to the device, \
                 and use mbufs with as much data room"
            ));
        }
        if blocksz < framesz || blocksz % 4096 != 0 {
            return mtu_error(format!(
                "blocksz {blocksz} must be a multiple of 4096 and hold a slot of framesz {framesz}: \
                 add blocksz={} to the device",
                framesz.checked_next_multiple_of(4096).unwrap_or(framesz)
            ));
        }
        let room = u32::from(self.pool.segment_room());
        if framesz.saturating_sub(TPACKET_HEADER) > room {
            return mtu_error(format!(
                "slots of framesz {framesz} do not fit mbufs with {room} bytes of data: lower framesz to {} or use \
                 mbufs with more data room",
                (room + TPACKET_HEADER) / 16 * 16
            ));
        }
        Ok(())
    }
}
