//! The forwarding entries: what leads where, and who made it.
//!
//! There may be millions, so the forwarding table is the one record of them. An entry's value says where it leads (the
//! id of a VTEP, or of a port's present life) and, in the bits that workers do not look at, who made it. Beside it
//! stand only the numbers of entries by bridge domain and next hop, so that a change of ports, VTEPs or bridge
//! domains learns what it touches without a look at any entry, and goes through the table only if it touches one.
//!
//! | change | file | costs |
//! |---|---|---|
//! | a batch of the API's | [`batch`] | in proportion to the batch |
//! | of ports, VTEPs, bridge domains, and of the file | [`intent`] | one pass through the table if entries must follow |
//!
//! A port that was opened anew (another socket, another bridge domain) has another id, and its entries follow it
//! ([`Entries::follow_ports`]). A port that ought to run and could not be opened keeps its entries: they hold the id
//! of its last life, and frames for them are dropped as `port-gone`, until it is back.

mod batch;
mod intent;
mod table;
#[cfg(test)]
mod tests;

pub use intent::Plan;
pub use table::Table;

use std::collections::HashMap;

use weft_dataplane::forwarding::{NextHopId, VtepSet};
use weft_tables::OutOfMemory;
use weft_tables::fdb::{FdbKey, FdbStats, FdbWriter};
use weft_wire::MacAddr;

use super::ids::Ids;
use crate::api::ApiError;
use crate::model::{FdbTarget, Owner};
use crate::status::FdbStatus;

/// More entries than these go into the table in bursts.
const BULK: usize = 64;
/// Entries of a kind that an error names.
const NAMED: usize = 20;

/// The entry's value: where it leads, and who made it.
fn value(hop: NextHopId, owner: Owner) -> u32 {
    hop.marked(owner as u8).raw()
}

/// Where an entry of this value leads.
fn hop_of(value: u32) -> NextHopId {
    NextHopId::from_raw(value).marked(0)
}

/// Who made an entry of this value.
fn owner_of(value: u32) -> Owner {
    if NextHopId::from_raw(value).mark() == Owner::Api as u8 { Owner::Api } else { Owner::File }
}

fn mac_of(key: FdbKey) -> MacAddr {
    MacAddr::from_u64(key.mac())
}

/// Numbers of entries, by owner.
type Counts = [usize; 2];

/// A port as entries see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Home {
    /// What entries that lead to it say.
    hop: NextHopId,
    /// Of its bridge domain; 0, which is none's, until the change that made it is in force.
    network: u32,
}

/// The forwarding entries.
pub struct Entries<T = FdbWriter> {
    table: T,
    /// How many entries of a network lead to a next hop. None is 0.
    uses: HashMap<(u32, NextHopId), Counts>,
    /// Every port of the running objects.
    ports: HashMap<String, Home>,
    /// VTEPs of each network.
    vteps: HashMap<u32, VtepSet>,
}

/// Keys that were given values, in turn, and the value each had before (`None`: it was not there).
#[derive(Debug, Default)]
pub struct Undo(Vec<(FdbKey, Option<u32>)>);

impl Entries {
    /// Figures of the table.
    pub fn stats(&self) -> FdbStats {
        self.table.stats()
    }
}

impl<T: Table> Entries<T> {
    /// The entries of a table, which is empty.
    pub fn new(table: T) -> Self {
        Self { table, uses: HashMap::new(), ports: HashMap::new(), vteps: HashMap::new() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// How many there are in each network that has any.
    pub fn by_network(&self) -> HashMap<u32, u64> {
        let mut sums = HashMap::new();
        for ((network, _), counts) in &self.uses {
            *sums.entry(*network).or_default() += counts.iter().sum::<usize>() as u64;
        }
        sums
    }

    /// Where a port's or VTEP's entries lead.
    fn hop(&self, target: &FdbTarget, ids: &Ids) -> Option<NextHopId> {
        match target {
            FdbTarget::Port(name) => self.ports.get(name).map(|home| home.hop),
            FdbTarget::Vtep(name) => ids.vtep(name).map(NextHopId::vtep),
        }
    }

    /// Some of the entries (at most `most`) for whose network, next hop and owner `which` says so. Looks at entries only
    /// if there is one.
    fn some(
        &self,
        most: usize,
        which: impl Fn(u32, NextHopId, Owner) -> bool,
    ) -> impl Iterator<Item = (FdbKey, u32)> {
        let mut found = Vec::new();
        let any = self.uses.iter().any(|((network, hop), counts)| {
            [Owner::File, Owner::Api].iter().any(|o| counts[*o as usize] > 0 && which(*network, *hop, *o))
        });
        if any {
            self.table.scan(&mut |key, value| {
                if which(key.network(), hop_of(value), owner_of(value)) {
                    found.push((key, value));
                }
                found.len() < most
            });
        }
        found.into_iter()
    }

    /// MACs of some entries in a bridge domain.
    pub fn in_bd(&self, bd: &str, ids: &Ids, most: usize) -> Vec<MacAddr> {
        let Some(network) = ids.network(bd) else { return Vec::new() };
        self.some(most, |n, _, _| n == network).map(|(key, _)| mac_of(key)).collect()
    }

    /// Some entries that lead to a port or VTEP and were made by one of `owners`, as `BD/MAC`.
    pub fn leading_to(&self, target: &FdbTarget, owners: &[Owner], ids: &Ids, most: usize) -> Vec<String> {
        let Some(hop) = self.hop(target, ids) else { return Vec::new() };
        let names = Names::new(self, ids);
        let found = self.some(most, |_, h, owner| h == hop && owners.contains(&owner));
        found.map(|(key, _)| format!("{}/{}", names.bd(key), mac_of(key))).collect()
    }

    /// All entries, or those of one bridge domain, in order. What is kept until the last one is taken are 24 bytes an entry.
    pub fn list(&self, bd: Option<&str>, ids: &Ids) -> impl Iterator<Item = FdbStatus> + Send + use<T> {
        let network = bd.map(|bd| ids.network(bd));
        let mut rows = Vec::with_capacity(if bd.is_none() { self.len() } else { 0 });
        self.table.scan(&mut |key, value| {
            if network.is_none_or(|n| n == Some(key.network())) {
                rows.push((key, value));
            }
            true
        });
        rows.sort_unstable_by_key(|(key, _)| (key.network(), key.mac()));
        let names = Names::new(self, ids);
        rows.into_iter().filter_map(move |(key, value)| names.describe(key, value))
    }

    fn count(&mut self, key: FdbKey, value: u32, by: isize) {
        let pair = (key.network(), hop_of(value));
        let counts = self.uses.entry(pair).or_default();
        let count = &mut counts[owner_of(value) as usize];
        *count = count.saturating_add_signed(by);
        if *counts == [0, 0] {
            self.uses.remove(&pair);
        }
    }

    /// Gives entries values, those that are not there included. Keys are different. What was done is in `undo`, also
    /// after an error.
    fn put(&mut self, changes: &[(FdbKey, u32)], undo: &mut Undo) -> Result<(), OutOfMemory> {
        let before: Vec<_> = changes.iter().map(|(key, _)| (*key, self.table.get(*key))).collect();
        let mut done = 0;
        let result = if changes.len() > BULK {
            let result = self.table.insert_all(changes);
            done = result.as_ref().map_or_else(|(done, _)| *done, |()| changes.len());
            result.map_err(|(_, e)| e)
        } else {
            changes.iter().try_for_each(|(key, value)| {
                self.table.insert(*key, *value)?;
                done += 1;
                Ok(())
            })
        };
        for ((key, value), (_, before)) in changes[..done].iter().zip(&before) {
            if let Some(before) = before {
                self.count(*key, *before, -1);
            }
            self.count(*key, *value, 1);
        }
        undo.0.extend(&before[..done]);
        result
    }

    /// Takes an entry out. Cannot fail.
    fn take(&mut self, key: FdbKey) {
        if let Some(value) = self.table.remove(key) {
            self.count(key, value, -1);
        }
    }

    /// Takes back what was put. It cannot fail for want of memory: entries go, or get back the value they had in their
    /// place; only a change that came to its end has removed any, and nothing fails after that.
    pub fn unmake(&mut self, undo: Undo) {
        for (key, before) in undo.0.into_iter().rev() {
            let Some(value) = before else {
                self.take(key);
                continue;
            };
            match self.table.insert(key, value) {
                Ok(Some(undone)) => {
                    self.count(key, undone, -1);
                    self.count(key, value, 1);
                }
                Ok(None) => self.count(key, value, 1),
                Err(e) => tracing::error!("undoing a change of the FDB: {e}"),
            }
        }
    }
}

/// An error for a table that can't grow.
pub fn full(e: &OutOfMemory) -> ApiError {
    ApiError::precondition(format!("the FDB can't grow: {e}"))
        .hint("free memory on this host or use fewer entries")
}

/// What the numbers in entries mean.
struct Names {
    bds: HashMap<u32, String>,
    targets: HashMap<NextHopId, FdbTarget>,
}

impl Names {
    fn new<T>(entries: &Entries<T>, ids: &Ids) -> Self {
        let ports = entries.ports.iter().map(|(name, home)| (home.hop, FdbTarget::Port(name.clone())));
        let vteps = ids.vteps().map(|(name, slot)| (NextHopId::vtep(slot), FdbTarget::Vtep(name.to_owned())));
        Self {
            bds: ids.networks().map(|(name, network)| (network, name.to_owned())).collect(),
            targets: ports.chain(vteps).collect(),
        }
    }

    fn bd(&self, key: FdbKey) -> &str {
        self.bds.get(&key.network()).map_or("", String::as_str)
    }

    /// `None` if a number has no name, which is ruled out: what entries name is removed after them.
    fn describe(&self, key: FdbKey, value: u32) -> Option<FdbStatus> {
        Some(FdbStatus {
            bd: self.bds.get(&key.network())?.clone(),
            mac: mac_of(key),
            target: self.targets.get(&hop_of(value))?.clone(),
            owner: owner_of(value),
        })
    }
}
