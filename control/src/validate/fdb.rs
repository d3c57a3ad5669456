//! Checks of static forwarding entries, a constant amount of work for each.

use std::collections::{HashMap, HashSet};

use super::{Finding, ObjectKind, Sink, suggest};
use crate::model::{Bd, FdbEntry, FdbTarget, Objects};

/// Checks FDB entries against the ports, VTEPs and bridge domains they name.
///
/// Made once per change of those; then a batch of entries costs O(batch), however many entries there are. That an
/// entry is new is for the owner of the whole FDB to know; within one batch [`FdbChecker::check`] finds duplicates.
pub struct FdbChecker<'a> {
    bds: HashMap<&'a str, (&'a Bd, HashSet<&'a str>)>,
    /// Port name to BD name.
    ports: HashMap<&'a str, &'a str>,
    vteps: HashSet<&'a str>,
}

impl<'a> FdbChecker<'a> {
    /// Indexes the names of `objects`.
    pub fn new(objects: &'a Objects) -> FdbChecker<'a> {
        let mut checker = FdbChecker {
            bds: HashMap::with_capacity(objects.bds.len()),
            ports: HashMap::with_capacity(objects.ports.len()),
            vteps: objects.vteps.iter().map(|v| v.name.as_str()).collect(),
        };
        // Of objects of the same name, which have been reported as such, the first counts.
        for bd in &objects.bds {
            let members = || (bd, bd.vteps.iter().map(String::as_str).collect());
            checker.bds.entry(&bd.name).or_insert_with(members);
        }
        for port in &objects.ports {
            checker.ports.entry(&port.name).or_insert(&port.bd);
        }
        checker
    }

    /// Checks one batch of entries. Findings carry the index within `entries`.
    pub fn check(&self, entries: &[FdbEntry]) -> Vec<Finding> {
        let mut sink = Sink { findings: Vec::new() };
        self.check_all(entries, &mut sink);
        sink.findings
    }

    /// Whether there may be entries in bridge domain `bd` that lead to `target`.
    pub fn permits(&self, bd: &str, target: &FdbTarget) -> bool {
        let Some((_, members)) = self.bds.get(bd) else { return false };
        match target {
            FdbTarget::Port(port) => self.ports.get(port.as_str()).is_some_and(|other| *other == bd),
            FdbTarget::Vtep(vtep) => self.vteps.contains(vtep.as_str()) && members.contains(vtep.as_str()),
        }
    }

    pub(super) fn check_all(&self, entries: &[FdbEntry], sink: &mut Sink) {
        let mut keys = HashSet::with_capacity(entries.len());
        for (i, entry) in entries.iter().enumerate() {
            self.check_one(i, entry, sink);
            if !keys.insert((entry.bd.as_str(), entry.mac)) {
                subject(i, entry, sink).report(
                    "mac",
                    format!("bd \"{}\" has two entries for {}", entry.bd, entry.mac),
                    "an address leads to one place: remove one of them",
                );
            }
        }
    }

    fn check_one(&self, i: usize, entry: &FdbEntry, sink: &mut Sink) {
        let mut s = subject(i, entry, sink);
        if entry.mac.is_multicast() {
            s.report(
                "mac",
                format!("{} is a multicast or broadcast address", entry.mac),
                "those are flooded; an FDB entry is for one unicast address (the first byte is even)",
            );
        } else if entry.mac.is_zero() {
            s.report("mac", format!("{} is no station's address", entry.mac), "");
        }
        let bd = self.bds.get(entry.bd.as_str());
        if bd.is_none() {
            let hint = suggest(&entry.bd, "bd", self.bds.keys().copied());
            s.report("bd", format!("there is no bd \"{}\"", entry.bd), hint);
        }
        match &entry.target {
            FdbTarget::Port(port) => match self.ports.get(port.as_str()) {
                None => {
                    let hint = suggest(port, "port", self.ports.keys().copied());
                    s.report("port", format!("there is no port \"{port}\""), hint);
                }
                Some(other) if bd.is_some() && *other != entry.bd => s.report(
                    "port",
                    format!("port \"{port}\" is in bd \"{other}\", not in \"{}\"", entry.bd),
                    "an entry leads to a port of its own bridge domain",
                ),
                Some(_) => {}
            },
            FdbTarget::Vtep(vtep) => {
                if !self.vteps.contains(vtep.as_str()) {
                    let hint = suggest(vtep, "vtep", self.vteps.iter().copied());
                    s.report("vtep", format!("there is no vtep \"{vtep}\""), hint);
                } else if let Some((bd, members)) = bd
                    && !members.contains(vtep.as_str())
                {
                    s.report(
                        "vtep",
                        format!("vtep \"{vtep}\" does not take part in bd \"{}\"", bd.name),
                        format!("add \"{vtep}\" to the vteps of bd \"{}\"", bd.name),
                    );
                }
            }
        }
    }
}

fn subject<'s>(i: usize, entry: &FdbEntry, sink: &'s mut Sink) -> super::Subject<'s> {
    sink.subject(ObjectKind::Fdb, i, format!("{} {}", entry.bd, entry.mac))
}
