//! A batch of changes that the API asks for: checked whole, then made, in time that depends on the batch alone.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use weft_tables::fdb::FdbKey;

use super::{Entries, NAMED, Table, Undo, full, hop_of, owner_of, value};
use crate::api::{ErrorKind, FdbApplied, FdbBatch, FdbMistake, FdbOp, FdbRefusal, FdbRun};
use crate::engine::ids::Ids;
use crate::model::{FdbEntry, Objects, Owner};
use crate::validate::FdbChecker;

/// What a key is to be: its value, or nothing.
struct Change {
    key: FdbKey,
    before: Option<u32>,
    after: Option<u32>,
}

/// Mistakes of a batch; of many the first ones.
struct Mistakes<'a> {
    found: FdbRefusal,
    /// Made when first needed, as it indexes all names.
    checker: Option<FdbChecker<'a>>,
    objects: &'a Objects,
}

impl<'a> Mistakes<'a> {
    fn new(objects: &'a Objects) -> Self {
        Self { found: FdbRefusal::default(), checker: None, objects }
    }

    fn add(&mut self, kind: ErrorKind, entry: usize, message: String, hint: &str) {
        if self.found.mistakes.is_empty() {
            self.found.kind = kind;
        }
        if self.found.mistakes.len() >= NAMED {
            self.found.more += 1;
            return;
        }
        if !hint.is_empty() && !self.found.hint.lines().any(|line| line == hint) {
            let gap = if self.found.hint.is_empty() { "" } else { "\n" };
            self.found.hint += &format!("{gap}{hint}");
        }
        self.found.mistakes.push(FdbMistake { entry, message });
    }

    /// Says in words what is wrong with an entry that does not fit the objects.
    fn explain(&mut self, run: &FdbRun, first: usize, at: usize) {
        if self.found.mistakes.len() >= NAMED {
            self.found.more += 1;
            return;
        }
        let target = match &run.op {
            FdbOp::Set(target) | FdbOp::Add(target) => target.clone(),
            FdbOp::Discard | FdbOp::Remove => {
                let message = format!("bd {} has no entry for {}", run.bd, run.macs[at]);
                let hint = "there is no bridge domain of this name: see weftctl bd list";
                return self.add(ErrorKind::NotFound, first + at, message, hint);
            }
        };
        let entry = FdbEntry { bd: run.bd.clone(), mac: run.macs[at], target, owner: Owner::Api };
        let checker = self.checker.get_or_insert_with(|| FdbChecker::new(self.objects));
        for finding in checker.check(&[entry]) {
            self.add(ErrorKind::Invalid, first + at, finding.to_string(), &finding.hint);
        }
    }
}

impl<T: Table> Entries<T> {
    /// Makes all changes of a batch, or none. If a key comes twice its last change counts.
    pub fn apply(
        &mut self,
        batch: &FdbBatch,
        objects: &Objects,
        ids: &Ids,
    ) -> Result<FdbApplied, FdbRefusal> {
        let changes = self.plan(batch, objects, ids)?;
        let mut applied = FdbApplied { unchanged: batch.len() as u64, ..FdbApplied::default() };
        let (mut puts, mut takes) = (Vec::new(), Vec::new());
        for c in &changes {
            let count = match (c.before.map(hop_of), c.after) {
                (None, None) => continue,
                (Some(hop), Some(after)) if hop == hop_of(after) => continue,
                (before, Some(after)) => {
                    puts.push((c.key, after));
                    if before.is_some() { &mut applied.replaced } else { &mut applied.added }
                }
                (Some(_), None) => {
                    takes.push(c.key);
                    &mut applied.removed
                }
            };
            *count += 1;
            applied.unchanged -= 1;
        }
        // What can fail comes first.
        let mut undo = Undo::default();
        if let Err(e) = self.put(&puts, &mut undo) {
            self.unmake(undo);
            return Err(FdbRefusal::whole(full(&e)));
        }
        takes.into_iter().for_each(|key| self.take(key));
        Ok(applied)
    }

    /// What becomes of each key, or everything that is wrong with the batch.
    fn plan(&self, batch: &FdbBatch, objects: &Objects, ids: &Ids) -> Result<Vec<Change>, FdbRefusal> {
        let mut mistakes = Mistakes::new(objects);
        let mut changes: Vec<Change> = Vec::with_capacity(batch.len());
        // Where in `changes` a key is. A batch of one can't name a key twice.
        let mut places = HashMap::with_capacity(if batch.len() > 1 { batch.len() } else { 0 });
        let mut first = 0;
        for run in &batch.runs {
            let place = self.place(run, ids);
            for (i, mac) in run.macs.iter().enumerate() {
                let Some((network, after)) = place else {
                    // One for all: they have the same bridge domain and target.
                    mistakes.explain(run, first, i);
                    break;
                };
                if after.is_some() && (mac.is_multicast() || mac.is_zero()) {
                    mistakes.explain(run, first, i);
                    continue;
                }
                let key = FdbKey::new(network, mac.to_u64());
                let before = self.table.get(key);
                if let Some((kind, message, hint)) = objection(run, i, before) {
                    mistakes.add(kind, first + i, message, hint);
                }
                let change = Change { key, before, after };
                if batch.len() == 1 {
                    changes.push(change);
                    continue;
                }
                match places.entry(key) {
                    Slot::Vacant(slot) => {
                        slot.insert(changes.len());
                        changes.push(change);
                    }
                    Slot::Occupied(_) if matches!(run.op, FdbOp::Add(_)) => {
                        let message = format!("bd \"{}\" has two entries for {mac}", run.bd);
                        let hint = "an address leads to one place: remove one of them";
                        mistakes.add(ErrorKind::Invalid, first + i, message, hint);
                    }
                    Slot::Occupied(slot) => changes[*slot.get()] = change,
                }
            }
            first += run.macs.len();
        }
        if mistakes.found.mistakes.is_empty() { Ok(changes) } else { Err(mistakes.found) }
    }

    /// The network of a run and the value that its entries are to have (`None`: they are to go). `None` if what it names
    /// is not there or does not belong together.
    fn place(&self, run: &FdbRun, ids: &Ids) -> Option<(u32, Option<u32>)> {
        use crate::model::FdbTarget::{Port, Vtep};
        let network = ids.network(&run.bd)?;
        let target = match &run.op {
            FdbOp::Set(target) | FdbOp::Add(target) => target,
            FdbOp::Discard | FdbOp::Remove => return Some((network, None)),
        };
        let hop = self.hop(target, ids)?;
        let fits = match target {
            Port(name) => self.ports.get(name)?.network == network,
            Vtep(name) => self.vteps.get(&network)?.contains(ids.vtep(name)?),
        };
        fits.then(|| (network, Some(value(hop, Owner::Api))))
    }
}

/// What speaks against a change, given the entry's value before the batch.
fn objection(run: &FdbRun, i: usize, before: Option<u32>) -> Option<(ErrorKind, String, &'static str)> {
    let (bd, mac) = (&run.bd, run.macs[i]);
    match (&run.op, before) {
        (FdbOp::Add(_), Some(_)) => {
            Some((ErrorKind::AlreadyExists, format!("bd {bd} has an entry for {mac} already"), ""))
        }
        (FdbOp::Remove, None) => Some((ErrorKind::NotFound, format!("bd {bd} has no entry for {mac}"), "")),
        (_, Some(value)) if owner_of(value) == Owner::File => Some((
            ErrorKind::Precondition,
            format!("fdb {bd}/{mac} belongs to the configuration file"),
            "change it in the file, then run: weftctl reload",
        )),
        _ => None,
    }
}
