//! Objects to forwarding tables: a function without side effects.

use super::ids::Ids;
use crate::model::{InnerVlan, Objects};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use weft_dataplane::forwarding::{Bd, MAX_QUEUES, PortEntry, Tables, TxRoute, TxqId, Uplink, VtepSet};

/// What running ports contribute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortFacts {
    pub slot: u16,
    pub generation: u16,
    /// Bytes from the destination MAC on, without FCS.
    pub max_frame: u32,
    /// Owner of each transmit queue that takes packets now, by queue number.
    pub tx_owners: Vec<Option<usize>>,
}

impl PortFacts {
    /// Whether the port takes packets at all.
    pub fn up(&self) -> bool {
        self.tx_owners.iter().any(Option::is_some)
    }
}

/// Everything that the tables are made of.
pub struct Input<'a> {
    pub objects: &'a Objects,
    pub ids: &'a Ids,
    pub ports: &'a BTreeMap<String, PortFacts>,
    pub uplink: (&'a Uplink, &'a PortFacts),
    pub workers: usize,
    pub generation: u64,
}

/// Builds the tables. Objects must have been validated and have their ids.
pub fn compile(input: &Input<'_>) -> Tables {
    let mut t =
        Tables { generation: input.generation, uplink: Some(input.uplink.0.clone()), ..Tables::default() };
    let slots = input.ports.values().map(|p| p.slot).max().unwrap_or(0).max(input.uplink.1.slot);
    t.ports.resize(usize::from(slots) + 1, None);
    t.ports[usize::from(input.uplink.1.slot)] = Some(entry(input.uplink.1, u32::MAX, input.workers));

    for v in &input.objects.vteps {
        if let Some(slot) = input.ids.vtep(&v.name) {
            // One host may be two VTEPs, one for each encapsulation: the first stands for its address.
            t.vteps.entry(v.address).or_insert(slot);
        }
    }
    let mut at = BTreeMap::new();
    for bd in &input.objects.bds {
        let Some(network) = input.ids.network(&bd.name) else { continue };
        let index = t.bds.len() as u32;
        at.insert(bd.name.as_str(), index);
        if let Some(vni) = bd.vni {
            t.vnis.insert(vni.get(), index);
        }
        let vteps: Vec<u16> = bd.vteps.iter().filter_map(|v| input.ids.vtep(v)).collect();
        let mut vtep_set = VtepSet::default();
        vteps.iter().for_each(|v| vtep_set.insert(*v));
        let addresses = bd.vteps.iter().filter_map(|v| input.objects.vtep(v)).map(|v| v.address);
        addresses.filter_map(|a| t.vteps.get(&a)).for_each(|v| vtep_set.insert(*v));
        t.bds.push(Bd {
            network,
            vni: bd.vni,
            keep_inner_vlan: bd.inner_vlan == InnerVlan::Keep,
            members: Vec::new(),
            vteps,
            vtep_set,
        });
    }
    for p in &input.objects.ports {
        let (Some(facts), Some(bd)) = (input.ports.get(&p.name), at.get(p.bd.as_str())) else { continue };
        t.ports[usize::from(facts.slot)] = Some(entry(facts, *bd, input.workers));
        if facts.up() {
            t.bds[*bd as usize].members.push(facts.slot);
        }
    }
    t
}

fn entry(p: &PortFacts, bd: u32, workers: usize) -> PortEntry {
    let routes = (0..workers).map(|w| route(p, w)).collect();
    PortEntry { generation: p.generation, bd, max_frame: p.max_frame, routes }
}

/// A worker sends on its own queues of the port; one that has none always hands over to the same other worker, so
/// that packets of a flow, which come in on one worker, stay in order.
fn route(p: &PortFacts, worker: usize) -> TxRoute {
    let of = |w: usize| {
        let mine = p.tx_owners.iter().enumerate().filter(move |(_, o)| **o == Some(w));
        mine.map(|(q, _)| TxqId::new(p.slot, q as u16)).take(MAX_QUEUES).collect()
    };
    let owners: Vec<usize> = p.tx_owners.iter().flatten().copied().collect();
    let owner = if owners.contains(&worker) {
        worker
    } else if owners.is_empty() {
        return TxRoute::default();
    } else {
        owners[worker % owners.len()]
    };
    TxRoute { owner: owner as u16, queues: of(owner) }
}

/// Memory that tables take, roughly: vectors as full as they are, maps by their contents.
pub fn bytes(t: &Tables) -> usize {
    let ports: usize = t.ports.iter().flatten().map(|p| size_of_val(&*p.routes)).sum();
    let bds: usize = t
        .bds
        .iter()
        .map(|b| {
            // A bit set goes up to its largest member.
            let set = b.vteps.iter().max().map_or(0, |v| usize::from(*v) / 8);
            size_of_val(&*b.members) + size_of_val(&*b.vteps) + set
        })
        .sum();
    let maps = t.vnis.len() * size_of::<(u32, u32)>() + t.vteps.len() * size_of::<(Ipv4Addr, u16)>();
    size_of::<Tables>() + size_of_val(&*t.ports) + ports + size_of_val(&*t.bds) + bds + maps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Bd as BdModel, Owner, Port, PortKind, Vtep};
    use weft_wire::{Encap, LocalVtep, MacAddr, Vni};

    fn facts(slot: u16, owners: &[Option<usize>]) -> PortFacts {
        PortFacts { slot, generation: 7, max_frame: 1518, tx_owners: owners.to_vec() }
    }

    fn bd(name: &str, vni: u32, vteps: &[&str]) -> BdModel {
        BdModel {
            name: name.into(),
            vni: Vni::new(vni),
            vteps: vteps.iter().map(|v| v.to_string()).collect(),
            inner_vlan: InnerVlan::Drop,
            owner: Owner::File,
        }
    }

    fn port(name: &str, bd: &str) -> Port {
        let kind = PortKind::Ethdev { device: name.into(), queues: 1, mtu: 1500 };
        Port { name: name.into(), bd: bd.into(), kind, owner: Owner::File }
    }

    fn vtep(name: &str, last: u8) -> Vtep {
        let address = Ipv4Addr::new(192, 168, 50, last);
        Vtep { name: name.into(), address, encap: Encap::Vxlan, port: None, owner: Owner::File }
    }

    fn compiled(objects: &Objects, ids: &Ids, ports: &BTreeMap<String, PortFacts>, workers: usize) -> Tables {
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let local =
            LocalVtep { ip: Ipv4Addr::new(192, 168, 50, 1), mac, vxlan_port: 4789, geneve_port: 6081 };
        let uplink = Uplink { slot: 0, local, max_frame: 1614 };
        let up = facts(0, &[Some(0)]);
        compile(&Input { objects, ids, ports, uplink: (&uplink, &up), workers, generation: 3 })
    }

    #[test]
    fn domains_hold_their_own_ports_and_vteps_only() {
        let mut ids = Ids::new();
        let objects = Objects {
            vteps: vec![vtep("b", 2), vtep("c", 3), vtep("c-again", 3)],
            bds: vec![bd("red", 10, &["b"]), bd("blue", 11, &["b", "c"]), bd("green", 12, &["c-again"])],
            ports: vec![port("r1", "red"), port("b1", "blue"), port("b2", "blue")],
        };
        for v in &objects.vteps {
            ids.take_vtep(&v.name).unwrap();
        }
        for b in &objects.bds {
            ids.take_network(&b.name).unwrap();
        }
        let ports = [("r1", 1), ("b1", 2), ("b2", 3)];
        let mut ports: BTreeMap<_, _> =
            ports.into_iter().map(|(n, s)| (n.to_string(), facts(s, &[Some(0)]))).collect();
        ports.get_mut("b2").unwrap().tx_owners = vec![None];
        let t = compiled(&objects, &ids, &ports, 1);

        let red = &t.bds[t.vnis[&10] as usize];
        let blue = &t.bds[t.vnis[&11] as usize];
        assert_ne!(red.network, blue.network);
        assert_eq!((&red.members[..], &blue.members[..]), (&[1][..], &[2][..]), "b2 is down");
        let c = t.vteps[&Ipv4Addr::new(192, 168, 50, 3)];
        assert!(blue.vtep_set.contains(c) && !red.vtep_set.contains(c));
        assert!(t.bds[t.vnis[&12] as usize].vtep_set.contains(c), "another VTEP at the same address");
        assert_eq!(t.port(2).unwrap().bd, t.vnis[&11]);
        assert!(t.port(3).unwrap().routes[0].queues.is_empty());
    }

    #[test]
    fn all_that_tables_take_is_counted() {
        assert_eq!(bytes(&Tables::default()), size_of::<Tables>());
        let mut ids = Ids::new();
        let names: Vec<String> = (0..100).map(|i| format!("n{i}")).collect();
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        let objects = Objects {
            vteps: names.iter().enumerate().map(|(i, n)| vtep(n, i as u8)).collect(),
            bds: names.iter().enumerate().map(|(i, n)| bd(n, i as u32, &all)).collect(),
            ports: names.iter().map(|n| port(n, n)).collect(),
        };
        for n in &names {
            ids.take_vtep(n).unwrap();
            ids.take_network(n).unwrap();
        }
        let facts = names.iter().enumerate().map(|(i, n)| (n.clone(), facts(i as u16 + 1, &[Some(0)])));
        let ports = facts.collect();
        let size = |workers| bytes(&compiled(&objects, &ids, &ports, workers));
        // A route is an owner, eight queue numbers and their count.
        let routes = 101 * (2 + 8 * 2 + 2);
        assert!((routes..2 * routes).contains(&(size(2) - size(1))), "{}", size(2) - size(1));
        // In each domain two bytes for each of 100 VTEPs and one for its port; no more than that and 200 bytes of its own.
        assert!((100 * 202..100 * 402 + 101 * 100).contains(&(size(1) - routes)), "{}", size(1) - routes);
    }

    #[test]
    fn a_worker_prefers_its_own_queues_and_else_keeps_to_one_owner() {
        let p = facts(5, &[Some(0), Some(1), Some(0), None]);
        let own = route(&p, 0);
        assert_eq!((own.owner, own.queues.as_slice()), (0, &[TxqId::new(5, 0), TxqId::new(5, 2)][..]));
        assert_eq!(route(&p, 1).queues.as_slice(), &[TxqId::new(5, 1)]);
        for w in 2..6 {
            let r = route(&p, w);
            assert!(r.owner < 2 && !r.queues.is_empty());
            assert!(
                r.queues.iter().all(|q| p.tx_owners[q.index() % MAX_QUEUES] == Some(usize::from(r.owner)))
            );
        }
        assert!(route(&facts(5, &[None, None]), 0).queues.is_empty());
    }
}
