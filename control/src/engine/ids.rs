//! Slots and numbers that name objects on the packet path, and when they may be used again.
//!
//! A number that comes back too early would bring one tenant's packet to another's port. So slots are handed out in
//! turn, the longest free one first; a port's slot carries a generation that every packet on its way is compared with;
//! and a bridge domain's network id only ever counts up.

use std::collections::{BTreeMap, VecDeque};
use weft_dataplane::{MAX_PORTS, MAX_VTEPS};

/// Network ids are 24 bits, and 0 is left out so that a zeroed key is nobody's.
const NETWORKS: u32 = 1 << 24;

/// A port's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortId {
    pub slot: u16,
    pub generation: u16,
}

/// All numbers in use.
#[derive(Debug)]
pub struct Ids {
    free_ports: VecDeque<u16>,
    generations: Vec<u16>,
    free_vteps: VecDeque<u16>,
    vteps: BTreeMap<String, u16>,
    networks: BTreeMap<String, u32>,
    next_network: u32,
}

impl Ids {
    /// Slot 0 is the uplink's.
    pub fn new() -> Self {
        Self {
            free_ports: (1..MAX_PORTS as u16).collect(),
            generations: vec![0; MAX_PORTS],
            free_vteps: (0..MAX_VTEPS as u16).collect(),
            vteps: BTreeMap::new(),
            networks: BTreeMap::new(),
            next_network: 1,
        }
    }

    /// A place for a new port, with a generation that the slot did not have before.
    pub fn take_port(&mut self) -> Option<PortId> {
        let slot = self.free_ports.pop_front()?;
        Some(self.renew_port(PortId { slot, generation: 0 }))
    }

    /// The same place with a generation that it did not have before.
    pub fn renew_port(&mut self, id: PortId) -> PortId {
        let g = &mut self.generations[usize::from(id.slot)];
        // 15 bits: that is what an FDB value holds.
        *g = (*g + 1) & 0x7fff;
        PortId { generation: *g, ..id }
    }

    /// Gives a port's slot back, to the end of the queue.
    pub fn give_port(&mut self, id: PortId) {
        self.free_ports.push_back(id.slot);
    }

    /// The slot of a VTEP by name, if it has one.
    pub fn vtep(&self, name: &str) -> Option<u16> {
        self.vteps.get(name).copied()
    }

    /// Every VTEP and its slot.
    pub fn vteps(&self) -> impl Iterator<Item = (&str, u16)> {
        self.vteps.iter().map(|(name, slot)| (name.as_str(), *slot))
    }

    /// The slot of a VTEP, a new one if need be.
    pub fn take_vtep(&mut self, name: &str) -> Option<u16> {
        if let Some(slot) = self.vteps.get(name) {
            return Some(*slot);
        }
        let slot = self.free_vteps.pop_front()?;
        self.vteps.insert(name.to_owned(), slot);
        Some(slot)
    }

    /// Gives a VTEP's slot back.
    pub fn give_vtep(&mut self, name: &str) {
        if let Some(slot) = self.vteps.remove(name) {
            self.free_vteps.push_back(slot);
        }
    }

    /// The network id of a bridge domain, if it has one.
    pub fn network(&self, bd: &str) -> Option<u32> {
        self.networks.get(bd).copied()
    }

    /// Every bridge domain and its network id.
    pub fn networks(&self) -> impl Iterator<Item = (&str, u32)> {
        self.networks.iter().map(|(name, network)| (name.as_str(), *network))
    }

    /// The network id of a bridge domain, a new one if need be. `None` after 16 million bridge domains.
    pub fn take_network(&mut self, bd: &str) -> Option<u32> {
        if let Some(n) = self.networks.get(bd) {
            return Some(*n);
        }
        if self.next_network >= NETWORKS {
            return None;
        }
        let n = self.next_network;
        self.next_network += 1;
        self.networks.insert(bd.to_owned(), n);
        Some(n)
    }

    /// Forgets a bridge domain's network id; it is not used again.
    pub fn give_network(&mut self, bd: &str) {
        self.networks.remove(bd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_comes_back_last_and_with_another_generation() {
        let mut ids = Ids::new();
        let first = ids.take_port().unwrap();
        assert_ne!(first.slot, 0, "slot 0 is the uplink's");
        ids.give_port(first);
        let mut taken = 0;
        let again = loop {
            let p = ids.take_port().unwrap();
            if p.slot == first.slot {
                break p;
            }
            taken += 1;
        };
        assert_eq!(taken, MAX_PORTS - 2);
        assert_ne!(again.generation, first.generation);
        assert_eq!(ids.take_port(), None);
    }

    #[test]
    fn names_keep_their_numbers_and_networks_never_come_back() {
        let mut ids = Ids::new();
        let a = ids.take_network("a").unwrap();
        assert_eq!(ids.take_network("a"), Some(a));
        ids.give_network("a");
        assert_ne!(ids.take_network("a"), Some(a));
        let v = ids.take_vtep("v").unwrap();
        assert_eq!(ids.take_vtep("v"), Some(v));
        ids.give_vtep("v");
        assert_eq!(ids.vtep("v"), None);
        assert_ne!(ids.take_vtep("v"), Some(v));
    }
}
