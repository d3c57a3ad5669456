//! GENEVE headers (RFC 8926 section 3.4) and their options (section 3.5).
//!
//! weft sends the 8-byte base header without options. It knows no options, so on receipt it skips those that
//! may be skipped and refuses packets that carry a critical one.

use crate::Vni;

/// Bytes of the base header.
pub const LEN: usize = 8;
/// Most bytes of options that the 6-bit length can announce.
pub const MAX_OPTIONS_LEN: usize = 63 * 4;
/// Protocol type of an Ethernet frame ("Transparent Ethernet Bridging").
pub const ETHERNET: u16 = 0x6558;

/// A view of the 8-byte base header.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a>(&'a [u8; LEN]);

impl<'a> Header<'a> {
    /// `None` when there are fewer than 8 bytes.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        bytes.first_chunk().map(Header)
    }

    /// Version: 0 is the only one known; others MUST be dropped.
    #[inline]
    pub fn version(self) -> u8 {
        self.0[0] >> 6
    }

    /// Bytes of options behind the base header: 0 to 252.
    #[inline]
    pub fn options_len(self) -> usize {
        usize::from(self.0[0] & 0x3f) * 4
    }

    /// The O bit: a control message for the endpoint, whose payload MUST NOT be forwarded.
    #[inline]
    pub fn is_control(self) -> bool {
        self.0[1] & 0x80 != 0
    }

    /// The C bit: at least one option is critical.
    #[inline]
    pub fn has_critical(self) -> bool {
        self.0[1] & 0x40 != 0
    }

    /// EtherType of the payload.
    #[inline]
    pub fn protocol(self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }

    /// The virtual network identifier.
    #[inline]
    pub fn vni(self) -> Vni {
        Vni::from_be_bytes([self.0[4], self.0[5], self.0[6]])
    }
}

/// What is wrong with a list of options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionsError {
    /// An option reaches beyond the announced length of all options.
    Truncated,
    /// An option has the critical bit in its type, and weft knows none.
    Critical,
}

/// Walks the options, `options` being exactly the bytes that the base header announces.
///
/// RFC 8926 section 3.5: each has a 4-byte header (class, type with the critical bit on top, three reserved bits
/// and a 5-bit length in words that does not count the header itself), and the lengths must add up exactly.
#[inline]
pub fn check_options(options: &[u8]) -> Result<(), OptionsError> {
    let mut rest = options;
    while !rest.is_empty() {
        let &[_, _, kind, length] = rest.first_chunk::<4>().ok_or(OptionsError::Truncated)?;
        if kind & 0x80 != 0 {
            return Err(OptionsError::Critical);
        }
        rest = rest.get(4 + usize::from(length & 0x1f) * 4..).ok_or(OptionsError::Truncated)?;
    }
    Ok(())
}

/// The header as it is sent: version 0, no options, an Ethernet frame inside.
#[inline]
pub const fn header(vni: Vni) -> [u8; LEN] {
    let [a, b, c] = vni.to_be_bytes();
    let [p, q] = ETHERNET.to_be_bytes();
    [0, 0, p, q, a, b, c, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_and_read() {
        let bytes = header(Vni::new(0x12_3456).unwrap());
        assert_eq!(bytes, [0, 0, 0x65, 0x58, 0x12, 0x34, 0x56, 0]);
        let header = Header::new(&bytes).unwrap();
        assert_eq!((header.version(), header.options_len(), header.protocol()), (0, 0, ETHERNET));
        assert_eq!(header.vni().get(), 0x12_3456);
        assert!(!header.is_control() && !header.has_critical());
    }

    #[test]
    fn each_bit_field() {
        let header = |bytes: &'static [u8; 8]| Header::new(bytes).unwrap();
        assert_eq!(header(&[0xc0, 0, 0, 0, 0, 0, 0, 0]).version(), 3);
        assert_eq!(header(&[0x3f, 0, 0, 0, 0, 0, 0, 0]).options_len(), MAX_OPTIONS_LEN);
        assert!(header(&[0, 0x80, 0, 0, 0, 0, 0, 0]).is_control());
        assert!(header(&[0, 0x40, 0, 0, 0, 0, 0, 0]).has_critical());
        assert!(!header(&[0, 0x3f, 0, 0, 0, 0, 0, 0]).is_control());
        assert!(!header(&[0, 0x3f, 0, 0, 0, 0, 0, 0]).has_critical());
        for len in 0..LEN {
            assert!(Header::new(&[0; LEN][..len]).is_none());
        }
    }

    #[test]
    fn options() {
        use OptionsError::{Critical, Truncated};
        let table: [(&[u8], Result<(), OptionsError>); 11] = [
            (&[], Ok(())),
            (&[1, 2, 3, 0], Ok(())),
            (&[1, 2, 3, 1, 9, 9, 9, 9], Ok(())),
            (&[1, 2, 3, 0xe0], Ok(())), // reserved bits are ignored
            (&[1, 2, 3, 1, 9, 9, 9, 9, 1, 2, 4, 0], Ok(())),
            (&[1, 2, 0x83, 0], Err(Critical)),
            (&[1, 2, 3, 1, 9, 9, 0x80, 9, 1, 2, 0x80, 0], Err(Critical)),
            (&[1, 2, 3, 1, 9, 9, 0x80, 9], Ok(())), // data of an option is not a type
            (&[1, 2, 3, 1], Err(Truncated)),
            (&[1, 2, 3, 31, 0, 0, 0, 0], Err(Truncated)),
            (&[1, 2, 3, 0, 1, 2], Err(Truncated)),
        ];
        for (options, expected) in table {
            assert_eq!(check_options(options), expected, "{options:?}");
        }
        // The largest list there is: two options of 31 words and nothing to spare.
        let mut all = [0u8; MAX_OPTIONS_LEN];
        all[3] = 31;
        all[128 + 3] = 30;
        assert_eq!(check_options(&all), Ok(()));
        all[128 + 3] = 31;
        assert_eq!(check_options(&all), Err(Truncated));
    }
}
