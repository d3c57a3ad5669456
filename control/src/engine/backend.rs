//! What the API calls: each change is a new set of objects, given to the one transaction.

use super::diff::{leading_to, needs_restart, report};
use super::{Engine, Shared, State};
use crate::api::{ApiError, ApiResult, Backend, FdbKey};
use crate::config;
use crate::model::{Bd, BdUpdate, FdbEntry, FdbTarget, Objects, Owner, Port, Vtep};
use crate::status::{
    BdStatus, CheckReport, FdbStatus, NeighbourStatus, PortStatus, ReloadReport, Stats, Status, UplinkStatus,
    VtepStatus, WorkerStatus,
};
use std::collections::HashSet;
use weft_wire::MacAddr;

impl Engine {
    /// Applies an edit of the running objects.
    fn edit(&self, edit: impl FnOnce(&mut Objects) -> ApiResult<()>) -> ApiResult<()> {
        let mut s = self.shared.state();
        let mut new = s.objects.clone();
        edit(&mut new)?;
        s.apply(&self.shared, new).map(drop)
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

fn remove_port(o: &mut Objects, name: &str) -> ApiResult<()> {
    let p = o.port(name).ok_or_else(|| missing("port", name))?;
    api_owned("port", name, p.owner)?;
    let target = FdbTarget::Port(name.to_owned());
    // Entries that the API made for the port go with it; the file's would be left dangling.
    let file: Vec<FdbEntry> = o.fdb.iter().filter(|e| e.owner == Owner::File).cloned().collect();
    unused(&format!("port {name}"), leading_to(&Objects { fdb: file, ..Objects::default() }, &target))?;
    o.fdb.retain(|e| e.target != target);
    o.ports.retain(|p| p.name != name);
    Ok(())
}

fn remove_bd(o: &mut Objects, name: &str) -> ApiResult<()> {
    let b = o.bd(name).ok_or_else(|| missing("bd", name))?;
    api_owned("bd", name, b.owner)?;
    let mut users: Vec<String> =
        o.ports.iter().filter(|p| p.bd == name).map(|p| format!("port {}", p.name)).take(3).collect();
    users.extend(o.fdb.iter().filter(|e| e.bd == name).map(|e| format!("fdb {}", e.mac)).take(3));
    unused(&format!("bd {name}"), users)?;
    o.bds.retain(|b| b.name != name);
    Ok(())
}

fn remove_vtep(o: &mut Objects, name: &str) -> ApiResult<()> {
    let v = o.vtep(name).ok_or_else(|| missing("vtep", name))?;
    api_owned("vtep", name, v.owner)?;
    let in_bds = o.bds.iter().filter(|b| b.vteps.iter().any(|v| v == name));
    let mut users: Vec<String> = in_bds.map(|b| format!("bd {}", b.name)).take(3).collect();
    users.extend(leading_to(o, &FdbTarget::Vtep(name.to_owned())).into_iter().map(|e| format!("fdb {e}")));
    unused(&format!("vtep {name}"), users)?;
    o.vteps.retain(|v| v.name != name);
    Ok(())
}

fn add_fdb(o: &mut Objects, entries: Vec<FdbEntry>) -> ApiResult<()> {
    let there: HashSet<(&str, _)> = o.fdb.iter().map(|e| (e.bd.as_str(), e.mac)).collect();
    if let Some(e) = entries.iter().find(|e| there.contains(&(e.bd.as_str(), e.mac))) {
        return Err(ApiError::already_exists(format!("bd {} has an entry for {} already", e.bd, e.mac)));
    }
    o.fdb.extend(entries);
    Ok(())
}

fn remove_fdb(o: &mut Objects, keys: &[FdbKey]) -> ApiResult<()> {
    let wanted: HashSet<(&str, MacAddr)> = keys.iter().map(|k| (k.bd.as_str(), k.mac)).collect();
    let there: HashSet<(&str, MacAddr)> = o.fdb.iter().map(|e| (e.bd.as_str(), e.mac)).collect();
    if let Some((bd, mac)) = wanted.difference(&there).next() {
        return Err(ApiError::not_found(format!("bd {bd} has no entry for {mac}")));
    }
    for e in o.fdb.iter().filter(|e| wanted.contains(&(e.bd.as_str(), e.mac))) {
        api_owned("fdb", &format!("{}/{}", e.bd, e.mac), e.owner)?;
    }
    o.fdb.retain(|e| !wanted.contains(&(e.bd.as_str(), e.mac)));
    Ok(())
}

/// The running objects with the file's part exchanged.
fn with_file(running: &Objects, file: Objects) -> Objects {
    let mut new = file;
    new.extend(running.owned_by(Owner::Api));
    new
}

impl Shared {
    /// What a reload would make of the file: the new objects, and the settings that wait for a restart.
    fn read_file(&self, s: &State) -> Result<(Objects, Vec<String>), Vec<String>> {
        let loaded = config::load(&self.config).map_err(|e| e.messages())?;
        let restart = needs_restart(&self.settings, &loaded.model.settings);
        Ok((with_file(&s.objects, loaded.model.objects), restart))
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

    fn fdb(&self, bd: Option<&str>) -> ApiResult<Vec<FdbStatus>> {
        let s = self.shared.state();
        if let Some(name) = bd
            && s.objects.bd(name).is_none()
        {
            return Err(missing("bd", name));
        }
        Ok(s.fdb_status(bd))
    }

    fn neighbours(&self) -> ApiResult<Vec<NeighbourStatus>> {
        Ok(self.shared.state().neighbour_status(&self.shared))
    }

    fn stats(&self) -> ApiResult<Stats> {
        Ok(self.shared.state().stats(&self.shared))
    }

    fn add_port(&self, port: Port) -> ApiResult<()> {
        self.edit(|o| match o.port(&port.name) {
            Some(_) => Err(taken("port", &port.name)),
            None => {
                o.ports.push(port);
                Ok(())
            }
        })
    }

    fn remove_port(&self, name: &str) -> ApiResult<()> {
        self.edit(|o| remove_port(o, name))
    }

    fn add_bd(&self, bd: Bd) -> ApiResult<()> {
        self.edit(|o| match o.bd(&bd.name) {
            Some(_) => Err(taken("bd", &bd.name)),
            None => {
                o.bds.push(bd);
                Ok(())
            }
        })
    }

    fn update_bd(&self, name: &str, update: BdUpdate) -> ApiResult<()> {
        self.edit(|o| {
            let b = o.bds.iter_mut().find(|b| b.name == name).ok_or_else(|| missing("bd", name))?;
            api_owned("bd", name, b.owner)?;
            update.apply(b);
            Ok(())
        })
    }

    fn remove_bd(&self, name: &str) -> ApiResult<()> {
        self.edit(|o| remove_bd(o, name))
    }

    fn add_vtep(&self, vtep: Vtep) -> ApiResult<()> {
        self.edit(|o| match o.vtep(&vtep.name) {
            Some(_) => Err(taken("vtep", &vtep.name)),
            None => {
                o.vteps.push(vtep);
                Ok(())
            }
        })
    }

    fn remove_vtep(&self, name: &str) -> ApiResult<()> {
        self.edit(|o| remove_vtep(o, name))
    }

    fn add_fdb(&self, entries: Vec<FdbEntry>) -> ApiResult<()> {
        self.edit(|o| add_fdb(o, entries))
    }

    fn remove_fdb(&self, keys: Vec<FdbKey>) -> ApiResult<()> {
        self.edit(|o| remove_fdb(o, &keys))
    }

    fn reload(&self) -> ApiResult<ReloadReport> {
        let mut s = self.shared.state();
        let (new, restart) = self.shared.read_file(&s).map_err(|lines| {
            ApiError::invalid(lines.join("\n")).hint("nothing was changed; mend the file and reload again")
        })?;
        let before = s.objects.owned_by(Owner::File);
        let file = new.owned_by(Owner::File);
        s.apply(&self.shared, new)?;
        s.reloads += 1;
        Ok(ReloadReport { needs_restart: restart, ..report(&before, &file) })
    }

    fn check(&self) -> ApiResult<CheckReport> {
        let s = self.shared.state();
        let file = self.shared.config.display().to_string();
        Ok(match self.shared.read_file(&s) {
            Err(errors) => CheckReport { file, errors, would: None },
            Ok((new, needs_restart)) => {
                let would = report(&s.objects.owned_by(Owner::File), &new.owned_by(Owner::File));
                CheckReport { file, errors: Vec::new(), would: Some(ReloadReport { needs_restart, ..would }) }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ErrorKind;

    fn entry(last: u8, owner: Owner) -> FdbEntry {
        let mac = MacAddr([2, 0, 0, 0, 0, last]);
        FdbEntry { bd: "web".into(), mac, target: FdbTarget::Port("vm1".into()), owner }
    }

    fn port(owner: Owner) -> Port {
        let kind = crate::model::PortKind::Ethdev { device: "net_null0".into(), queues: 1, mtu: 1500 };
        Port { name: "vm1".into(), bd: "web".into(), kind, owner }
    }

    #[test]
    fn a_port_takes_its_own_entries_along_but_not_the_files() {
        let mut o =
            Objects { ports: vec![port(Owner::Api)], fdb: vec![entry(1, Owner::Api)], ..Objects::default() };
        let mut with_file = o.clone();
        with_file.fdb.push(entry(2, Owner::File));
        remove_port(&mut o, "vm1").unwrap();
        assert_eq!(o, Objects::default());
        let refused = remove_port(&mut with_file, "vm1").unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Precondition);
        assert!(refused.message.contains("02:00:00:00:00:02"), "{refused}");
    }

    #[test]
    fn what_the_file_made_is_not_the_apis_to_remove() {
        let mut o = Objects {
            ports: vec![port(Owner::File)],
            fdb: vec![entry(1, Owner::File)],
            ..Objects::default()
        };
        assert_eq!(remove_port(&mut o, "vm1").unwrap_err().kind, ErrorKind::Precondition);
        let key = FdbKey { bd: "web".into(), mac: MacAddr([2, 0, 0, 0, 0, 1]) };
        assert_eq!(remove_fdb(&mut o.clone(), &[key]).unwrap_err().kind, ErrorKind::Precondition);
    }

    #[test]
    fn a_reload_keeps_what_the_api_made() {
        let running =
            Objects { fdb: vec![entry(1, Owner::Api), entry(2, Owner::File)], ..Objects::default() };
        let file = Objects { fdb: vec![entry(3, Owner::File)], ..Objects::default() };
        let macs: Vec<u8> = with_file(&running, file).fdb.iter().map(|e| e.mac.0[5]).collect();
        assert_eq!(macs, [3, 1]);
    }
}
