//! What differs between two sets of objects or settings, in words for operators.

use std::collections::HashMap;
use std::hash::Hash;

use crate::model::{Objects, Settings};
use crate::status::ReloadReport;

/// What differs between two sets of objects, by name.
#[derive(Debug, Default)]
struct Names {
    added: Vec<String>,
    changed: Vec<String>,
    removed: Vec<String>,
    unchanged: u64,
}

fn compare<T: PartialEq, K: Eq + Hash>(
    old: &[T],
    new: &[T],
    key: impl Fn(&T) -> K,
    show: impl Fn(&T) -> String,
) -> Names {
    let before: HashMap<K, &T> = old.iter().map(|o| (key(o), o)).collect();
    let after: HashMap<K, &T> = new.iter().map(|o| (key(o), o)).collect();
    let mut names = Names::default();
    for o in new {
        match before.get(&key(o)) {
            None => names.added.push(show(o)),
            Some(b) if *b == o => names.unchanged += 1,
            Some(_) => names.changed.push(show(o)),
        }
    }
    names.removed = old.iter().filter(|o| !after.contains_key(&key(o))).map(show).collect();
    names
}

/// What applying `new` over `old` would do, in words; `fdb` says it of the forwarding entries, which come last.
pub fn report(old: &Objects, new: &Objects, fdb: ReloadReport) -> ReloadReport {
    let mut r = ReloadReport::default();
    let kinds = [
        ("vtep", compare(&old.vteps, &new.vteps, |v| v.name.clone(), |v| v.name.clone())),
        ("bd", compare(&old.bds, &new.bds, |b| b.name.clone(), |b| b.name.clone())),
        ("port", compare(&old.ports, &new.ports, |p| p.name.clone(), |p| p.name.clone())),
    ];
    for (kind, names) in kinds {
        let line = |n: String| format!("{kind} {n}");
        r.added.extend(names.added.into_iter().map(line));
        r.changed.extend(names.changed.into_iter().map(line));
        r.removed.extend(names.removed.into_iter().map(line));
        r.unchanged += names.unchanged;
    }
    r.added.extend(fdb.added);
    r.changed.extend(fdb.changed);
    r.removed.extend(fdb.removed);
    r.unchanged += fdb.unchanged;
    r
}

/// Settings that differ and only a restart changes, as `table.key` or `table`.
pub fn needs_restart(running: &Settings, wanted: &Settings) -> Vec<String> {
    let differs = [
        ("daemon.socket", running.daemon.socket != wanted.daemon.socket),
        ("daemon.log", running.daemon.log != wanted.daemon.log),
        ("dpdk", running.dpdk != wanted.dpdk),
        ("workers", running.workers != wanted.workers),
        ("tunnel", running.tunnel != wanted.tunnel),
        ("uplink", running.uplinks != wanted.uplinks),
    ];
    differs.into_iter().filter(|(_, d)| *d).map(|(n, _)| n.to_owned()).collect()
}
