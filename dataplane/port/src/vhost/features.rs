//! Virtio feature bits (Virtual I/O Device specification 1.2, sections 5.1.3 and 6) and which of them weft withholds.

macro_rules! bits {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        $($(#[$doc])* pub const $name: u64 = 1 << $bit;)*

        /// Every bit above with its name.
        const NAMES: &[(u64, &str)] = &[$(($name, stringify!($name))),*];
    };
}

bits! {
    /// The device completes partial checksums of what the guest sends.
    CSUM = 0;
    /// The guest takes packets with partial checksums.
    GUEST_CSUM = 1;
    /// The device tells its MTU. librte_vhost passes on what the front-end offers.
    MTU = 3;
    /// The device computes checksums and segments whatever the guest sends (legacy).
    GSO = 6;
    /// The guest takes large TCP segments over IPv4.
    GUEST_TSO4 = 7;
    /// The guest takes large TCP segments over IPv6.
    GUEST_TSO6 = 8;
    /// The guest takes large TCP segments with ECN.
    GUEST_ECN = 9;
    /// The guest takes large UDP datagrams.
    GUEST_UFO = 10;
    /// The device segments TCP over IPv4.
    HOST_TSO4 = 11;
    /// The device segments TCP over IPv6.
    HOST_TSO6 = 12;
    /// The device segments TCP with ECN.
    HOST_ECN = 13;
    /// The device fragments UDP.
    HOST_UFO = 14;
    /// A packet may be spread over several receive buffers.
    MRG_RXBUF = 15;
    /// There is a control queue (which the front-end serves).
    CTRL_VQ = 17;
    /// Several queue pairs.
    MQ = 22;
    /// vhost-user's own: the back-end logs what it writes (migration).
    LOG_ALL = 26;
    /// Descriptors may stand in a table of their own.
    RING_INDIRECT_DESC = 28;
    /// Notifications by index.
    RING_EVENT_IDX = 29;
    /// vhost-user's own: there are protocol features, and rings start disabled.
    PROTOCOL_FEATURES = 30;
    /// The device follows version 1 of the specification.
    VERSION_1 = 32;
    /// The device reads memory through an IOMMU.
    IOMMU_PLATFORM = 33;
    /// Packed rings.
    RING_PACKED = 34;
    /// Buffers are used in the order in which they were made available.
    IN_ORDER = 35;
    /// The guest fragments large UDP datagrams by itself.
    GUEST_USO4 = 54;
    /// Likewise over IPv6.
    GUEST_USO6 = 55;
    /// The device segments UDP.
    HOST_USO = 56;
}

/// Offloads that weft's path does not implement: a frame with a partial checksum or beyond the MTU must never come
/// from a guest or reach one.
pub const OFFLOADS: u64 = CSUM
    | GUEST_CSUM
    | GSO
    | GUEST_TSO4
    | GUEST_TSO6
    | GUEST_ECN
    | GUEST_UFO
    | HOST_TSO4
    | HOST_TSO6
    | HOST_ECN
    | HOST_UFO
    | GUEST_USO4
    | GUEST_USO6
    | HOST_USO;

/// What to withhold from a port: the offloads, packed rings unless they are asked for (a guest cannot go on with
/// one after its back-end was killed), and several queues where there is one pair only (a guest would otherwise
/// spread its packets over rings that nobody polls).
pub(super) fn withheld(queue_pairs: u16, packed: bool) -> u64 {
    OFFLOADS | IOMMU_PLATFORM | if packed { 0 } else { RING_PACKED } | if queue_pairs > 1 { 0 } else { MQ }
}

/// Names of the bits in a feature word, in the specification's order; unknown bits by number.
pub fn names(features: u64) -> Vec<String> {
    (0..64)
        .filter(|bit| features & (1 << bit) != 0)
        .map(|bit| match NAMES.iter().find(|(value, _)| *value == 1 << bit) {
            Some((_, name)) => (*name).to_owned(),
            None => format!("bit {bit}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offload_of_the_specification_is_withheld() {
        // Section 5.1.3: bits 0, 1, 6 to 14 and 54 to 56 are about checksums and segmentation.
        let spec: u64 =
            [0, 1, 6, 7, 8, 9, 10, 11, 12, 13, 14, 54, 55, 56].iter().map(|bit| 1u64 << bit).sum();
        assert_eq!(OFFLOADS, spec);
        for (pairs, packed) in [(1, false), (1, true), (4, false), (4, true)] {
            let withheld = withheld(pairs, packed);
            assert_eq!(withheld & spec, spec);
            assert_eq!(withheld & RING_PACKED == 0, packed);
            assert_eq!(withheld & MQ == 0, pairs > 1);
            assert_eq!(withheld & (MRG_RXBUF | MTU | VERSION_1 | PROTOCOL_FEATURES), 0);
        }
    }

    #[test]
    fn bits_have_names() {
        assert_eq!(names(MRG_RXBUF | CSUM | 1 << 60), ["CSUM", "MRG_RXBUF", "bit 60"]);
    }
}
