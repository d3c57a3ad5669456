//! VXLAN headers (RFC 7348 section 5): flags, three reserved bytes, VNI, one reserved byte.

use crate::Vni;

/// Bytes of the header.
pub const LEN: usize = 8;

/// The I flag: the VNI is valid.
const VNI_PRESENT: u8 = 0x08;

/// A view of a VXLAN header.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a>(&'a [u8; LEN]);

impl<'a> Header<'a> {
    /// `None` when there are fewer than 8 bytes.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        bytes.first_chunk().map(Header)
    }

    /// The I flag, which must be set for the VNI to mean anything. All other flags are reserved and "MUST be
    /// ignored on receipt" (RFC 7348 section 5), so there is no accessor for them.
    #[inline]
    pub fn has_vni(self) -> bool {
        self.0[0] & VNI_PRESENT != 0
    }

    /// The VXLAN network identifier.
    #[inline]
    pub fn vni(self) -> Vni {
        Vni::from_be_bytes([self.0[4], self.0[5], self.0[6]])
    }
}

/// The header as it is sent: I flag set, everything reserved zero.
#[inline]
pub const fn header(vni: Vni) -> [u8; LEN] {
    let [a, b, c] = vni.to_be_bytes();
    [VNI_PRESENT, 0, 0, 0, a, b, c, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_and_read() {
        let bytes = header(Vni::new(0x12_3456).unwrap());
        assert_eq!(bytes, [0x08, 0, 0, 0, 0x12, 0x34, 0x56, 0]);
        let header = Header::new(&bytes).unwrap();
        assert!(header.has_vni());
        assert_eq!(header.vni().get(), 0x12_3456);
    }

    #[test]
    fn reserved_bits_change_nothing() {
        let header = Header::new(&[0xff, 0xff, 0xff, 0xff, 0, 0, 1, 0xff]).unwrap();
        assert!(header.has_vni());
        assert_eq!(header.vni().get(), 1);
        assert!(!Header::new(&[0xf7, 0, 0, 0, 0, 0, 1, 0]).unwrap().has_vni());
    }

    #[test]
    fn too_short_at_every_length() {
        for len in 0..LEN {
            assert!(Header::new(&[0xff; LEN][..len]).is_none());
        }
    }
}
