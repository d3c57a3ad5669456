//! Ethernet II headers (IEEE 802.3, 14 bytes) and the 802.1Q/802.1ad tags that may follow the addresses.

use crate::MacAddr;

/// Bytes of an untagged Ethernet header.
pub const LEN: usize = 14;
/// Bytes that each VLAN tag adds.
pub const TAG_LEN: usize = 4;
/// Shortest frame without its FCS.
pub const MIN_FRAME: usize = 60;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// Tag protocol id of 802.1Q (customer VLAN).
pub const VLAN: u16 = 0x8100;
/// Tag protocol id of 802.1ad (service VLAN).
pub const QINQ: u16 = 0x88a8;

/// A view of the first 14 bytes of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a>(&'a [u8; LEN]);

impl<'a> Header<'a> {
    /// `None` when the frame has fewer than 14 bytes.
    #[inline]
    pub fn new(frame: &'a [u8]) -> Option<Self> {
        frame.first_chunk().map(Header)
    }

    /// Destination address.
    #[inline]
    pub fn dst(self) -> MacAddr {
        let [a, b, c, d, e, f, ..] = *self.0;
        MacAddr([a, b, c, d, e, f])
    }

    /// Source address.
    #[inline]
    pub fn src(self) -> MacAddr {
        let [_, _, _, _, _, _, a, b, c, d, e, f, ..] = *self.0;
        MacAddr([a, b, c, d, e, f])
    }

    /// The 16 bits behind the addresses: an EtherType, a tag protocol id, or below 1536 an 802.3 length.
    #[inline]
    pub fn ethertype(self) -> u16 {
        u16::from_be_bytes([self.0[12], self.0[13]])
    }
}

/// Whether the EtherType says that a VLAN tag follows.
#[inline]
pub const fn is_tag(ethertype: u16) -> bool {
    ethertype == VLAN || ethertype == QINQ
}

/// Walks over at most two VLAN tags. Gives the EtherType behind them and the offset of what it announces.
///
/// A third tag, or a tag that the frame cuts off, is reported as the EtherType: what follows is not looked at.
/// `None` when the frame has fewer than 14 bytes.
#[inline]
pub fn skip_tags(frame: &[u8]) -> Option<(u16, usize)> {
    let mut ethertype = Header::new(frame)?.ethertype();
    let mut payload = LEN;
    for _ in 0..2 {
        if !is_tag(ethertype) {
            break;
        }
        let Some(&[_, _, a, b]) = frame.get(payload..).and_then(|rest| rest.first_chunk::<TAG_LEN>()) else {
            break;
        };
        ethertype = u16::from_be_bytes([a, b]);
        payload += TAG_LEN;
    }
    Some((ethertype, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x08, 0x06, 0, 1];

    #[test]
    fn fields() {
        let header = Header::new(&FRAME).unwrap();
        assert_eq!(header.dst(), MacAddr([1, 2, 3, 4, 5, 6]));
        assert_eq!(header.src(), MacAddr([7, 8, 9, 10, 11, 12]));
        assert_eq!(header.ethertype(), ARP);
    }

    #[test]
    fn too_short_at_every_length() {
        for len in 0..LEN {
            assert!(Header::new(&FRAME[..len]).is_none());
            assert!(skip_tags(&FRAME[..len]).is_none());
        }
        assert_eq!(skip_tags(&FRAME[..LEN]), Some((ARP, LEN)));
    }

    #[test]
    fn tags() {
        let stack = |tags: &[u16], last: u16| {
            let mut frame = vec![0u8; 12];
            for tag in tags {
                frame.extend(tag.to_be_bytes());
                frame.extend([0, 7]);
            }
            frame.extend(last.to_be_bytes());
            frame
        };
        assert_eq!(skip_tags(&stack(&[], IPV4)), Some((IPV4, 14)));
        assert_eq!(skip_tags(&stack(&[VLAN], IPV4)), Some((IPV4, 18)));
        assert_eq!(skip_tags(&stack(&[QINQ, VLAN], IPV6)), Some((IPV6, 22)));
        assert_eq!(skip_tags(&stack(&[QINQ, VLAN, VLAN], IPV6)), Some((VLAN, 22)));
        // The frame ends inside the tag: the tag itself is all that is known.
        assert_eq!(skip_tags(&stack(&[VLAN], IPV4)[..17]), Some((VLAN, 14)));
        assert_eq!(skip_tags(&stack(&[QINQ, VLAN], IPV4)[..21]), Some((VLAN, 18)));
    }
}
