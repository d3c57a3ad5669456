//! The forwarding tables as a worker sees them: one published snapshot, the FDB, and the next-hop slots.
//!
//! ```text
//!   ingress port --> PortEntry.bd --> Bd --(network id, MAC)--> Fdb --> NextHopId --+--> local port  --> TxRoute
//!   VNI of tunnel --> vnis --------^                                                +--> VtepNextHop --> Template
//! ```
//!
//! [`Tables`] is rebuilt and swapped whole when intent changes (ports, bridge domains, VTEPs: thousands at most). The
//! FDB (millions) and the next-hop slots (a VTEP's MAC or route) change in place, each in O(1), and are not in it.

use crate::{MAX_PORTS, MAX_VTEPS};
use arrayvec::ArrayVec;
use hashbrown::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use weft_tables::fdb::{Fdb, MISS};
use weft_tables::{Published, SlotTable};
use weft_wire::{LocalVtep, Template, Vni};

/// Most receive queues, and so transmit queues, of one port.
pub const MAX_QUEUES: usize = 8;

/// What an FDB entry's 32-bit value means.
///
/// A local port is encoded in the value itself, so that VM-to-VM frames need no further table: bit 31 clear, then the
/// port's generation (15 bits), the mark (2 bits) and the slot (14 bits). A VTEP has bit 31 set, and mark and slot below.
///
/// The mark is nothing to workers. Control notes in it who made an entry, so that the table is the one record of its
/// entries, however many there are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NextHopId(u32);

/// A [`NextHopId`] taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hop {
    /// A local port and the generation that the entry was made for.
    Port {
        /// The port's slot.
        slot: u16,
        /// The generation; a frame for another generation of the slot is dropped.
        generation: u16,
    },
    /// A remote VTEP's slot in the next-hop table.
    Vtep(u16),
    /// Not in the FDB.
    Miss,
}

impl NextHopId {
    const VTEP: u32 = 1 << 31;
    const SLOT: u32 = (1 << Self::MARK_SHIFT) - 1;
    const MARK_SHIFT: u32 = 14;
    const MARK: u32 = 3 << Self::MARK_SHIFT;

    /// The id of a local port, with mark 0.
    pub fn port(slot: u16, generation: u16) -> Self {
        Self(u32::from(generation & 0x7fff) << 16 | u32::from(slot) & Self::SLOT)
    }

    /// The id of a VTEP's slot, with mark 0.
    pub fn vtep(slot: u16) -> Self {
        Self(Self::VTEP | u32::from(slot) & Self::SLOT)
    }

    /// The id with another mark, of which two bits count.
    pub fn marked(self, mark: u8) -> Self {
        Self(self.0 & !Self::MARK | u32::from(mark) << Self::MARK_SHIFT & Self::MARK)
    }

    /// The mark.
    pub fn mark(self) -> u8 {
        ((self.0 & Self::MARK) >> Self::MARK_SHIFT) as u8
    }

    /// The value stored in the FDB.
    pub fn raw(self) -> u32 {
        self.0
    }

    /// The id of which `raw` is the value.
    pub fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// Reads a value that an FDB lookup returned.
    #[inline]
    pub fn decode(raw: u32) -> Hop {
        if raw & Self::VTEP == 0 {
            Hop::Port { slot: (raw & Self::SLOT) as u16, generation: (raw >> 16) as u16 }
        } else if raw == MISS {
            Hop::Miss
        } else {
            Hop::Vtep((raw & Self::SLOT) as u16)
        }
    }
}

/// One transmit queue: who owns it and how it is named everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxqId(u16);

impl TxqId {
    /// The queue `queue` of the port in `slot`.
    pub fn new(slot: u16, queue: u16) -> Self {
        debug_assert!(usize::from(slot) < MAX_PORTS && usize::from(queue) < MAX_QUEUES);
        Self(slot * MAX_QUEUES as u16 + queue)
    }

    /// Index into arrays of `MAX_PORTS * MAX_QUEUES`.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The port's slot.
    #[inline]
    pub fn slot(self) -> u16 {
        self.0 / MAX_QUEUES as u16
    }
}

/// How one worker reaches a port: the owner of the queues, and the queues. Empty when the port takes nothing now.
#[derive(Clone, Debug, Default)]
pub struct TxRoute {
    /// The worker that owns all of `queues`.
    pub owner: u16,
    /// Queues to spread flows over.
    pub queues: ArrayVec<TxqId, MAX_QUEUES>,
}

/// A port as the packet path needs it.
#[derive(Clone, Debug)]
pub struct PortEntry {
    /// Which life of the slot this is.
    pub generation: u16,
    /// Index into [`Tables::bds`]; unused for the uplink.
    pub bd: u32,
    /// Longest frame that the port takes, in bytes from the destination MAC on, without FCS.
    pub max_frame: u32,
    /// By worker.
    pub routes: Vec<TxRoute>,
}

/// A bridge domain as the packet path needs it.
#[derive(Clone, Debug)]
pub struct Bd {
    /// Key of the BD's entries in the FDB (24 bits), never reused while entries are left.
    pub network: u32,
    /// Absent for a BD that lives on this host alone.
    pub vni: Option<Vni>,
    /// Whether VLAN-tagged frames cross VXLAN tunnels.
    pub keep_inner_vlan: bool,
    /// Ports of the BD that are up, where BUM traffic goes.
    pub members: Vec<u16>,
    /// VTEP slots, for head-end replication and to accept tunnel packets from.
    pub vteps: Vec<u16>,
    /// The same as a bit set, for the check on receive.
    pub vtep_set: VtepSet,
}

/// A set of VTEP slots.
#[derive(Clone, Debug, Default)]
pub struct VtepSet(Vec<u64>);

impl VtepSet {
    /// Adds a slot.
    pub fn insert(&mut self, vtep: u16) {
        let word = usize::from(vtep) / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (vtep % 64);
    }

    /// Whether the slot is in the set.
    #[inline]
    pub fn contains(&self, vtep: u16) -> bool {
        self.0.get(usize::from(vtep) / 64).is_some_and(|w| w >> (vtep % 64) & 1 == 1)
    }
}

/// The uplink as the packet path needs it.
#[derive(Clone, Debug)]
pub struct Uplink {
    /// Its port slot.
    pub slot: u16,
    /// Addresses and UDP ports that make a frame weft's own.
    pub local: LocalVtep,
    /// Longest frame it takes, in bytes from the destination MAC on, without FCS.
    pub max_frame: u32,
}

/// One generation of the switch's intent, compiled. Published whole; workers load it once a round.
#[derive(Debug, Default)]
pub struct Tables {
    /// Counts up with every publication.
    pub generation: u64,
    /// By port slot.
    pub ports: Vec<Option<PortEntry>>,
    /// Bridge domains, dense.
    pub bds: Vec<Bd>,
    /// VNI to index into `bds`.
    pub vnis: HashMap<u32, u32>,
    /// A remote VTEP's address to its slot.
    pub vteps: HashMap<Ipv4Addr, u16>,
    /// The uplink.
    pub uplink: Option<Uplink>,
}

impl Tables {
    /// The port in a slot.
    #[inline]
    pub fn port(&self, slot: u16) -> Option<&PortEntry> {
        self.ports.get(usize::from(slot))?.as_ref()
    }
}

/// A remote VTEP's next hop: changes in place when its MAC is resolved or lost.
#[derive(Debug, Clone)]
pub struct VtepNextHop {
    /// Its address.
    pub ip: Ipv4Addr,
    /// The outer headers; `None` while the next hop's MAC is unknown.
    pub template: Option<Template>,
    /// Whether routers may fragment the outer packet, which then needs an identification of its own (RFC 6864 4.1).
    pub may_fragment: bool,
    /// Whether it is VXLAN, where RFC 7348 6.1 speaks about inner VLAN tags.
    pub vxlan: bool,
}

/// Everything that workers read, shared with the control thread that writes it.
#[derive(Clone)]
pub struct Forwarding {
    /// The compiled intent.
    pub tables: Arc<Published<Tables>>,
    /// (network, MAC) to next hop.
    pub fdb: Arc<Fdb>,
    /// VTEP slots.
    pub vteps: Arc<SlotTable<VtepNextHop>>,
}

const _: () = assert!(MAX_PORTS * MAX_QUEUES <= 1 << 16, "a TxqId holds every queue");
const _: () = assert!(MAX_VTEPS <= 1 << NextHopId::MARK_SHIFT, "a next hop holds every VTEP's slot");
const _: () = assert!(MAX_PORTS <= 1 << NextHopId::MARK_SHIFT, "a next hop holds every port's slot");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_hop_ids_survive_the_round_trip() {
        for (slot, mark) in [0, 1, 1055, 16383].into_iter().flat_map(|s| (0..4).map(move |m| (s, m))) {
            for generation in [0, 1, 0x7fff] {
                let id = NextHopId::port(slot, generation).marked(mark);
                assert_eq!(NextHopId::decode(id.raw()), Hop::Port { slot, generation });
                assert_eq!((id.mark(), id.marked(0)), (mark, NextHopId::port(slot, generation)));
            }
            let id = NextHopId::vtep(slot).marked(3).marked(mark);
            assert_eq!(NextHopId::decode(id.raw()), Hop::Vtep(slot));
            assert_eq!((id.mark(), id.marked(0)), (mark, NextHopId::vtep(slot)));
        }
        assert_eq!(NextHopId::decode(MISS), Hop::Miss);
    }

    #[test]
    fn vtep_sets_hold_what_was_put_in() {
        let mut s = VtepSet::default();
        s.insert(3);
        s.insert(200);
        let members: Vec<u16> = (0..1000).filter(|v| s.contains(*v)).collect();
        assert_eq!(members, [3, 200]);
    }
}
