//! The transaction: from the running objects to the wanted ones, whole or not at all.
//!
//! Order is what makes it safe while packets flow. What is new is made before anything refers to it (ports opened,
//! ids taken, VTEP slots written, FDB entries inserted, then the tables published); what is gone is closed only after
//! nothing refers to it (entries removed, tables published, a grace period). A step that fails undoes those before it.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::Duration;

use weft_dataplane::underlay::agent::{AgentCommand, Plan, VtepPlan};
use weft_tables::fdb::FdbKey;
use weft_wire::MacAddr;

use super::compile::{self, PortFacts};
use super::ports::{self, Opener, RunningPort};
use super::{Shared, State, workers};
use crate::api::{ApiError, ApiResult};
use crate::model::{FdbEntry, FdbTarget, Model, Objects, Port, Settings};
use crate::status::ReloadReport;
use crate::validate::validate;
use weft_dataplane::counters::PortTotals;

/// How long to wait for workers and the agent before giving up with an alarm.
const PATIENCE: Duration = Duration::from_secs(5);

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

fn fdb_key(e: &FdbEntry) -> (&str, MacAddr) {
    (&e.bd, e.mac)
}

/// What applying `new` over `old` would do, in words.
pub fn report(old: &Objects, new: &Objects) -> ReloadReport {
    let mut r = ReloadReport::default();
    let kinds = [
        ("vtep", compare(&old.vteps, &new.vteps, |v| v.name.clone(), |v| v.name.clone())),
        ("bd", compare(&old.bds, &new.bds, |b| b.name.clone(), |b| b.name.clone())),
        ("port", compare(&old.ports, &new.ports, |p| p.name.clone(), |p| p.name.clone())),
        ("fdb", compare(&old.fdb, &new.fdb, |e| (e.bd.clone(), e.mac), |e| format!("{}/{}", e.bd, e.mac))),
    ];
    for (kind, names) in kinds {
        let line = |n: String| format!("{kind} {n}");
        r.added.extend(names.added.into_iter().map(line));
        r.changed.extend(names.changed.into_iter().map(line));
        r.removed.extend(names.removed.into_iter().map(line));
        r.unchanged += names.unchanged;
    }
    r
}

/// What has been done so far and can be undone.
#[derive(Default)]
struct Undo {
    opened: Vec<String>,
    vteps: Vec<String>,
    networks: Vec<String>,
    fdb: Vec<(FdbKey, Option<u32>)>,
}

impl State {
    /// What running ports contribute to the tables.
    fn facts(&self) -> BTreeMap<String, PortFacts> {
        let n = self.workers.len();
        self.ports.iter().map(|(name, p)| (name.clone(), p.facts(n))).collect()
    }

    /// Compiles the running objects and publishes the result. Does not wait.
    pub(super) fn publish(&mut self, shared: &Shared) {
        self.generation += 1;
        let ports = self.facts();
        let uplink = self.uplink.facts(self.workers.len());
        let local = super::boot::uplink_entry(&shared.settings, &self.uplink);
        let tables = compile::compile(&compile::Input {
            objects: &self.objects,
            ids: &self.ids,
            ports: &ports,
            uplink: (&local, &uplink),
            workers: self.workers.len(),
            generation: self.generation,
        });
        shared.fwd.tables.swap(tables);
    }

    /// Makes `new` the running objects. When it returns, every worker uses them, or nothing has changed.
    pub(super) fn apply(&mut self, shared: &Shared, new: Objects) -> ApiResult<ReloadReport> {
        let model = Model { settings: shared.settings.clone(), objects: new };
        let findings = validate(&model);
        if !findings.is_empty() {
            return Err(ApiError::from_findings(&findings));
        }
        let new = model.objects;
        let done = report(&self.objects, &new);

        let mut undo = Undo::default();
        if let Err(e) = self.make(shared, &new, &mut undo) {
            self.unmake(shared, undo);
            return Err(e);
        }
        let old = std::mem::replace(&mut self.objects, new);
        self.publish(shared);
        if let Err(stalled) = shared.domain.synchronize(PATIENCE) {
            tracing::error!("the change is published, but {stalled}");
        }
        self.clean_up(shared, &old);
        Ok(done)
    }

    /// Everything that can fail.
    fn make(&mut self, shared: &Shared, new: &Objects, undo: &mut Undo) -> ApiResult<()> {
        let mut replaced = Vec::new();
        for p in &new.ports {
            match self.ports.get(&p.name).map(|r| r.model.kind == p.kind) {
                None => {
                    self.open_port(shared, p)?;
                    undo.opened.push(p.name.clone());
                }
                Some(false) => replaced.push(p),
                Some(true) => {}
            }
        }
        for v in &new.vteps {
            if self.ids.vtep(&v.name).is_none() {
                self.ids.take_vtep(&v.name).ok_or_else(|| {
                    ApiError::precondition(format!("vtep {}: weftd holds as many VTEPs as it can", v.name))
                })?;
                undo.vteps.push(v.name.clone());
            }
        }
        for b in &new.bds {
            if self.ids.network(&b.name).is_none() {
                self.ids.take_network(&b.name).ok_or_else(|| {
                    ApiError::precondition(format!("bd {}: all network ids were used", b.name))
                        .hint("restart weftd: ids are not used twice")
                })?;
                undo.networks.push(b.name.clone());
            }
        }
        self.tell_agent(shared, &[&self.objects, new])?;
        // Last of all that can fail but the FDB, since it interrupts a running port.
        for p in replaced {
            self.replace_port(shared, p)?;
        }
        self.change_fdb(new, undo)
    }

    fn unmake(&mut self, shared: &Shared, undo: Undo) {
        for (key, before) in undo.fdb.into_iter().rev() {
            match before {
                // There was room for this entry before.
                Some(v) => drop(self.fdb.insert(key, v)),
                None => drop(self.fdb.remove(key)),
            }
        }
        if let Err(e) = self.tell_agent(shared, &[&self.objects]) {
            tracing::error!("undoing a change: {e}");
        }
        undo.vteps.iter().for_each(|v| self.ids.give_vtep(v));
        undo.networks.iter().for_each(|b| self.ids.give_network(b));
        for name in undo.opened {
            self.close_port(&name);
        }
        // A port that was replaced and put back has a new generation.
        if let Err(e) = self.change_fdb(&self.objects.clone(), &mut Undo::default()) {
            tracing::error!("undoing a change: {e}");
        }
        self.publish(shared);
    }

    /// Opens a port and hands its queues to workers. Nothing leads to it yet.
    fn open_port(&mut self, shared: &Shared, p: &Port) -> ApiResult<()> {
        let reserved = ports::mbufs_of(&p.kind);
        let size = u64::from(shared.pool.size());
        if self.reserved + reserved > size {
            let free = size.saturating_sub(self.reserved);
            return Err(ApiError::precondition(format!(
                "port {}: needs {reserved} packet buffers reserved, but only {free} of {size} are left",
                p.name
            ))
            .hint("raise dpdk.mbufs (and dpdk.memory_mb) in the configuration and restart weftd, or use fewer queues"));
        }
        let id = self.ids.take_port().ok_or_else(|| {
            ApiError::precondition(format!("port {}: weftd has as many ports as it can", p.name))
        })?;
        let opener = Opener {
            eal: shared.eal.clone(),
            pool: shared.pool.clone(),
            domain: shared.domain.clone(),
            poke: shared.poke.clone(),
        };
        let opened = opener.open(p).map_err(|e| {
            self.ids.give_port(id);
            ApiError::precondition(format!("port {}: {e}", p.name))
        })?;
        let (rx_queues, tx_queues) = (opened.rx.len(), opened.tx.len());
        self.baselines.insert(id.slot, PortTotals::sum(shared.counters.iter().map(AsRef::as_ref), id.slot));
        if let Err(e) = workers::give_queues(&mut self.workers, id, opened.rx, opened.tx) {
            ports::close(opened.device, Vec::new(), Vec::new());
            self.ids.give_port(id);
            return Err(ApiError::internal(format!("port {}: {e}", p.name)));
        }
        self.reserved += reserved;
        let mut running = RunningPort {
            model: p.clone(),
            id,
            device: opened.device,
            rx_queues,
            tx_queues,
            reserved,
            link: false,
        };
        running.link = running.link_now();
        self.ports.insert(p.name.clone(), running);
        Ok(())
    }

    /// Takes a port's queues back and closes it. Nothing may lead to it any more.
    fn close_port(&mut self, name: &str) {
        let Some(p) = self.ports.remove(name) else { return };
        match workers::take_queues(&mut self.workers, p.id) {
            Ok((rx, tx)) => ports::close(p.device, rx, tx),
            Err(e) => {
                // A worker that does not answer still has the queues: closing the device under it is not possible.
                tracing::error!("port {name}: {e}; its device stays open until weftd is restarted");
                std::mem::forget(p.device);
                return;
            }
        }
        self.reserved -= p.reserved;
        self.ids.give_port(p.id);
    }

    /// Closes a port and opens it with other properties; puts the old one back if that fails.
    fn replace_port(&mut self, shared: &Shared, p: &Port) -> ApiResult<()> {
        let Some(old) = self.ports.get(&p.name).map(|r| r.model.clone()) else { return Ok(()) };
        self.close_port(&p.name);
        self.open_port(shared, p).inspect_err(|_| {
            if let Err(e) = self.open_port(shared, &old) {
                tracing::error!("port {} can't be put back after a failed change: {e}", old.name);
            }
        })
    }

    /// Brings the FDB to `new`: what is missing or leads elsewhere is inserted, what is not in it removed.
    fn change_fdb(&mut self, new: &Objects, undo: &mut Undo) -> ApiResult<()> {
        let ports = self.facts();
        let mut wanted: HashMap<FdbKey, u32> = HashMap::with_capacity(new.fdb.len());
        for e in &new.fdb {
            if let Some((key, value)) = compile::fdb_entry(e, &self.ids, &ports) {
                wanted.insert(key, value);
                if self.fdb.get(key) != Some(value) {
                    let before = self.fdb.insert(key, value).map_err(|e| {
                        ApiError::precondition(format!("the FDB can't grow: {e}"))
                            .hint("free memory on this host or use fewer entries")
                    })?;
                    undo.fdb.push((key, before));
                }
            }
        }
        if wanted.len() < self.fdb.len() {
            let gone: Vec<_> = self.fdb.iter().filter(|(k, _)| !wanted.contains_key(k)).collect();
            for (key, value) in gone {
                self.fdb.remove(key);
                undo.fdb.push((key, Some(value)));
            }
        }
        Ok(())
    }

    /// Gives the agent the VTEPs of all these objects and waits until their slots are written. Later objects win.
    fn tell_agent(&self, shared: &Shared, objects: &[&Objects]) -> ApiResult<()> {
        let mut vteps = BTreeMap::new();
        for v in objects.iter().flat_map(|o| &o.vteps) {
            if let Some(slot) = self.ids.vtep(&v.name) {
                let port = v.port.unwrap_or_else(|| shared.settings.tunnel.port_of(v.encap));
                vteps.insert(slot, VtepPlan { slot, ip: v.address, encap: v.encap, port });
            }
        }
        let plan = super::boot::plan(&shared.settings, &self.uplink, vteps.into_values().collect());
        send_plan(&self.agent, plan)
    }

    /// Closes what nothing leads to any more.
    fn clean_up(&mut self, shared: &Shared, old: &Objects) {
        let gone: Vec<String> =
            self.ports.keys().filter(|n| self.objects.port(n).is_none()).cloned().collect();
        if !gone.is_empty()
            && let Err(e) = workers::fence(&mut self.workers)
        {
            tracing::error!("removing ports: {e}");
        }
        gone.iter().for_each(|n| self.close_port(n));
        for p in &self.objects.ports {
            if let Some(r) = self.ports.get_mut(&p.name) {
                r.model.clone_from(p);
            }
        }
        let gone: Vec<&str> =
            old.vteps.iter().map(|v| v.name.as_str()).filter(|n| self.objects.vtep(n).is_none()).collect();
        if !gone.is_empty() {
            if let Err(e) = self.tell_agent(shared, &[&self.objects]) {
                tracing::error!("removing VTEPs: {e}");
            }
            gone.into_iter().for_each(|n| self.ids.give_vtep(n));
        }
        for b in old.bds.iter().filter(|b| self.objects.bd(&b.name).is_none()) {
            self.ids.give_network(&b.name);
        }
    }
}

/// Sends the agent a plan and waits until it is in force.
pub fn send_plan(agent: &crossbeam::channel::Sender<AgentCommand>, plan: Plan) -> ApiResult<()> {
    let (done, is_done) = crossbeam::channel::bounded(1);
    let sent = agent.send(AgentCommand::Plan(Box::new(plan), done));
    sent.ok()
        .and_then(|()| is_done.recv_timeout(PATIENCE).ok())
        .ok_or_else(|| ApiError::internal("the underlay's agent does not answer"))
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

/// Names of FDB entries that lead to a port or VTEP, at most a few, for messages.
pub fn leading_to(objects: &Objects, target: &FdbTarget) -> Vec<String> {
    let hits = objects.fdb.iter().filter(|e| e.target == *target);
    hits.take(3)
        .map(|e| {
            let (bd, mac) = fdb_key(e);
            format!("{bd}/{mac}")
        })
        .collect()
}
