//! The transaction: from the running objects to the wanted ones, whole or not at all.
//!
//! Order is what makes it safe while packets flow. What is new is made before anything refers to it (ports opened,
//! ids taken, VTEP slots written, FDB entries inserted, then the tables published); what is gone is closed only after
//! nothing refers to it (entries removed, tables published, a grace period). A step that fails undoes those before it.
//!
//! Ports that are replaced, or whose socket or device another one is to have, are closed early, last of all steps but
//! the opening of their successors: their slots' generations keep the tables that still name them from misleading.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use weft_dataplane::underlay::agent::{AgentCommand, Plan, VtepPlan};

use weft_dataplane::forwarding::NextHopId;

use super::compile::{self, PortFacts};
use super::fdb::{self, Plan as FdbPlan};
use super::ports::resource;
use super::{Shared, State, backlog, workers};
use crate::api::{ApiError, ApiResult};
use crate::model::{Model, Objects, Port};
use crate::validate::validate_intent;

/// How long to wait for workers and the agent before giving up with an alarm.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What has been done so far and can be undone.
#[derive(Default)]
struct Undo {
    opened: Vec<String>,
    moved: Vec<String>,
    vteps: Vec<String>,
    networks: Vec<String>,
    told_agent: bool,
    fdb: fdb::Undo,
}

/// What a change means for ports.
#[derive(Default)]
struct PortSteps<'a> {
    /// New ones that nothing stands in the way of.
    open: Vec<&'a Port>,
    /// Running ones that have to go first, by name.
    close: Vec<String>,
    /// Those that take the place of the closed ones.
    open_late: Vec<&'a Port>,
    /// Those that only go to another bridge domain.
    moved: Vec<&'a Port>,
}

impl State {
    /// What running ports and the uplink contribute to the tables.
    pub(super) fn facts(&self) -> (BTreeMap<String, PortFacts>, PortFacts) {
        let n = self.workers.len();
        let ports = self.ports.iter().map(|(name, p)| (name.clone(), p.facts(n))).collect();
        (ports, self.uplink.facts(n))
    }

    /// Compiles the running objects and publishes the result. Does not wait.
    pub(super) fn publish(&mut self, shared: &Shared) {
        self.generation += 1;
        self.published = self.facts();
        let (ports, uplink) = &self.published;
        let local = super::boot::uplink_entry(&shared.settings, &self.uplink);
        let tables = compile::compile(&compile::Input {
            objects: &self.objects,
            ids: &self.ids,
            ports,
            uplink: (&local, uplink),
            workers: self.workers.len(),
            generation: self.generation,
        });
        let bytes = std::mem::replace(&mut self.published_bytes, compile::bytes(&tables));
        shared.fwd.tables.swap_sized(Box::new(tables), bytes);
    }

    /// Makes `new` the running objects, and of the forwarding entries what `plan` says. When it returns, every worker
    /// uses them, or nothing has changed. Refused while too much of what earlier changes replaced waits for a stalled worker.
    pub(super) fn apply(&mut self, shared: &Shared, new: Objects, plan: FdbPlan<'_>) -> ApiResult<()> {
        backlog::check(&shared.domain)?;
        self.transact(shared, new, plan)
    }

    /// As [`State::apply`], whatever waits.
    pub(super) fn transact(&mut self, shared: &Shared, new: Objects, plan: FdbPlan<'_>) -> ApiResult<()> {
        let model = Model { settings: shared.settings.clone(), objects: new, fdb: Vec::new() };
        let mut findings = validate_intent(&model);
        let new = model.objects;
        findings.extend(self.fdb.check(plan, &new, &self.ids));
        if !findings.is_empty() {
            return Err(ApiError::from_findings(&findings));
        }

        let mut undo = Undo::default();
        if let Err(e) = self.make(shared, &new, plan, &mut undo) {
            self.unmake(shared, undo);
            return Err(e);
        }
        let old = std::mem::replace(&mut self.objects, new);
        self.publish(shared);
        if let Err(stalled) = shared.domain.synchronize(PATIENCE) {
            tracing::error!("the change is published, but {stalled}");
        }
        self.clean_up(shared, &old);
        self.fdb.settle(&self.objects, &self.ids);
        Ok(())
    }

    fn port_steps<'a>(&self, new: &'a Objects) -> PortSteps<'a> {
        let mut steps = PortSteps::default();
        let mut fresh = Vec::new();
        for p in &new.ports {
            match self.ports.get(&p.name).map(|r| &r.model) {
                None => fresh.push(p),
                Some(old) if old.kind != p.kind => {
                    steps.close.push(p.name.clone());
                    steps.open_late.push(p);
                }
                Some(old) if old.bd != p.bd => steps.moved.push(p),
                Some(_) => {}
            }
        }
        let wanted: HashSet<_> = fresh.iter().chain(&steps.open_late).map(|p| resource(&p.kind)).collect();
        let removed = self.ports.values().filter(|r| new.port(&r.model.name).is_none());
        let in_the_way = removed.filter(|r| wanted.contains(&resource(&r.model.kind)));
        steps.close.extend(in_the_way.map(|r| r.model.name.clone()));
        let taken: HashSet<_> =
            steps.close.iter().filter_map(|n| Some(resource(&self.ports.get(n)?.model.kind))).collect();
        let (late, open): (Vec<_>, Vec<_>) =
            fresh.into_iter().partition(|p| taken.contains(&resource(&p.kind)));
        steps.open = open;
        steps.open_late.extend(late);
        steps
    }

    /// Everything that can fail.
    fn make(&mut self, shared: &Shared, new: &Objects, plan: FdbPlan<'_>, undo: &mut Undo) -> ApiResult<()> {
        let steps = self.port_steps(new);
        for p in steps.open {
            match self.open_port(shared, p) {
                Ok(()) => undo.opened.push(p.name.clone()),
                // It ought to have been there before: no reason to refuse what this change is about.
                Err(e) if self.objects.port(&p.name) == Some(p) => self.not_put_back(p, &e),
                Err(e) => return Err(e),
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
        if self.objects.vteps != new.vteps {
            undo.told_agent = true;
            self.tell_agent(shared, &[&self.objects, new])?;
        }
        // Last of all that can fail but the FDB, since it interrupts running ports.
        for name in steps.close {
            self.close_port(&name);
        }
        for p in steps.open_late {
            self.open_port(shared, p)?;
            undo.opened.push(p.name.clone());
        }
        for p in steps.moved {
            undo.moved.push(p.name.clone());
            self.move_port(p)?;
        }
        self.follow_ports();
        self.fdb.change(plan, &self.ids, &mut undo.fdb).map_err(|e| fdb::full(&e))
    }

    /// Lets the forwarding entries follow ports that were opened anew.
    fn follow_ports(&mut self) {
        let ports = self.ports.iter();
        self.fdb.follow_ports(ports.map(|(n, p)| (n.as_str(), NextHopId::port(p.id.slot, p.id.generation))));
    }

    fn unmake(&mut self, shared: &Shared, undo: Undo) {
        self.fdb.unmake(undo.fdb);
        if undo.told_agent
            && let Err(e) = self.tell_agent(shared, &[&self.objects])
        {
            tracing::error!("undoing a change: {e}");
        }
        undo.vteps.iter().for_each(|v| self.ids.give_vtep(v));
        undo.networks.iter().for_each(|b| self.ids.give_network(b));
        for name in undo.opened {
            self.close_port(&name);
        }
        for name in undo.moved {
            if let Some(old) = self.objects.port(&name).cloned()
                && let Err(e) = self.move_port(&old)
            {
                tracing::error!("undoing a change: {e}");
            }
        }
        // What was closed to make room, and what could not be moved.
        for p in self.objects.ports.clone() {
            if !self.ports.contains_key(&p.name)
                && let Err(e) = self.open_port(shared, &p)
            {
                self.not_put_back(&p, &e);
            }
        }
        // A port that was put back has a new generation.
        self.follow_ports();
        self.fdb.settle(&self.objects, &self.ids);
        self.publish(shared);
    }

    /// A port of the running objects that does not run: shown as an alarm, and tried again with every change and by the
    /// watcher.
    fn not_put_back(&mut self, p: &Port, e: &ApiError) {
        if self.failed.insert(p.name.clone(), e.to_string()).is_none() {
            tracing::error!("{e}; weftd keeps trying to open it");
        }
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
        let (objects, ports) = (&self.objects, &self.ports);
        self.failed.retain(|n, _| objects.port(n).is_some() && !ports.contains_key(n));
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
