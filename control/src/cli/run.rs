//! The verbs that talk to weftd.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::args::{Args, BdSet, BdVerb, FdbVerb, PortAdd, PortVerb, Verb, VtepVerb};
use super::{Failure, Output, apply, show};
use crate::api::{ApiError, Client, FdbKey};
use crate::model::{Bd, BdUpdate, FdbEntry, FdbTarget, Owner, Port, PortKind, Vtep};
use crate::validate::closest;

/// What a change answers in JSON.
#[derive(Serialize)]
struct Done {
    /// What was done: `added`, `changed`, `removed`.
    done: &'static str,
    /// To what, as `port vm1`.
    object: String,
}

fn done(done: &'static str, object: String) -> Output {
    Output::new(format!("{done} {object}\n"), &Done { done, object })
}

/// Connects and carries out the verb.
pub(super) fn run(args: &Args) -> Result<Output, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Local(ApiError::internal(format!("cannot start: {error}"))))?;
    let limit = Duration::from_secs(args.timeout);
    runtime.block_on(async {
        let connect = async { Client::connect(&args.socket).await.map_err(Failure::Connect) };
        let mut client = within(limit, connect).await?;
        // As long as its input is what a stream of changes takes: there, each answer is limited.
        let whole = if matches!(args.verb, Verb::Fdb(FdbVerb::Apply(_))) { Duration::MAX } else { limit };
        within(whole, verb(&mut client, &args.verb, limit)).await
    })
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(limit, work).await.unwrap_or(Err(Failure::Timeout(limit)))
}

async fn verb(client: &mut Client, verb: &Verb, limit: Duration) -> Result<Output, Failure> {
    Ok(match verb {
        Verb::Status => {
            let status = client.status().await?;
            Output::new(show::status(&status), &status)
        }
        Verb::Worker(_) => {
            let workers = client.workers().await?;
            Output::new(show::workers(&workers), &workers)
        }
        Verb::Uplink(_) => {
            let uplinks = client.uplinks().await?;
            Output::new(show::uplinks(&uplinks), &uplinks)
        }
        Verb::Neigh(_) => {
            let neighbours = client.neighbours().await?;
            Output::new(show::neighbours(&neighbours), &neighbours)
        }
        Verb::Port(verb) => port(client, verb).await?,
        Verb::Bd(verb) => bd(client, verb).await?,
        Verb::Vtep(verb) => vtep(client, verb).await?,
        Verb::Fdb(verb) => fdb(client, verb, limit).await?,
        Verb::Stats { port: None } => {
            let stats = client.stats().await?;
            Output::new(show::stats(&stats), &stats)
        }
        Verb::Stats { port: Some(name) } => {
            let ports = client.stats().await?.ports;
            let Some(port) = ports.iter().find(|port| port.name == *name) else {
                let error = ApiError::not_found(format!("there is no port or uplink \"{name}\""));
                let hint = match closest(name, ports.iter().map(|port| port.name.as_str())) {
                    Some(close) => format!("did you mean \"{close}\"?"),
                    None => "'weftctl stats' shows which there are".to_owned(),
                };
                return Err(Failure::Local(error.hint(hint)));
            };
            Output::new(show::port_stats(port), port)
        }
        Verb::Drops => {
            let drops = client.stats().await?.drops;
            Output::new(show::drops(&drops), &drops)
        }
        Verb::Reload => {
            let report = client.reload().await?;
            Output::new(show::reload(&report), &report)
        }
        Verb::Check { .. } => {
            let report = client.check().await?;
            let mut output = Output::new(show::check(&report), &report);
            output.failed = !report.errors.is_empty();
            output
        }
    })
}

async fn port(client: &mut Client, verb: &PortVerb) -> Result<Output, Failure> {
    Ok(match verb {
        PortVerb::List => {
            let ports = client.ports(None).await?;
            Output::new(show::ports(&ports), &ports)
        }
        PortVerb::Show { name } => match &client.ports(Some(name)).await?[..] {
            [port] => Output::new(show::port(port), port),
            _ => return Err(Failure::Local(ApiError::not_found(format!("there is no port \"{name}\"")))),
        },
        PortVerb::Add(add) => {
            client.add_port(new_port(add)).await?;
            done("added", format!("port {}", add.name))
        }
        PortVerb::Del { name } => {
            client.remove_port(name).await?;
            done("removed", format!("port {name}"))
        }
    })
}

fn new_port(add: &PortAdd) -> Port {
    let kind = match (&add.kind.vhost_user, &add.kind.device) {
        (_, Some(device)) => PortKind::Ethdev {
            device: device.clone(),
            queues: add.queues,
            mtu: add.mtu.unwrap_or(PortKind::DEFAULT_MTU),
        },
        (socket, None) => PortKind::VhostUser {
            // A relative path means the caller's directory, not weftd's.
            socket: socket.as_ref().map(absolute).unwrap_or_default(),
            mode: add.mode.unwrap_or_default(),
            queues: add.queues,
            packed: add.packed,
        },
    };
    Port { name: add.name.clone(), bd: add.bd.clone(), kind, owner: Owner::Api }
}

fn absolute(path: &PathBuf) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.clone())
}

async fn bd(client: &mut Client, verb: &BdVerb) -> Result<Output, Failure> {
    Ok(match verb {
        BdVerb::List => {
            let bds = client.bds().await?;
            Output::new(show::bds(&bds), &bds)
        }
        BdVerb::Add { name, vni, vteps, inner_vlan } => {
            let bd = Bd {
                name: name.clone(),
                vni: *vni,
                vteps: vteps.clone(),
                inner_vlan: *inner_vlan,
                owner: Owner::Api,
            };
            client.add_bd(bd).await?;
            done("added", format!("bd {name}"))
        }
        BdVerb::Set(BdSet { name, change }) => {
            let update = BdUpdate {
                vni: if change.no_vni { Some(None) } else { change.vni.map(Some) },
                vteps: (change.no_vteps || !change.vteps.is_empty()).then(|| change.vteps.clone()),
                inner_vlan: change.inner_vlan,
            };
            client.update_bd(name, update).await?;
            done("changed", format!("bd {name}"))
        }
        BdVerb::Del { name } => {
            client.remove_bd(name).await?;
            done("removed", format!("bd {name}"))
        }
    })
}

async fn vtep(client: &mut Client, verb: &VtepVerb) -> Result<Output, Failure> {
    Ok(match verb {
        VtepVerb::List => {
            let vteps = client.vteps().await?;
            Output::new(show::vteps(&vteps), &vteps)
        }
        VtepVerb::Add { name, address, encap, port } => {
            let vtep =
                Vtep { name: name.clone(), address: *address, encap: *encap, port: *port, owner: Owner::Api };
            client.add_vtep(vtep).await?;
            done("added", format!("vtep {name}"))
        }
        VtepVerb::Del { name } => {
            client.remove_vtep(name).await?;
            done("removed", format!("vtep {name}"))
        }
    })
}

async fn fdb(client: &mut Client, verb: &FdbVerb, limit: Duration) -> Result<Output, Failure> {
    Ok(match verb {
        FdbVerb::List { bd } => {
            let entries = client.fdb(bd.as_deref()).await?;
            Output::new(show::fdb(&entries), &entries)
        }
        FdbVerb::Add { mac, bd, target } => {
            let target = match (&target.port, &target.vtep) {
                (Some(port), _) => FdbTarget::Port(port.clone()),
                (None, vtep) => FdbTarget::Vtep(vtep.clone().unwrap_or_default()),
            };
            client.add_fdb(vec![FdbEntry { bd: bd.clone(), mac: *mac, target, owner: Owner::Api }]).await?;
            done("added", format!("fdb {bd} {mac}"))
        }
        FdbVerb::Del { mac, bd } => {
            client.remove_fdb(vec![FdbKey { bd: bd.clone(), mac: *mac }]).await?;
            done("removed", format!("fdb {bd} {mac}"))
        }
        FdbVerb::Apply(changes) => apply::apply(client, changes, limit).await?,
    })
}
