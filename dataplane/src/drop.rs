//! Why a packet died: one name and one counter for every way a frame can leave the switch without being sent.
//!
//! The names are part of the interface: `weftctl drops` prints them, tests and alerts match on them. A new reason is
//! added to the table below and nowhere else.

/// Declares the reasons once: variant, kebab-case name, and the sentence that tells an operator what happened.
macro_rules! drop_reasons {
    ($($variant:ident, $name:literal, $text:literal;)*) => {
        /// The reason a frame was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason { $(#[doc = $text] $variant,)* }

        impl DropReason {
            /// Every reason, in the order of its discriminant.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant,)*];

            /// The stable kebab-case name.
            pub fn name(self) -> &'static str {
                match self { $(DropReason::$variant => $name,)* }
            }

            /// One sentence for an operator: what happened and, where it helps, what to look at.
            pub fn explain(self) -> &'static str {
                match self { $(DropReason::$variant => $text,)* }
            }
        }
    };
}

drop_reasons! {
    // Frames from VMs and other local ports.
    BadDescriptor, "bad-descriptor", "The VM's driver described a frame wrongly: outside of the VM's memory, as an endless chain, empty, or larger than 64 KB.";
    NoRxMbuf, "no-rx-mbuf", "The port's packet buffers ran out in the middle of a frame that needs several: raise the port's queue_mbufs.";
    Runt, "runt", "The frame was shorter than an Ethernet header (14 bytes).";
    SourceMulticast, "source-multicast", "The source MAC was a group address, which no sender may use (IEEE 802-2014 8.2).";
    ReservedMulticast, "reserved-multicast", "The destination was in 01:80:c2:00:00:00-0f, which bridges must not forward (IEEE 802.1Q 8.6.3).";
    ExceedsMaxFrame, "exceeds-max-frame", "A local port sent a frame longer than any that weft carries (9,238 bytes).";
    SamePort, "same-port", "The FDB leads back to the port that the frame came from.";
    NoFloodMember, "no-flood-member", "Broadcast, multicast or unknown unicast in a bridge domain with no other port that is up and no VTEP to go to.";
    FloodLimit, "flood-limit", "More copies were asked for in one burst than one port may cause: a broadcast storm, or a very large bridge domain.";
    InnerVlan, "inner-vlan", "A VLAN-tagged frame was to go into a VXLAN tunnel or came out of one, and the bridge domain does not say inner_vlan = \"keep\" (RFC 7348 6.1).";
    ExceedsPortMtu, "exceeds-port-mtu", "The frame is longer than the destination port takes.";
    ExceedsUnderlayMtu, "exceeds-underlay-mtu", "The encapsulated frame is longer than the uplink's MTU: lower the VM's MTU or raise the underlay's.";
    NoVni, "no-vni", "The frame was to be sent to a VTEP, but its bridge domain has no VNI.";

    // Tunnel packets from the underlay.
    NotOurMac, "not-our-mac", "A unicast frame on the uplink was addressed to another MAC.";
    OuterBadIpHeader, "outer-bad-ip-header", "The outer IPv4 header was malformed.";
    OuterBadIpChecksum, "outer-bad-ip-checksum", "The outer IPv4 header checksum was wrong.";
    OuterBadIpLength, "outer-bad-ip-length", "The outer IPv4 length did not agree with the bytes received.";
    OuterFragment, "outer-fragment", "A fragment of a tunnel packet: weft does not reassemble, raise the underlay's MTU.";
    OuterBadUdpLength, "outer-bad-udp-length", "The outer UDP length did not agree with the IPv4 length.";
    OuterBadUdpChecksum, "outer-bad-udp-checksum", "The outer UDP checksum was not zero and was wrong.";
    VxlanTruncated, "vxlan-truncated", "The packet ended within its VXLAN header.";
    VxlanNoVni, "vxlan-no-vni", "The VXLAN I flag was not set, so the packet has no valid VNI (RFC 7348 5).";
    GeneveTruncated, "geneve-truncated", "The packet ended within its GENEVE header or options.";
    GeneveVersion, "geneve-version", "The GENEVE version was not 0 (RFC 8926 3.4).";
    GeneveCriticalOption, "geneve-critical-option", "A GENEVE option marked critical is not known to weft (RFC 8926 3.5).";
    GeneveControl, "geneve-control", "A GENEVE control packet (O bit): weft speaks no control protocol over GENEVE.";
    GeneveNotEthernet, "geneve-not-ethernet", "The GENEVE payload was not an Ethernet frame (protocol type 0x6558).";
    InnerRunt, "inner-runt", "The frame inside the tunnel was shorter than an Ethernet header.";
    EcnNotCapable, "ecn-not-capable", "The underlay marked congestion on a packet whose inner transport does not know ECN: it is dropped as its only signal (RFC 6040 4.2).";
    UnknownVni, "unknown-vni", "No bridge domain has this VNI.";
    UnknownVtep, "unknown-vtep", "The tunnel packet came from an address that is not a VTEP of its bridge domain.";
    SplitHorizon, "split-horizon", "A frame from a tunnel would have gone to a tunnel: VTEPs form a full mesh, so it is not forwarded again.";

    // Next hops and queues.
    NoLocalMember, "no-local-member", "A frame from a tunnel found no local port of its bridge domain that is up.";
    PortNotReady, "port-not-ready", "The destination port has no enabled receive queue: the VM is down, or its driver is not loaded.";
    PortGone, "port-gone", "The destination port was removed while the frame was on its way.";
    NextHopGone, "next-hop-gone", "The FDB entry's next hop was removed while the frame was on its way.";
    TxQueueFull, "tx-queue-full", "The destination's transmit queue was full: the VM or the wire is slower than what is sent to it.";
    HandoffFull, "handoff-full", "The ring to the worker that owns the destination queue had no place left for this sender.";
    NoMbuf, "no-mbuf", "The sender's packet buffers were all in use, so a copy could not be made.";
    NoHeadroom, "no-headroom", "There was no room to put the outer header in front of the frame.";
    NotLinear, "not-linear", "The headers were spread over several buffers and could not be joined.";

    // The slow path.
    PuntFull, "punt-full", "The queue to the control thread was full: more packets for the host than it takes.";
    NeighborQueueFull, "neighbor-queue-full", "More packets than are held (8 of a sender, 32 in all) waited for the VTEP's ARP resolution.";
    NeighborUnresolved, "neighbor-unresolved", "The VTEP's next hop did not answer ARP.";
    EchoRateLimit, "echo-rate-limit", "More ICMP echo requests for the VTEP address than weft answers (1,000 a second).";
    ExceptionRateLimit, "exception-rate-limit", "Traffic for the host's kernel exceeded the uplink's exception_pps.";
    ExceptionNoTap, "exception-no-tap", "Traffic for the host's kernel, but the uplink has no tap.";
    ExceptionTapFull, "exception-tap-full", "The kernel did not take the frame from the tap.";
    ArpInvalid, "arp-invalid", "A malformed ARP packet, or one that claims weft's own VTEP address.";
    InjectFull, "inject-full", "A frame that weft or its host's kernel originated found the worker's queue full.";
}

/// Number of reasons, for counter arrays indexed by `reason as usize`.
pub const REASONS: usize = DropReason::ALL.len();

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_kebab_case() {
        let mut seen = HashSet::new();
        for (i, r) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*r as usize, i);
            assert!(seen.insert(r.name()), "{} appears twice", r.name());
            assert!(r.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", r.name());
            assert!(r.explain().ends_with('.') || r.explain().ends_with(')'));
        }
    }
}
