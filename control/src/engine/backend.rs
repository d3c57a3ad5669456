//! What the API calls: a change of objects is a new set of them, given to the one transaction; one of forwarding
//! entries is a batch, given to the entries.

use super::apply::PATIENCE;
use super::diff::{needs_restart, report};
use super::fdb::Plan as FdbPlan;
use super::{Engine, Shared, State, backlog};
use crate::api::{ApiError, ApiResult, Backend, FdbApplied, FdbBatch, FdbList, FdbRefusal};
use crate::config;
use crate::model::{Bd, BdUpdate, FdbTarget, Model, Objects, Owner, Port, Vtep};
use crate::status::{
    BdStatus, CheckReport, NeighbourStatus, PortStatus, ReloadReport, Stats, Status, UplinkStatus,
    VtepStatus, WorkerStatus,
};
use weft_wire::MacAddr;

impl Engine {
    /// Applies an edit of the running objects; it is told of the forwarding entries, too.
    fn edit(&self, edit: impl FnOnce(&State, &mut Objects) -> ApiResult<()>) -> ApiResult<()> {
        self.edit_with(FdbPlan::Keep, edit)
    }

    fn edit_with(
        &self,
        plan: FdbPlan<'_>,
        edit: impl FnOnce(&State, &mut Objects) -> ApiResult<()>,
    ) -> ApiResult<()> {
        let mut s = self.shared.state();
        let mut new = s.objects.clone();
        edit(&s, &mut new)?;
        s.apply(&self.shared, new, plan)
    }
}

/// Objects of the file belong to the file: the API does not change them.
fn api_owned(kind: &str, name: &str, owner: Owner) -> ApiResult<()> {
    match owner {
        Owner::Api => Ok(()),
        Owner::File => {
            Err(ApiError::precondition(format!("{kind} {name} belongs to the configuration file"))
                .hint("change it in the file, then run: weftctl reload"))
        }
    }
}

fn missing(kind: &str, name: &str) -> ApiError {
    ApiError::not_found(format!("there is no {kind} {name}")).hint(format!("see: weftctl {kind} list"))
}

fn taken(kind: &str, name: &str) -> ApiError {
    ApiError::already_exists(format!("there is a {kind} {name} already"))
}

/// Refuses to remove what others still need, and names some of them.
fn unused(what: &str, users: Vec<String>) -> ApiResult<()> {
    if users.is_empty() {
        return Ok(());
    }
    Err(ApiError::precondition(format!("{what} is still used by {}", users.join(", ")))
        .hint("remove those first"))
}

/// Entries that the API made for the port go with it; the file's, of which `files` names some, would be left dangling.
fn remove_port(o: &mut Objects, name: &str, files: impl FnOnce(&FdbTarget) -> Vec<String>) -> ApiResult<()> {
    let p = o.port(name).ok_or_else(|| missing("port", name))?;
    api_owned("port", name, p.owner)?;
    unused(&format!("port {name}"), files(&FdbTarget::Port(name.to_owned())))?;
    o.ports.retain(|p| p.name != name);
    Ok(())
}

fn remove_bd(o: &mut Objects, name: &str, entries: &[MacAddr]) -> ApiResult<()> {
    let b = o.bd(name).ok_or_else(|| missing("bd", name))?;
    api_owned("bd", name, b.owner)?;
    let mut users: Vec<String> =
        o.ports.iter().filter(|p| p.bd == name).map(|p| format!("port {}", p.name)).take(3).collect();
    users.extend(entries.iter().map(|mac| format!("fdb {mac}")));
    unused(&format!("bd {name}"), users)?;
    o.bds.retain(|b| b.name != name);
    Ok(())
}

fn remove_vtep(
    o: &mut Objects,
    name: &str,
    entries: impl FnOnce(&FdbTarget) -> Vec<String>,
) -> ApiResult<()> {
    let v = o.vtep(name).ok_or_else(|| missing("vtep", name))?;
    api_owned("vtep", name, v.owner)?;
    let in_bds = o.bds.iter().filter(|b| b.vteps.iter().any(|v| v == name));
    let mut users: Vec<String> = in_bds.map(|b| format!("bd {}", b.name)).take(3).collect();
    users.extend(entries(&FdbTarget::Vtep(name.to_owned())).into_iter().map(|e| format!("fdb {e}")));
    unused(&format!("vtep {name}"), users)?;
    o.vteps.retain(|v| v.name != name);
    Ok(())
}

/// The running objects with the file's part exchanged.
fn with_file(running: &Objects, file: Objects) -> Objects {
    let mut new = file;
    new.extend(running.owned_by(Owner::Api));
    new
}

impl Shared {
    /// What a reload would make of the file, and what that would change.
    fn read_file(&self, s: &State) -> Result<(Model, ReloadReport), Vec<String>> {
        let model = config::load(&self.config).map_err(|e| e.messages())?.model;
        let needs_restart = needs_restart(&self.settings, &model.settings);
        let entries = s.fdb.report(&model.fdb, &s.ids);
        let would = report(&s.objects.owned_by(Owner::File), &model.objects, entries);
        Ok((model, ReloadReport { needs_restart, ..would }))
    }
}

impl Backend for Engine {
    fn status(&self) -> ApiResult<Status> {
        Ok(self.shared.state().status(&self.shared))
    }

    fn workers(&self) -> ApiResult<Vec<WorkerStatus>> {
        Ok(self.shared.state().worker_status(&self.shared))
    }

    fn uplinks(&self) -> ApiResult<Vec<UplinkStatus>> {
        Ok(vec![self.shared.state().uplink_status()])
    }

    fn ports(&self) -> ApiResult<Vec<PortStatus>> {
        Ok(self.shared.state().port_status())
    }

    fn bds(&self) -> ApiResult<Vec<BdStatus>> {
        Ok(self.shared.state().bd_status())
    }

    fn vteps(&self) -> ApiResult<Vec<VtepStatus>> {
        Ok(self.shared.state().vtep_status(&self.shared))
    }

    fn fdb(&self, bd: Option<&str>) -> ApiResult<FdbList> {
        let s = self.shared.state();
        if let Some(name) = bd
            && s.objects.bd(name).is_none()
        {
            return Err(missing("bd", name));
        }
        Ok(Box::new(s.fdb.list(bd, &s.ids)))
    }

    fn neighbours(&self) -> ApiResult<Vec<NeighbourStatus>> {
        Ok(self.shared.state().neighbour_status(&self.shared))
    }

    fn stats(&self) -> ApiResult<Stats> {
        Ok(self.shared.state().stats(&self.shared))
    }

    fn add_port(&self, port: Port) -> ApiResult<()> {
        self.edit(|_, o| match o.port(&port.name) {
            Some(_) => Err(taken("port", &port.name)),
            None => {
                o.ports.push(port);
                Ok(())
            }
        })
    }

    fn remove_port(&self, name: &str) -> ApiResult<()> {
        self.edit_with(FdbPlan::WithoutPort(name), |s, o| {
            remove_port(o, name, |target| s.fdb.leading_to(target, &[Owner::File], &s.ids, 3))
        })
    }

    fn add_bd(&self, bd: Bd) -> ApiResult<()> {
        self.edit(|_, o| match o.bd(&bd.name) {
            Some(_) => Err(taken("bd", &bd.name)),
            None => {
                o.bds.push(bd);
                Ok(())
            }
        })
    }

    fn update_bd(&self, name: &str, update: BdUpdate) -> ApiResult<()> {
        self.edit(|_, o| {
            let b = o.bds.iter_mut().find(|b| b.name == name).ok_or_else(|| missing("bd", name))?;
            api_owned("bd", name, b.owner)?;
            update.apply(b);
            Ok(())
        })
    }

    fn remove_bd(&self, name: &str) -> ApiResult<()> {
        self.edit(|s, o| remove_bd(o, name, &s.fdb.in_bd(name, &s.ids, 3)))
    }

    fn add_vtep(&self, vtep: Vtep) -> ApiResult<()> {
        self.edit(|_, o| match o.vtep(&vtep.name) {
            Some(_) => Err(taken("vtep", &vtep.name)),
            None => {
                o.vteps.push(vtep);
                Ok(())
            }
        })
    }

    fn remove_vtep(&self, name: &str) -> ApiResult<()> {
        self.edit(|s, o| {
            remove_vtep(o, name, |target| s.fdb.leading_to(target, &[Owner::File, Owner::Api], &s.ids, 3))
        })
    }

    fn apply_fdb(&self, batch: &FdbBatch) -> Result<FdbApplied, FdbRefusal> {
        let domain = &self.shared.domain;
        let mut s = self.shared.state();
        backlog::check(domain).map_err(FdbRefusal::whole)?;
        let waiting = domain.pending().items;
        let State { fdb, objects, ids, .. } = &mut *s;
        let applied = fdb.apply(batch, objects, ids)?;
        drop(s);
        // Entries change in place: whoever looks one up from now on finds what it is to be. Only if the table grew there is
        // something to wait for, its memory, and not under the lock.
        if domain.pending().items > waiting
            && let Err(stalled) = domain.synchronize(PATIENCE)
        {
            tracing::error!("the FDB has changed, but {stalled}");
        }
        Ok(applied)
    }

    fn reload(&self) -> ApiResult<ReloadReport> {
        let mut s = self.shared.state();
        let (model, report) = self.shared.read_file(&s).map_err(|lines| {
            ApiError::invalid(lines.join("\n")).hint("nothing was changed; mend the file and reload again")
        })?;
        let new = with_file(&s.objects, model.objects);
        s.apply(&self.shared, new, FdbPlan::File(&model.fdb))?;
        s.reloads += 1;
        Ok(report)
    }

    fn check(&self) -> ApiResult<CheckReport> {
        let s = self.shared.state();
        let file = self.shared.config.display().to_string();
        Ok(match self.shared.read_file(&s) {
            Err(errors) => CheckReport { file, errors, would: None },
            Ok((_, would)) => CheckReport { file, errors: Vec::new(), would: Some(would) },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ErrorKind;

    fn port(name: &str, owner: Owner) -> Port {
        let kind = crate::model::PortKind::Ethdev { device: "net_null0".into(), queues: 1, mtu: 1500 };
        Port { name: name.into(), bd: "web".into(), kind, owner }
    }

    #[test]
    fn a_port_goes_unless_the_files_entries_lead_to_it() {
        let before = Objects { ports: vec![port("vm1", Owner::Api)], ..Objects::default() };
        let mut o = before.clone();
        let refused = remove_port(&mut o, "vm1", |_| vec!["web/02:00:00:00:00:02".into()]).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Precondition);
        assert!(refused.message.contains("02:00:00:00:00:02"), "{refused}");
        assert_eq!(o, before);
        remove_port(&mut o, "vm1", |_| Vec::new()).unwrap();
        assert_eq!(o, Objects::default());
    }

    #[test]
    fn what_the_file_made_is_not_the_apis_to_remove() {
        let mut o = Objects { ports: vec![port("vm1", Owner::File)], ..Objects::default() };
        assert_eq!(remove_port(&mut o, "vm1", |_| Vec::new()).unwrap_err().kind, ErrorKind::Precondition);
    }

    #[test]
    fn a_reload_keeps_what_the_api_made() {
        let of = |ports: &[(&str, Owner)]| Objects {
            ports: ports.iter().map(|(name, owner)| port(name, *owner)).collect(),
            ..Objects::default()
        };
        let running = of(&[("api", Owner::Api), ("old", Owner::File)]);
        let new = with_file(&running, of(&[("new", Owner::File)]));
        let names: Vec<&str> = new.ports.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["new", "api"]);
    }
}
