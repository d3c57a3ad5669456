//! Virtual network identifiers: 24 bits in VXLAN (RFC 7348 section 5) and in GENEVE (RFC 8926 section 3.3).

use serde::{Deserialize, Serialize};
use std::fmt;

/// A 24-bit virtual network identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(u32);

/// The number does not fit into 24 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("VNI {0} is out of range: it has 24 bits (0 to 16777215)")]
pub struct VniOutOfRange(pub u32);

impl Vni {
    /// The largest VNI, 2^24 - 1.
    pub const MAX: Vni = Vni(0xff_ffff);

    /// `None` when `value` needs more than 24 bits.
    #[inline]
    pub const fn new(value: u32) -> Option<Vni> {
        if value <= Self::MAX.0 { Some(Vni(value)) } else { None }
    }

    /// The number.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The three bytes as they lie on the wire, most significant first.
    #[inline]
    pub const fn to_be_bytes(self) -> [u8; 3] {
        let [_, a, b, c] = self.0.to_be_bytes();
        [a, b, c]
    }

    /// From the three bytes on the wire; every value is a VNI.
    #[inline]
    pub const fn from_be_bytes([a, b, c]: [u8; 3]) -> Vni {
        Vni(u32::from_be_bytes([0, a, b, c]))
    }
}

impl TryFrom<u32> for Vni {
    type Error = VniOutOfRange;

    fn try_from(value: u32) -> Result<Self, VniOutOfRange> {
        Vni::new(value).ok_or(VniOutOfRange(value))
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> u32 {
        vni.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_24_bits() {
        assert_eq!(Vni::new(0).unwrap().get(), 0);
        assert_eq!(Vni::new(0xff_ffff), Some(Vni::MAX));
        assert_eq!(Vni::new(0x100_0000), None);
        assert_eq!(Vni::new(u32::MAX), None);
    }

    #[test]
    fn bytes_are_big_endian() {
        let vni = Vni::new(0x01_0203).unwrap();
        assert_eq!(vni.to_be_bytes(), [1, 2, 3]);
        assert_eq!(Vni::from_be_bytes([1, 2, 3]), vni);
    }

    #[test]
    fn serde_checks_the_range() {
        assert_eq!(serde_json::to_string(&Vni::MAX).unwrap(), "16777215");
        assert_eq!(serde_json::from_str::<Vni>("100").unwrap().get(), 100);
        let error = serde_json::from_str::<Vni>("16777216").unwrap_err().to_string();
        assert!(error.contains("24 bits"), "{error}");
    }
}
