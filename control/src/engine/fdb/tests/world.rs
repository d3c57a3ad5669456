//! The entries in a small world: as much of the engine as they have to do with, beside a map of names.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use weft_dataplane::forwarding::NextHopId;
use weft_tables::OutOfMemory;
use weft_tables::fdb::{Fdb, FdbConfig, FdbKey, FdbWriter};
use weft_tables::qsbr::Domain;
use weft_wire::{Encap, MacAddr};

use crate::api::{FdbApplied, FdbBatch, FdbOp};
use crate::engine::fdb::{Entries, Plan, Table, Undo, hop_of, owner_of};
use crate::engine::ids::{Ids, PortId};
use crate::model::{Bd, FdbEntry, FdbTarget, InnerVlan, Objects, Owner, Port, PortKind, Vtep};

/// The real table, with memory for so many more new entries.
pub struct Limited {
    table: FdbWriter,
    pub room: usize,
}

impl Limited {
    pub fn new() -> Self {
        Self { table: Fdb::new(&Domain::new(1), FdbConfig::default()).0, room: usize::MAX }
    }
}

impl Table for Limited {
    fn len(&self) -> usize {
        self.table.len()
    }

    fn get(&self, key: FdbKey) -> Option<u32> {
        self.table.get(key)
    }

    fn insert(&mut self, key: FdbKey, value: u32) -> Result<Option<u32>, OutOfMemory> {
        if self.table.get(key).is_none() {
            self.room = self.room.checked_sub(1).ok_or(OutOfMemory::Allocator { bytes: 32 })?;
        }
        self.table.insert(key, value)
    }

    fn insert_all(&mut self, entries: &[(FdbKey, u32)]) -> Result<(), (usize, OutOfMemory)> {
        for (done, (key, value)) in entries.iter().enumerate() {
            self.insert(*key, *value).map_err(|e| (done, e))?;
        }
        Ok(())
    }

    fn remove(&mut self, key: FdbKey) -> Option<u32> {
        self.table.remove(key)
    }

    fn retain(&mut self, keep: &mut dyn FnMut(FdbKey, u32) -> bool) {
        self.table.retain(keep);
    }

    fn scan(&self, look: &mut dyn FnMut(FdbKey, u32) -> bool) {
        self.table.scan(look);
    }
}

/// What entries are to be, by name.
pub type Model = BTreeMap<(String, u64), (FdbTarget, Owner)>;

/// As much of the engine as entries have to do with: the objects, their ids, and the order of its steps.
pub struct World {
    pub objects: Objects,
    pub ids: Ids,
    pub running: BTreeMap<String, PortId>,
    pub entries: Entries<Limited>,
    pub model: Model,
}

pub const BDS: [&str; 3] = ["red", "blue", "green"];
pub const NAMES: usize = 4;

/// Number of a bridge domain, address, and where it is to lead: to a port (or a VTEP) of this number.
pub type Wanted = (usize, u64, bool, usize);
/// The same, or that there is to be no entry.
pub type Wish = (usize, u64, Option<(bool, usize)>);

pub fn target(port: bool, n: usize) -> FdbTarget {
    let n = n % NAMES;
    if port { FdbTarget::Port(format!("p{n}")) } else { FdbTarget::Vtep(format!("v{n}")) }
}

pub fn mac(n: u64) -> MacAddr {
    MacAddr::from_u64(0x0200_0000_0000 | n)
}

/// Port and VTEP `i` exist and are in the bridge domain that `i` and `shape` choose, or not at all.
pub fn objects(shape: u32, owner: Owner) -> Objects {
    let pick = |i: usize| (shape >> (2 * i) & 3) as usize;
    let kind = || PortKind::Ethdev { device: "net_null0".into(), queues: 1, mtu: 1500 };
    let ports = (0..NAMES).filter(|i| pick(*i) < 3);
    let ports = ports.map(|i| Port { name: format!("p{i}"), bd: BDS[pick(i)].into(), kind: kind(), owner });
    let there = |i: &usize| shape >> (8 + i) & 1 == 1;
    let vteps: Vec<_> = (0..NAMES).filter(there).map(|i| format!("v{i}")).collect();
    let bd = |(i, name): (usize, &&str)| Bd {
        name: (*name).into(),
        vni: None,
        vteps: vteps.iter().enumerate().filter(|(v, _)| (v + i) % 3 != 0).map(|(_, n)| n.clone()).collect(),
        inner_vlan: InnerVlan::Drop,
        owner,
    };
    let vtep = |name: &String| Vtep {
        name: name.clone(),
        address: "192.168.50.2".parse().unwrap(),
        encap: Encap::Geneve,
        port: None,
        owner,
    };
    Objects {
        ports: ports.collect(),
        bds: BDS.iter().enumerate().map(bd).collect(),
        vteps: vteps.iter().map(vtep).collect(),
    }
}

/// Whether an entry makes sense: a second reading of the rules.
pub fn fits(o: &Objects, bd: &str, to: &FdbTarget) -> bool {
    let Some(bd) = o.bds.iter().find(|b| b.name == bd) else { return false };
    match to {
        FdbTarget::Port(name) => o.ports.iter().any(|p| p.name == *name && p.bd == bd.name),
        FdbTarget::Vtep(name) => bd.vteps.contains(name),
    }
}

impl World {
    pub fn new() -> Self {
        let mut world = Self {
            objects: Objects::default(),
            ids: Ids::new(),
            running: BTreeMap::new(),
            entries: Entries::new(Limited::new()),
            model: Model::new(),
        };
        assert!(world.change(objects(0x0f00, Owner::File), Plan::File(&[]), &[]));
        world
    }

    pub fn follow(&mut self) {
        let running = self.running.iter();
        self.entries
            .follow_ports(running.map(|(n, id)| (n.as_str(), NextHopId::port(id.slot, id.generation))));
    }

    /// The engine's transaction; ports named in `anew` are opened anew, as when their socket changes.
    pub fn change(&mut self, new: Objects, plan: Plan<'_>, anew: &[usize]) -> bool {
        if !self.entries.check(plan, &new, &self.ids).is_empty() {
            return false;
        }
        let old: BTreeSet<_> = self.running.keys().cloned().collect();
        for p in &new.ports {
            if !self.running.contains_key(&p.name) {
                self.running.insert(p.name.clone(), self.ids.take_port().unwrap());
            }
        }
        new.vteps.iter().for_each(|v| assert!(self.ids.take_vtep(&v.name).is_some()));
        new.bds.iter().for_each(|b| assert!(self.ids.take_network(&b.name).is_some()));
        for n in anew {
            if let Some(id) = self.running.get_mut(&format!("p{n}")) {
                *id = self.ids.renew_port(*id);
            }
        }
        self.follow();
        let mut undo = Undo::default();
        if self.entries.change(plan, &self.ids, &mut undo).is_err() {
            self.entries.unmake(undo);
            let opened: Vec<_> = self.running.keys().filter(|n| !old.contains(*n)).cloned().collect();
            opened.iter().for_each(|n| self.ids.give_port(self.running.remove(n).unwrap()));
            let objects = &self.objects;
            new.vteps
                .iter()
                .filter(|v| objects.vtep(&v.name).is_none())
                .for_each(|v| self.ids.give_vtep(&v.name));
            // What was open before is opened again.
            for n in anew {
                if let Some(id) = self.running.get_mut(&format!("p{n}")) {
                    *id = self.ids.renew_port(*id);
                }
            }
            self.follow();
            self.entries.settle(&self.objects, &self.ids);
            return false;
        }
        let old = std::mem::replace(&mut self.objects, new);
        let gone = |n: &String| self.objects.port(n).is_none();
        let closed: Vec<_> = self.running.keys().filter(|n| gone(n)).cloned().collect();
        closed.iter().for_each(|n| self.ids.give_port(self.running.remove(n).unwrap()));
        for v in old.vteps.iter().filter(|v| self.objects.vtep(&v.name).is_none()) {
            self.ids.give_vtep(&v.name);
        }
        self.entries.settle(&self.objects, &self.ids);
        true
    }

    /// A reload with these entries, of which those that do not fit are left out.
    pub fn reload(&mut self, new: Objects, wanted: &[Wanted], anew: &[usize]) {
        let mut file = Model::new();
        for (bd, m, port, n) in wanted {
            let to = target(*port, *n);
            if fits(&new, BDS[*bd], &to) {
                file.insert((BDS[*bd].into(), *m), (to, Owner::File));
            }
        }
        let entry = |((bd, m), (to, owner)): (&(String, u64), &(FdbTarget, Owner))| FdbEntry {
            bd: bd.clone(),
            mac: mac(*m),
            target: to.clone(),
            owner: *owner,
        };
        let list: Vec<FdbEntry> = file.iter().map(entry).collect();
        let api = || self.model.iter().filter(|(_, (_, owner))| *owner == Owner::Api);
        let good =
            api().all(|((bd, _), (to, _))| fits(&new, bd, to)) && api().all(|(k, _)| !file.contains_key(k));
        let report = self.entries.report(&list, &self.ids);
        let had: Model = self
            .model
            .iter()
            .filter(|(_, v)| v.1 == Owner::File)
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        let api: Model = api().map(|(k, v)| (k.clone(), v.clone())).collect();
        let room = self.entries.table.room;
        let added = file.keys().filter(|k| !self.model.contains_key(*k)).count();
        let done = self.change(new, Plan::File(&list), anew);
        assert_eq!(done, good && added <= room, "{added} into {room}");
        if done {
            assert_eq!(report.added.len(), file.keys().filter(|k| !had.contains_key(*k)).count());
            assert_eq!(report.removed.len(), had.keys().filter(|k| !file.contains_key(*k)).count());
            assert_eq!(
                report.unchanged as usize,
                file.iter().filter(|(k, v)| had.get(*k) == Some(*v)).count()
            );
            self.model = api.into_iter().chain(file).collect();
        }
    }

    pub fn apply(&mut self, changes: &[Wish]) {
        let mut batch = FdbBatch::default();
        let mut next = self.model.clone();
        let (mut good, mut known) = (true, true);
        for (bd, m, to) in changes {
            let to = to.map(|(port, n)| target(port, n));
            batch.push(BDS[*bd], to.clone().map_or(FdbOp::Discard, FdbOp::Set), mac(*m));
            let key = (BDS[*bd].to_owned(), *m);
            known &= to.as_ref().is_none_or(|to| fits(&self.objects, BDS[*bd], to));
            good &= self.model.get(&key).is_none_or(|(_, owner)| *owner == Owner::Api);
            match to {
                Some(to) => drop(next.insert(key, (to, Owner::Api))),
                None => drop(next.remove(&key)),
            }
        }
        let count = |f: &dyn Fn(&(String, u64)) -> bool| {
            next.keys().chain(self.model.keys()).collect::<BTreeSet<_>>().into_iter().filter(|k| f(k)).count()
                as u64
        };
        let (old, new) = (&self.model, &next);
        let wanted = FdbApplied {
            added: count(&|k| !old.contains_key(k) && new.contains_key(k)),
            replaced: count(&|k| old.contains_key(k) && new.contains_key(k) && old[k] != new[k]),
            removed: count(&|k| old.contains_key(k) && !new.contains_key(k)),
            unchanged: 0,
        };
        let changed = wanted.added + wanted.replaced + wanted.removed;
        let wanted = FdbApplied { unchanged: changes.len() as u64 - changed, ..wanted };
        let room = self.entries.table.room as u64;
        match self.entries.apply(&batch, &self.objects, &self.ids) {
            Ok(applied) => {
                assert!(good && known);
                assert_eq!(applied, wanted);
                self.model = next;
            }
            Err(refusal) => {
                assert!(!good || !known || wanted.added > room, "{refusal:?}");
                assert_eq!(refusal.mistakes.is_empty(), good && known, "{refusal:?}");
                assert!(refusal.mistakes.iter().all(|m| m.entry < changes.len()));
            }
        }
    }

    /// The table holds what the model does, each entry leads to where its target is now, and the numbers are right.
    pub fn compare(&self) {
        let listed: Model = self
            .entries
            .list(None, &self.ids)
            .map(|e| ((e.bd, e.mac.to_u64() & 0xffff_ffff), (e.target, e.owner)))
            .collect();
        assert_eq!(listed, self.model);
        assert_eq!(self.entries.len(), self.model.len());
        let mut uses: HashMap<_, [usize; 2]> = HashMap::new();
        for ((bd, m), (to, owner)) in &self.model {
            let network = self.ids.network(bd).unwrap();
            let value = self.entries.table.get(FdbKey::new(network, mac(*m).to_u64())).unwrap();
            let hop = match to {
                FdbTarget::Port(name) => {
                    self.running.get(name).map(|id| NextHopId::port(id.slot, id.generation)).unwrap()
                }
                FdbTarget::Vtep(name) => NextHopId::vtep(self.ids.vtep(name).unwrap()),
            };
            assert_eq!((hop_of(value), owner_of(value)), (hop, *owner));
            uses.entry((network, hop)).or_default()[*owner as usize] += 1;
        }
        assert_eq!(self.entries.uses, uses);
        for bd in BDS {
            let count = self.model.keys().filter(|(b, _)| b == bd).count() as u64;
            let network = self.ids.network(bd).unwrap();
            assert_eq!(self.entries.by_network().get(&network).copied().unwrap_or(0), count);
        }
    }
}
