//! What a change of ports, VTEPs and bridge domains, or of the file, means for the entries.

use std::collections::{HashMap, HashSet};

use weft_dataplane::forwarding::NextHopId;
use weft_tables::OutOfMemory;
use weft_tables::fdb::FdbKey;

use super::{Entries, Home, NAMED, Names, Table, Undo, hop_of, mac_of, owner_of, value};
use crate::engine::ids::Ids;
use crate::model::{FdbEntry, Objects, Owner};
use crate::status::ReloadReport;
use crate::validate::{FdbChecker, Finding, ObjectKind, ObjectRef};

/// What becomes of the entries when the objects change.
#[derive(Debug, Clone, Copy)]
pub enum Plan<'a> {
    /// They stay.
    Keep,
    /// These take the place of those that the file made.
    File(&'a [FdbEntry]),
    /// Those that lead to this port go.
    WithoutPort(&'a str),
    /// All go.
    Clear,
}

impl<T: Table> Entries<T> {
    /// What speaks against making `new` the running objects: entries that would lead nowhere, or two for one address.
    pub fn check(&self, plan: Plan<'_>, new: &Objects, ids: &Ids) -> Vec<Finding> {
        let checker = FdbChecker::new(new);
        let mut findings = Vec::new();
        if let Plan::File(entries) = plan {
            findings.extend(checker.check(entries));
            findings.extend(self.conflicts(entries, ids));
        }
        let stays = |hop: NextHopId, owner: Owner| match plan {
            Plan::Keep => true,
            Plan::File(_) => owner == Owner::Api,
            Plan::WithoutPort(name) => self.ports.get(name).is_none_or(|home| home.hop != hop),
            Plan::Clear => false,
        };
        let names = Names::new(self, ids);
        let fits = |network: u32, hop: NextHopId| {
            let (bd, target) = (names.bds.get(&network), names.targets.get(&hop));
            bd.zip(target).is_some_and(|(bd, target)| checker.permits(bd, target))
        };
        let unfit: HashSet<_> = self.uses.keys().filter(|(network, hop)| !fits(*network, *hop)).collect();
        if unfit.is_empty() {
            return findings;
        }
        let lost =
            self.some(NAMED, |network, hop, owner| unfit.contains(&(network, hop)) && stays(hop, owner));
        let lost = lost.filter_map(|(key, value)| {
            let e = names.describe(key, value)?;
            Some(FdbEntry { bd: e.bd, mac: e.mac, target: e.target, owner: e.owner })
        });
        findings.extend(checker.check(&lost.collect::<Vec<_>>()));
        findings
    }

    /// Entries of the file that the API has made before.
    fn conflicts(&self, entries: &[FdbEntry], ids: &Ids) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (index, e) in entries.iter().enumerate() {
            let Some(network) = ids.network(&e.bd) else { continue };
            let there = self.table.get(FdbKey::new(network, e.mac.to_u64()));
            if there.is_some_and(|value| owner_of(value) == Owner::Api) && findings.len() < NAMED {
                findings.push(Finding {
                    object: ObjectRef { kind: ObjectKind::Fdb, index, name: format!("{} {}", e.bd, e.mac) },
                    field: "mac",
                    item: None,
                    message: format!(
                        "bd \"{}\" has two entries for {}: one was made over the API",
                        e.bd, e.mac
                    ),
                    hint: "an address leads to one place: remove one of them".into(),
                });
            }
        }
        findings
    }

    /// What the file's entries would change, in words.
    pub fn report(&self, entries: &[FdbEntry], ids: &Ids) -> ReloadReport {
        let mut r = ReloadReport::default();
        let line = |bd: &str, mac| format!("fdb {bd}/{mac}");
        let mut wanted = HashSet::with_capacity(entries.len());
        for e in entries {
            let key = ids.network(&e.bd).map(|n| FdbKey::new(n, e.mac.to_u64()));
            wanted.extend(key);
            let there = key.and_then(|key| self.table.get(key)).filter(|v| owner_of(*v) == Owner::File);
            match there {
                None => r.added.push(line(&e.bd, e.mac)),
                Some(v) if self.hop(&e.target, ids) == Some(hop_of(v)) => r.unchanged += 1,
                Some(_) => r.changed.push(line(&e.bd, e.mac)),
            }
        }
        if self.made_by(Owner::File) > r.changed.len() + r.unchanged as usize {
            let names = Names::new(self, ids);
            let mut gone = Vec::new();
            self.table.scan(&mut |key, value| {
                if owner_of(value) == Owner::File && !wanted.contains(&key) {
                    gone.push(key);
                }
                true
            });
            gone.sort_unstable_by_key(|key| (key.network(), key.mac()));
            r.removed = gone.into_iter().map(|key| line(names.bd(key), mac_of(key))).collect();
        }
        r
    }

    fn made_by(&self, owner: Owner) -> usize {
        self.uses.values().map(|counts| counts[owner as usize]).sum()
    }

    /// Lets entries follow their ports, which have these ids now. Cannot fail: values change in their places.
    pub fn follow_ports<'p>(&mut self, running: impl Iterator<Item = (&'p str, NextHopId)>) {
        let mut moved = HashMap::new();
        for (name, hop) in running {
            match self.ports.get_mut(name) {
                Some(home) if home.hop == hop => {}
                Some(home) => drop(moved.insert(std::mem::replace(&mut home.hop, hop), hop)),
                None => drop(self.ports.insert(name.to_owned(), Home { hop, network: 0 })),
            }
        }
        if moved.is_empty() {
            return;
        }
        let follow = self.some(usize::MAX, |_, hop, _| moved.contains_key(&hop));
        let follow: Vec<_> = follow.map(|(key, v)| (key, value(moved[&hop_of(v)], owner_of(v)))).collect();
        if let Err(e) = self.put(&follow, &mut Undo::default()) {
            tracing::error!("entries of a port that was opened anew: {e}");
        }
    }

    /// Brings the entries to the plan. New objects have their ids. Insertions come first, since only they can fail; what
    /// they did is in `undo`, also after an error.
    pub fn change(&mut self, plan: Plan<'_>, ids: &Ids, undo: &mut Undo) -> Result<(), OutOfMemory> {
        match plan {
            Plan::Keep => {}
            Plan::File(entries) => {
                let wanted = entries.iter().filter_map(|e| {
                    let key = FdbKey::new(ids.network(&e.bd)?, e.mac.to_u64());
                    Some((key, value(self.hop(&e.target, ids)?, Owner::File)))
                });
                let changes: Vec<_> = wanted.filter(|(key, v)| self.table.get(*key) != Some(*v)).collect();
                self.put(&changes, undo)?;
                if self.made_by(Owner::File) > entries.len() {
                    let key = |e: &FdbEntry| Some(FdbKey::new(ids.network(&e.bd)?, e.mac.to_u64()));
                    let wanted: HashSet<_> = entries.iter().filter_map(key).collect();
                    self.retain(|key, v| owner_of(v) == Owner::Api || wanted.contains(&key));
                }
            }
            Plan::WithoutPort(name) => {
                if let Some(hop) = self.ports.get(name).map(|home| home.hop)
                    && self.uses.keys().any(|(_, h)| *h == hop)
                {
                    self.retain(|_, v| hop_of(v) != hop);
                }
            }
            Plan::Clear => self.retain(|_, _| false),
        }
        Ok(())
    }

    fn retain(&mut self, keep: impl Fn(FdbKey, u32) -> bool) {
        let mut gone = Vec::new();
        self.table.retain(&mut |key, value| {
            let keep = keep(key, value);
            if !keep {
                gone.push((key.network(), value));
            }
            keep
        });
        for (network, value) in gone {
            self.count(FdbKey::new(network, 0), value, -1);
        }
    }

    /// Learns the running objects, whose entries are in place.
    pub fn settle(&mut self, objects: &Objects, ids: &Ids) {
        let bds: HashMap<_, _> = objects.ports.iter().map(|p| (p.name.as_str(), p.bd.as_str())).collect();
        self.ports.retain(|name, home| {
            let network = bds.get(name.as_str()).map(|bd| ids.network(bd).unwrap_or(0));
            home.network = network.unwrap_or(0);
            network.is_some()
        });
        self.vteps.clear();
        for bd in &objects.bds {
            let Some(network) = ids.network(&bd.name) else { continue };
            let set = self.vteps.entry(network).or_default();
            bd.vteps.iter().filter_map(|v| ids.vtep(v)).for_each(|slot| set.insert(slot));
        }
    }
}
