//! The key of a forwarding entry, kept in the shape in which entries are compared.

use super::entry::{NETWORK_HIGH_SHIFT, VALID};

const NETWORK_MASK: u32 = (1 << 24) - 1;
const MAC_MASK: u64 = (1 << 48) - 1;

/// Network id (24 bits) and MAC address (48 bits).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C, align(16))]
pub struct FdbKey {
    /// As an entry's word A: MAC, then the network id's low 16 bits.
    pub(super) a: u64,
    /// As an entry's word B with value and version zero: the network id's high 8 bits, and the valid bit.
    pub(super) b: u64,
}

impl FdbKey {
    /// Key of `mac` (48 bits, the first byte on the wire most significant) in `network` (24 bits).
    /// Higher bits are ignored.
    #[inline]
    pub const fn new(network: u32, mac: u64) -> Self {
        let network = network & NETWORK_MASK;
        Self {
            a: (mac & MAC_MASK) << 16 | (network as u64 & 0xffff),
            b: ((network as u64) >> 16) << NETWORK_HIGH_SHIFT | VALID,
        }
    }

    /// The network id.
    pub const fn network(self) -> u32 {
        (self.a & 0xffff) as u32 | ((self.b >> NETWORK_HIGH_SHIFT) as u32) << 16
    }

    /// The MAC address, the first byte on the wire most significant.
    pub const fn mac(self) -> u64 {
        self.a >> 16
    }

    /// The key as it is laid out: both words.
    #[inline]
    pub(super) const fn halves(self) -> (u64, u64) {
        (self.a, self.b)
    }

    /// The key's 72 bits, as two words.
    #[inline]
    pub const fn words(self) -> (u64, u64) {
        (self.a, self.b >> NETWORK_HIGH_SHIFT)
    }
}

impl std::fmt::Debug for FdbKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FdbKey({:#x}, {:012x})", self.network(), self.mac())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn key_keeps_every_bit_and_no_other() {
        for (network, mac) in [(0, 0), (0xff_ffff, MAC_MASK), (0xab_cdef, 0x0123_4567_89ab), (0x80_0000, 1)] {
            let key = FdbKey::new(network, mac);
            assert_eq!((key.network(), key.mac()), (network, mac));
            assert_eq!(FdbKey::new(network | 0xff00_0000, mac | 0xffff << 48), key);
        }
    }
}
