//! 48-bit MAC addresses (IEEE 802).

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A MAC address, its six bytes in the order in which they are sent.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

/// The text was not six two-digit hexadecimal bytes separated by colons or by hyphens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a MAC address: expected six hexadecimal bytes such as 02:00:00:00:00:01")]
pub struct ParseMacError;

impl MacAddr {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);
    /// `00:00:00:00:00:00`, which no station has.
    pub const ZERO: MacAddr = MacAddr([0; 6]);

    /// Group address: multicast or broadcast (the I/G bit, the first one sent, is set).
    #[inline]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// The all-ones address.
    #[inline]
    pub const fn is_broadcast(self) -> bool {
        self.to_u64() == 0xffff_ffff_ffff
    }

    /// The all-zeroes address.
    #[inline]
    pub const fn is_zero(self) -> bool {
        self.to_u64() == 0
    }

    /// `01:80:c2:00:00:00` to `01:80:c2:00:00:0f`: IEEE 802.1Q table 8-1, frames that a bridge never forwards
    /// (STP, pause, LACP, LLDP).
    #[inline]
    pub const fn is_link_local_group(self) -> bool {
        self.to_u64() & !0xf == 0x0180_c200_0000
    }

    /// The address as a 48-bit number; the first byte sent is the most significant one.
    #[inline]
    pub const fn to_u64(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// The inverse of [`MacAddr::to_u64`]; the upper 16 bits are ignored.
    #[inline]
    pub const fn from_u64(value: u64) -> MacAddr {
        let [_, _, a, b, c, d, e, f] = value.to_be_bytes();
        MacAddr([a, b, c, d, e, f])
    }
}

impl From<[u8; 6]> for MacAddr {
    fn from(bytes: [u8; 6]) -> Self {
        MacAddr(bytes)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = ParseMacError;

    /// Reads `02:00:00:00:00:01` or `02-00-00-00-00-01`, in either letter case.
    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let text: &[u8; 17] = text.as_bytes().try_into().map_err(|_| ParseMacError)?;
        let separator = text[2];
        if separator != b':' && separator != b'-' {
            return Err(ParseMacError);
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(ParseMacError);
        let mut bytes = [0u8; 6];
        for (i, byte) in bytes.iter_mut().enumerate() {
            if i > 0 && text[3 * i - 1] != separator {
                return Err(ParseMacError);
            }
            *byte = (digit(text[3 * i])? << 4 | digit(text[3 * i + 1])?) as u8;
        }
        Ok(MacAddr(bytes))
    }
}

impl Serialize for MacAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = MacAddr;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a MAC address such as \"02:00:00:00:00:01\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<MacAddr, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_both_ways() {
        let mac = MacAddr([0x02, 0, 0, 0xab, 0xcd, 0xef]);
        assert_eq!(mac.to_string(), "02:00:00:ab:cd:ef");
        assert_eq!("02:00:00:ab:CD:ef".parse(), Ok(mac));
        assert_eq!("02-00-00-ab-cd-ef".parse(), Ok(mac));
        for wrong in [
            "",
            "02:00:00:ab:cd",
            "02:00:00:ab:cd:e",
            "02:00:00:ab:cd:efa",
            "02:00-00:ab:cd:ef",
            "02:00:00:ab:cd:eg",
            "0x:00:00:ab:cd:ef",
            "+2:00:00:ab:cd:ef",
            "020000abcdef",
            "02.00.00.ab.cd.ef",
            "02:00:00:ab:cd:\u{e9}",
        ] {
            assert_eq!(wrong.parse::<MacAddr>(), Err(ParseMacError), "{wrong}");
        }
    }

    #[test]
    fn number_both_ways() {
        let mac = MacAddr([1, 2, 3, 4, 5, 6]);
        assert_eq!(mac.to_u64(), 0x0102_0304_0506);
        assert_eq!(MacAddr::from_u64(0xffff_0102_0304_0506), mac);
        assert!(MacAddr([1, 0, 0, 0, 0, 0]) < MacAddr([2, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn kinds() {
        let mac = |text: &str| text.parse::<MacAddr>().unwrap();
        assert!(mac("01:00:5e:00:00:01").is_multicast());
        assert!(!mac("02:00:5e:00:00:01").is_multicast());
        assert!(MacAddr::BROADCAST.is_broadcast() && MacAddr::BROADCAST.is_multicast());
        assert!(!mac("ff:ff:ff:ff:ff:fe").is_broadcast());
        assert!(MacAddr::ZERO.is_zero() && !mac("00:00:00:00:00:01").is_zero());
        assert!(mac("01:80:c2:00:00:00").is_link_local_group());
        assert!(mac("01:80:c2:00:00:0f").is_link_local_group());
        assert!(!mac("01:80:c2:00:00:10").is_link_local_group());
        assert!(!mac("01:80:c2:00:01:00").is_link_local_group());
    }

    #[test]
    fn serde_uses_the_text() {
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        assert_eq!(serde_json::to_string(&mac).unwrap(), "\"02:00:00:00:00:01\"");
        assert_eq!(serde_json::from_str::<MacAddr>("\"02:00:00:00:00:01\"").unwrap(), mac);
        assert!(serde_json::from_str::<MacAddr>("\"02:00\"").is_err());
        assert!(serde_json::from_str::<MacAddr>("2").is_err());
    }
}
