//! The key of a forwarding entry, kept in the shape in which entries are compared.

use super::entry::{NETWORK_HIGH_SHIFT, VALID};

const NETWORK_MASK: u32 = (1 << 24) - 1;
const MAC_MASK: u64 = (1 << 48) - 1;
/// Set in every key's word A: zero is no key's.
const PRESENT: u64 = 1;
/// Bits of the network id that are in word A.
const LOW_BITS: u32 = 15;
const LOW_MASK: u32 = (1 << LOW_BITS) - 1;

/// Network id (24 bits) and MAC address (48 bits).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct FdbKey {
    /// As an entry's word A: MAC, the network id's low 15 bits, and a bit that is always set.
    pub(super) a: u64,
    /// As an entry's word B with value and version zero: the network id's high 9 bits, and the valid bit.
    pub(super) b: u64,
}

impl FdbKey {
    /// Key of `mac` (48 bits, the first byte on the wire most significant) in `network` (24 bits).
    /// Higher bits are ignored.
    #[inline]
    pub const fn new(network: u32, mac: u64) -> Self {
        let network = network & NETWORK_MASK;
        Self {
            a: (mac & MAC_MASK) << 16 | ((network & LOW_MASK) as u64) << 1 | PRESENT,
            b: ((network >> LOW_BITS) as u64) << NETWORK_HIGH_SHIFT | VALID,
        }
    }

    /// This key's network and another MAC: for the packets of a bridge domain, of whose key the half is done once. The
    /// key must have been made with MAC 0.
    #[inline(always)]
    pub const fn with_mac(self, mac: u64) -> Self {
        Self { a: self.a | (mac & MAC_MASK) << 16, b: self.b }
    }

    /// The network id.
    pub const fn network(self) -> u32 {
        (self.a as u32 >> 1) & LOW_MASK | ((self.b >> NETWORK_HIGH_SHIFT) as u32) << LOW_BITS
    }

    /// The MAC address, the first byte on the wire most significant.
    pub const fn mac(self) -> u64 {
        self.a >> 16
    }

    /// The key, with each word in a register.
    ///
    /// A key that has just been put together was stored as two words. Loaded as one vector, as the compiler
    /// likes to, it comes from the cache and not from the stores on their way there, and these wait for all that came
    /// before: then one lookup's memory access does not begin before the last one's is over.
    #[inline(always)]
    pub(super) fn in_registers(self) -> Self {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            let Self { mut a, mut b } = self;
            // SAFETY: no instruction at all.
            unsafe {
                std::arch::asm!("/* {a} {b} */", a = inout(reg) a, b = inout(reg) b,
                    options(pure, nomem, nostack, preserves_flags));
            }
            Self { a, b }
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        self
    }

    /// The key's 72 bits, as two words. (One more bit is the same in all keys.)
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
            assert_eq!(FdbKey::new(network, 0).with_mac(mac | 0xffff << 48), key);
        }
    }
}
