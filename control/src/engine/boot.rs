//! Start and stop.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use weft_dataplane::counters::ThreadCounters;
use weft_dataplane::forwarding::{Forwarding, Tables, Uplink as UplinkEntry};
use weft_dataplane::tx::handoff_mesh;
use weft_dataplane::underlay::agent::{Agent, AgentCommand, AgentParts, AgentView, Plan, VtepPlan};
use weft_dataplane::underlay::punt;
use weft_dataplane::worker::IdleMode;
use weft_dataplane::{MAX_VTEPS, worker::mailbox::NoAnswer};
use weft_port::{Eal, EalConfig, PortError, RxQueue, Tap, TxQueue};
use weft_tables::fdb::{Fdb, FdbConfig};
use weft_tables::qsbr::Domain;
use weft_tables::{Published, SlotTable};
use weft_wire::{Encap, LocalVtep, MacAddr};

use super::fdb::{Entries, Plan as FdbPlan};
use super::ids::{Ids, PortId};
use super::pools::{Pools, Retired};
use super::ports::{Opener, RunningUplink};
use super::{Engine, Shared, State, watch, workers};
use crate::api::ApiError;
use crate::model::{Dscp, Idle, LogLevel, Model, Objects, PortKind, Settings};

/// Why weftd could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// DPDK or a device.
    #[error("{0}")]
    Port(#[from] PortError),
    /// A worker did not take its queues.
    #[error("{0}")]
    Worker(#[from] NoAnswer),
    /// The objects of the file could not be put in force.
    #[error("{0}\n  {hint}", hint = .0.hint)]
    Objects(ApiError),
    /// Cores, memory or threads.
    #[error("{0}")]
    Host(String),
}

/// The uplink's entry in the forwarding tables.
pub(super) fn uplink_entry(settings: &Settings, up: &RunningUplink) -> UplinkEntry {
    UplinkEntry {
        slot: up.id.slot,
        local: LocalVtep {
            ip: up.model.address.addr(),
            mac: MacAddr(up.device.mac()),
            vxlan_port: settings.tunnel.port_of(Encap::Vxlan),
            geneve_port: settings.tunnel.port_of(Encap::Geneve),
        },
        max_frame: u32::from(up.model.mtu) + 14,
    }
}

/// What the underlay's agent has to know.
pub(super) fn plan(settings: &Settings, up: &RunningUplink, vteps: Vec<VtepPlan>) -> Plan {
    Plan {
        uplink: up.id.slot,
        mac: MacAddr(up.device.mac()),
        ip: up.model.address.addr(),
        prefix: up.model.address.prefix_len(),
        gateway: up.model.gateway,
        ttl: settings.tunnel.ttl,
        df: settings.tunnel.df,
        dscp: match settings.tunnel.dscp {
            Dscp::Fixed(d) => weft_wire::Dscp::Fixed(d),
            Dscp::Inherit => weft_wire::Dscp::Inherit,
        },
        vteps,
    }
}

/// Cores for workers and for everything else.
struct Cores {
    workers: Vec<usize>,
    control: Vec<usize>,
}

fn cores(wanted: Option<&[usize]>) -> Result<Cores, StartError> {
    let mask = sched_getaffinity(Pid::from_raw(0))
        .map_err(|e| StartError::Host(format!("sched_getaffinity: {e}")))?;
    let allowed: Vec<usize> = (0..CpuSet::count()).filter(|c| mask.is_set(*c).unwrap_or(false)).collect();
    let workers = match wanted {
        Some(w) => w.to_vec(),
        // The first core is left to the kernel and to control, if there is another.
        None if allowed.len() > 1 => allowed[1..].to_vec(),
        None => allowed.clone(),
    };
    if let Some(missing) = workers.iter().find(|c| !allowed.contains(c)) {
        return Err(StartError::Host(format!(
            "workers.cores: core {missing} is not available to weftd (it may run on {}): choose others, or start \
             weftd with a wider affinity mask",
            crate::cores::format(&allowed)
        )));
    }
    let rest: Vec<usize> = allowed.iter().copied().filter(|c| !workers.contains(c)).collect();
    Ok(Cores { workers, control: if rest.is_empty() { allowed } else { rest } })
}

/// Keeps control threads, which inherit this mask, off the workers' cores.
fn stay_on(cores: &[usize]) -> Result<(), StartError> {
    let fail = |e| StartError::Host(format!("can't set the control threads' cores: {e}"));
    let mut set = CpuSet::new();
    for c in cores {
        set.set(*c).map_err(fail)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).map_err(fail)
}

/// Whether a device is given by its PCI address (`0000:01:00.0` or `01:00.0`), perhaps with arguments behind it.
fn is_pci(device: &str) -> bool {
    let address = device.split(',').next().unwrap_or_default();
    let Some((bus, function)) = address.rsplit_once('.') else { return false };
    let hex = |f: &str| !f.is_empty() && f.bytes().all(|b| b.is_ascii_hexdigit());
    let fields: Vec<&str> = bus.split(':').collect();
    (2..=3).contains(&fields.len()) && fields.iter().all(|f| hex(f)) && hex(function)
}

/// DPDK's libraries are talkative at their own default: they speak as loud as weftd does, one step quieter.
fn dpdk_log(level: LogLevel) -> String {
    let level = match level {
        LogLevel::Error | LogLevel::Warn => "error",
        LogLevel::Info => "warning",
        LogLevel::Debug => "info",
        LogLevel::Trace => "debug",
    };
    format!("--log-level=*:{level}")
}

/// A guest that gives bad descriptors would have DPDK write a line for each, on the worker that polls it.
const QUIET_DATA_PATH: &str = "--log-level=lib.vhost.data:critical";

fn eal_config(model: &Model, control: &[usize]) -> EalConfig {
    let d = &model.settings.dpdk;
    let devices =
        model.settings.uplinks.iter().map(|u| &u.device).chain(model.objects.ports.iter().filter_map(|p| {
            match &p.kind {
                PortKind::Ethdev { device, .. } => Some(device),
                PortKind::VhostUser { .. } => None,
            }
        }));
    EalConfig {
        file_prefix: d.file_prefix.clone(),
        memory_mb: d.memory_mb,
        main_core: control.first().copied(),
        huge: d.hugepages,
        pci_allow: devices.filter(|d| is_pci(d)).cloned().collect(),
        extra: [dpdk_log(model.settings.daemon.log), QUIET_DATA_PATH.into()]
            .into_iter()
            .chain(d.extra_args.clone())
            .collect(),
    }
}

impl Engine {
    /// Starts everything that the model asks for. Nothing forwards before this returns; on an error the process has to
    /// end, since DPDK can be started once only.
    ///
    /// # Errors
    /// What could not be started, and what to do about it.
    pub fn start(model: Model, config: PathBuf) -> Result<Self, StartError> {
        let started = Instant::now();
        let Model { settings, objects, fdb: entries } = &model;
        let cores = cores(settings.workers.cores.as_deref())?;
        stay_on(&cores.control)?;
        let n = cores.workers.len();
        let eal = Eal::init(&eal_config(&model, &cores.control))?;

        let domain = Domain::new(n + 1);
        let (fdb_writer, fdb) = Fdb::new(&domain, FdbConfig::default());
        let fwd = Forwarding {
            tables: Arc::new(Published::new(&domain, Tables::default())),
            fdb,
            vteps: Arc::new(SlotTable::new(&domain, MAX_VTEPS)),
        };
        let (poke, pokes) = crossbeam::channel::bounded(64);
        let pools = Pools::new(&eal, &settings.dpdk, n);
        let agent_pool = pools.agent()?;
        let opener = Opener { eal: eal.clone(), pools: pools.clone(), domain: domain.clone(), poke };
        let (uplink, rx, tx) = open_uplink(&opener, settings, n)?;

        let counters: Vec<Arc<ThreadCounters>> = (0..=n).map(|_| Arc::default()).collect();
        let (mut rings, mut ends) = (Vec::new(), Vec::new());
        for _ in 0..n {
            let (tx, inject, end) = punt::rings();
            rings.push((tx, inject));
            ends.push(end);
        }
        let (agent, commands) = crossbeam::channel::unbounded();
        let agent_view = Arc::new(Mutex::new(AgentView::default()));
        let agent_thread = start_agent(AgentParts {
            ends,
            vteps: fwd.vteps.clone(),
            counters: counters[n].clone(),
            pool: agent_pool.clone(),
            tap: open_tap(&uplink)?,
            exception_pps: uplink.model.exception_pps,
            plan: plan(settings, &uplink, Vec::new()),
            commands,
            view: agent_view.clone(),
        })?;

        let idle = match settings.workers.idle {
            Idle::Backoff => IdleMode::Backoff,
            Idle::Poll => IdleMode::Poll,
        };
        let mut handles = Vec::new();
        for (id, ((punt, inject), handoff)) in rings.into_iter().zip(handoff_mesh(n)).enumerate() {
            let reader = domain
                .register(&format!("worker-{id}"))
                .map_err(|e| StartError::Host(format!("worker {id}: {e}")))?;
            handles.push(workers::start(workers::Start {
                id,
                core: cores.workers[id],
                idle,
                stage_timing: settings.workers.stage_timing,
                eal: eal.clone(),
                fwd: fwd.clone(),
                reader,
                counters: counters[id].clone(),
                handoff,
                punt,
                inject,
            })?);
        }
        workers::give_queues(&mut handles, uplink.id, rx, tx)?;

        let state = State {
            objects: Objects::default(),
            ids: Ids::new(),
            ports: BTreeMap::new(),
            uplink,
            workers: handles,
            agent,
            agent_thread: Some(agent_thread),
            fdb: Entries::new(fdb_writer),
            generation: 0,
            published: Default::default(),
            published_bytes: 0,
            reloads: 0,
            retired: Retired::default(),
            failed: BTreeMap::new(),
            baselines: BTreeMap::new(),
            samples: vec![Default::default(); n],
            alarms: Vec::new(),
        };
        let shared = Arc::new(Shared {
            eal,
            opener,
            agent_pool,
            domain,
            fwd,
            settings: settings.clone(),
            config,
            started,
            counters,
            agent_view,
            stopping: AtomicBool::new(false),
            state: Mutex::new(state),
        });
        let engine = Self { shared };
        // The uplink first: what apply makes may send at once.
        engine.shared.state().publish(&engine.shared);
        let applied = engine.shared.state().apply(&engine.shared, objects.clone(), FdbPlan::File(entries));
        applied.map_err(StartError::Objects)?;
        let watcher = engine.clone();
        spawn("watcher", move || watch::run(&watcher, &pokes))?;
        tracing::info!(
            "started in {} ms: workers on cores {}, {} ports",
            started.elapsed().as_millis(),
            crate::cores::format(&cores.workers),
            objects.ports.len()
        );
        Ok(engine)
    }

    /// Stops in order: ports leave their guests, workers end, the agent ends. The process may exit afterwards.
    pub fn stop(&self) {
        // Relaxed: only the wish to stop.
        self.shared.stopping.store(true, Ordering::Relaxed);
        let mut s = self.shared.state();
        // Whatever waits for a stalled worker: the process ends.
        if let Err(e) = s.transact(&self.shared, Objects::default(), FdbPlan::Clear) {
            tracing::error!("stopping: {e}");
        }
        s.workers.iter_mut().for_each(workers::WorkerHandle::stop);
        // An agent that has ended already does not need to be told.
        let _ = s.agent.send(AgentCommand::Stop);
        if let Some(t) = s.agent_thread.take() {
            let _ = t.join();
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    let thread = std::thread::Builder::new().name(name.into()).spawn(run);
    thread.map_err(|e| StartError::Host(format!("can't start the {name} thread: {e}")))
}

fn start_agent(parts: AgentParts) -> Result<JoinHandle<()>, StartError> {
    spawn("agent", move || Agent::new(parts).run())
}

fn open_tap(up: &RunningUplink) -> Result<Option<Tap>, StartError> {
    match up.model.tap.as_str() {
        "" => Ok(None),
        name => Ok(Some(Tap::open(name, up.device.mac(), up.model.mtu)?)),
    }
}

fn open_uplink(
    opener: &Opener,
    settings: &Settings,
    workers: usize,
) -> Result<(RunningUplink, Vec<RxQueue>, Vec<TxQueue>), StartError> {
    let Some(model) = settings.uplinks.first().cloned() else {
        return Err(StartError::Host("the configuration has no [[uplink]]".into()));
    };
    let rx_wanted = if model.rx_queues == 0 { workers as u16 } else { model.rx_queues };
    let pool = opener.pools.uplink(rx_wanted)?;
    let (device, rx, tx) = opener.eth(&model.device, (rx_wanted, workers as u16), model.mtu, false, &pool)?;
    if let Some(mac) = model.mac {
        device.set_mac(mac.0)?;
    }
    let link = device.link().up;
    let id = PortId { slot: weft_dataplane::UPLINK, generation: 0 };
    let (rx_queues, tx_queues) = (rx.len(), tx.len());
    Ok((RunningUplink { model, id, device, rx_queues, tx_queues, pool, link }, rx, tx))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_are_told_from_virtual_devices() {
        for d in ["0000:01:00.0", "01:00.0", "0000:af:1f.7,mprq_en=1"] {
            assert!(is_pci(d), "{d}");
        }
        for d in ["net_af_packet0,iface=eth1", "net_memif0", "", "eth0.100", "0000:01:00"] {
            assert!(!is_pci(d), "{d}");
        }
    }
}
