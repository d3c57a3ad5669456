//! The entries against a map of names, under random changes of all kinds; and a table that runs out of memory anywhere.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;
use weft_dataplane::forwarding::NextHopId;
use weft_tables::OutOfMemory;
use weft_tables::fdb::{Fdb, FdbConfig, FdbKey, FdbWriter};
use weft_tables::qsbr::Domain;
use weft_wire::{Encap, MacAddr};

use super::{BULK, Entries, Plan, Table, Undo, hop_of, owner_of};
use crate::api::{ErrorKind, FdbApplied, FdbBatch, FdbOp, FdbRun};
use crate::engine::ids::{Ids, PortId};
use crate::model::{Bd, FdbEntry, FdbTarget, InnerVlan, Objects, Owner, Port, PortKind, Vtep};

/// The real table, with memory for so many more new entries.
struct Limited {
    table: FdbWriter,
    room: usize,
}

impl Limited {
    fn new() -> Self {
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
type Model = BTreeMap<(String, u64), (FdbTarget, Owner)>;

/// As much of the engine as entries have to do with: the objects, their ids, and the order of its steps.
struct World {
    objects: Objects,
    ids: Ids,
    running: BTreeMap<String, PortId>,
    entries: Entries<Limited>,
    model: Model,
}

const BDS: [&str; 3] = ["red", "blue", "green"];
const NAMES: usize = 4;

/// Number of a bridge domain, address, and where it is to lead: to a port (or a VTEP) of this number.
type Wanted = (usize, u64, bool, usize);
/// The same, or that there is to be no entry.
type Wish = (usize, u64, Option<(bool, usize)>);

fn target(port: bool, n: usize) -> FdbTarget {
    let n = n % NAMES;
    if port { FdbTarget::Port(format!("p{n}")) } else { FdbTarget::Vtep(format!("v{n}")) }
}

fn mac(n: u64) -> MacAddr {
    MacAddr::from_u64(0x0200_0000_0000 | n)
}

/// Port and VTEP `i` exist and are in the bridge domain that `i` and `shape` choose, or not at all.
fn objects(shape: u32, owner: Owner) -> Objects {
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
fn fits(o: &Objects, bd: &str, to: &FdbTarget) -> bool {
    let Some(bd) = o.bds.iter().find(|b| b.name == bd) else { return false };
    match to {
        FdbTarget::Port(name) => o.ports.iter().any(|p| p.name == *name && p.bd == bd.name),
        FdbTarget::Vtep(name) => bd.vteps.contains(name),
    }
}

impl World {
    fn new() -> Self {
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

    fn follow(&mut self) {
        let running = self.running.iter();
        self.entries
            .follow_ports(running.map(|(n, id)| (n.as_str(), NextHopId::port(id.slot, id.generation))));
    }

    /// The engine's transaction; ports named in `anew` are opened anew, as when their socket changes.
    fn change(&mut self, new: Objects, plan: Plan<'_>, anew: &[usize]) -> bool {
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
    fn reload(&mut self, new: Objects, wanted: &[Wanted], anew: &[usize]) {
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

    fn apply(&mut self, changes: &[Wish]) {
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
    fn compare(&self) {
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

#[derive(Debug, Clone)]
enum Step {
    Apply(Vec<Wish>),
    /// Another shape of the objects, with the file's entries and ports that are opened anew.
    Reload(u32, Vec<Wanted>, Vec<usize>),
    /// The API removes a port with its entries.
    RemovePort(usize),
    /// Memory for so many more entries.
    Room(usize),
    Enough,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || (0..BDS.len(), 0..200_u64);
    let to = || (any::<bool>(), 0..NAMES);
    let change = (key(), prop::option::weighted(0.7, to())).prop_map(|((bd, m), to)| (bd, m, to));
    let entry = (key(), to()).prop_map(|((bd, m), (port, n))| (bd, m, port, n));
    let sized = prop_oneof![3 => 1..4_usize, 2 => 5..40_usize, 1 => 100..300_usize];
    let step = prop_oneof![
        8 => sized.prop_flat_map(move |n| prop::collection::vec(change.clone(), n)).prop_map(Step::Apply),
        3 => (any::<u32>(), prop::collection::vec(entry, 0..60), prop::collection::vec(0..NAMES, 0..3))
            .prop_map(|(shape, file, anew)| Step::Reload(shape, file, anew)),
        2 => (0..NAMES).prop_map(Step::RemovePort),
        1 => (0..30_usize).prop_map(Step::Room),
        1 => Just(Step::Enough),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn entries_are_what_a_map_of_names_says(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Apply(changes) => world.apply(&changes),
                Step::Reload(shape, file, anew) => {
                    let shape = if shape & 1 == 0 { 0x0f00 | shape & 0xff } else { shape };
                    world.reload(objects(shape, Owner::File), &file, &anew);
                }
                Step::RemovePort(n) => {
                    let (name, to) = (format!("p{n}"), target(true, n));
                    let files = world.entries.leading_to(&to, &[Owner::File], &world.ids, 3);
                    let led = world.model.values().filter(|v| **v == (to.clone(), Owner::File)).count();
                    prop_assert_eq!(files.len(), led.min(3));
                    if led == 0 && world.objects.port(&name).is_some() {
                        let mut new = world.objects.clone();
                        new.ports.retain(|p| p.name != name);
                        prop_assert!(world.change(new, Plan::WithoutPort(&name), &[]));
                        world.model.retain(|_, (t, _)| *t != to);
                    }
                }
                Step::Room(room) => world.entries.table.room = room,
                Step::Enough => world.entries.table.room = usize::MAX,
            }
            world.compare();
        }
        prop_assert!(world.change(Objects::default(), Plan::Clear, &[]));
        prop_assert_eq!((world.entries.len(), world.entries.uses.len()), (0, 0));
    }
}

fn run(bd: &str, op: FdbOp, macs: impl IntoIterator<Item = u64>) -> FdbRun {
    FdbRun { bd: bd.into(), op, macs: macs.into_iter().map(mac).collect() }
}

fn vtep(name: &str) -> FdbTarget {
    FdbTarget::Vtep(name.into())
}

#[test]
fn a_batch_that_fails_anywhere_is_taken_back_whole() {
    for new in [30, 2 * BULK] {
        for room in 0..new {
            let mut world = World::new();
            let before: Vec<_> = (0..40).map(|m| (0, m, Some((false, 1)))).collect();
            world.apply(&before);
            world.entries.table.room = room;
            // 20 go, as many lead elsewhere, and `new` come.
            let mut changes: Vec<_> = (0..20).map(|m| (0, m, None)).collect();
            changes.extend((20..40 + new as u64).map(|m| (0, m, Some((false, 2)))));
            world.apply(&changes);
            assert_eq!(world.entries.len(), 40, "room for {room} of {new}");
            assert_eq!(world.entries.table.room, 0, "it failed in the middle");
            world.compare();
        }
    }
}

#[test]
fn each_mistake_has_its_entry_and_a_word_on_what_to_do() {
    let mut world = World::new();
    let (objects, ids) = (&world.objects, &world.ids);
    let file = [FdbEntry { bd: "red".into(), mac: mac(1), target: vtep("v1"), owner: Owner::File }];
    world.entries.change(Plan::File(&file), ids, &mut Undo::default()).unwrap();
    let set = |name: &str| FdbOp::Set(vtep(name));
    let cases = [
        (run("rde", set("v1"), [5, 6]), 3, ErrorKind::Invalid, "no bd \"rde\"", "did you mean \"red\"?"),
        (run("red", set("x9"), [5]), 3, ErrorKind::Invalid, "no vtep \"x9\"", ""),
        (run("red", set("v0"), [5]), 3, ErrorKind::Invalid, "does not take part in bd \"red\"", "add \"v0\""),
        (run("red", set("v1"), [5, 0x0100_0000_0000]), 4, ErrorKind::Invalid, "multicast", "unicast"),
        (
            run("red", set("v2"), [5, 1]),
            4,
            ErrorKind::Precondition,
            "belongs to the configuration file",
            "reload",
        ),
        (
            run("red", FdbOp::Discard, [1]),
            3,
            ErrorKind::Precondition,
            "belongs to the configuration file",
            "",
        ),
        (run("red", FdbOp::Remove, [77]), 3, ErrorKind::NotFound, "bd red has no entry for", ""),
        (run("red", FdbOp::Add(vtep("v1")), [9]), 3, ErrorKind::AlreadyExists, "already", ""),
        (run("red", FdbOp::Add(vtep("v1")), [8, 8]), 4, ErrorKind::Invalid, "has two entries", "remove one"),
        (run("nope", FdbOp::Discard, [1]), 3, ErrorKind::NotFound, "bd nope has no entry", "bd list"),
    ];
    let first = FdbBatch { runs: vec![run("red", set("v1"), [9])] };
    world.entries.apply(&first, objects, ids).unwrap();
    for (wrong, entry, kind, said, hint) in cases {
        let good = run("red", set("v2"), 100..103);
        let batch = FdbBatch { runs: vec![good, wrong] };
        let refusal = world.entries.apply(&batch, objects, ids).unwrap_err();
        assert_eq!((refusal.kind, refusal.mistakes.len()), (kind, 1), "{refusal:?}");
        assert_eq!(refusal.mistakes[0].entry, entry, "{refusal:?}");
        assert!(refusal.mistakes[0].message.contains(said), "{refusal:?}");
        assert!(refusal.hint.contains(hint), "{refusal:?}");
        assert_eq!(world.entries.len(), 2, "nothing of it was done");
    }
}

#[test]
fn of_many_mistakes_the_first_are_named_and_the_others_counted() {
    let mut world = World::new();
    let batch = FdbBatch { runs: vec![run("red", FdbOp::Remove, 0..1000)] };
    let refusal = world.entries.apply(&batch, &world.objects, &world.ids).unwrap_err();
    assert_eq!((refusal.mistakes.len(), refusal.more), (super::NAMED, 1000 - super::NAMED));
}

#[test]
fn entries_of_a_port_that_does_not_run_wait_for_it() {
    let mut world = World::new();
    world.apply(&[(0, 7, Some((true, 0)))]);
    world.compare();
    // It is closed and can't be opened; entries for it come and go all the same.
    let id = world.running.remove("p0").unwrap();
    world.follow();
    world.apply(&[(0, 8, Some((true, 0))), (0, 7, None)]);
    assert_eq!(world.entries.list(None, &world.ids).count(), 1);
    world.running.insert("p0".into(), world.ids.renew_port(id));
    world.follow();
    world.compare();
}
