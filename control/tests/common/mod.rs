//! A backend without a data plane: it keeps a model and answers from it, so that what weftctl sends can be seen in
//! what it then lists.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use weft_control::api::{
    ApiError, ApiResult, Backend, ErrorKind, FdbApplied, FdbBatch, FdbList, FdbMistake, FdbOp, FdbRefusal,
    Server, ServerHandle,
};
use weft_control::config;
use weft_control::model::{Bd, BdUpdate, FdbEntry, FdbTarget, Model, Owner, Port, PortKind, Vtep};
use weft_control::status::*;
use weft_control::validate::validate;

pub const FILE: &str = r#"
[[uplink]]
name = "up0"
device = "net_null0"
address = "192.168.50.1/24"
[[vtep]]
name = "host-b"
address = "192.168.50.2"
encap = "vxlan"
[[bd]]
name = "web"
vni = 100
vteps = ["host-b"]
[[port]]
name = "vm1"
bd = "web"
type = "vhost-user"
socket = "/run/weft/vm1.sock"
[[fdb]]
bd = "web"
mac = "02:00:00:00:00:02"
vtep = "host-b"
"#;

pub struct Fake {
    pub model: Mutex<Model>,
    pub check_errors: Mutex<Vec<String>>,
}

impl Fake {
    pub fn new() -> Arc<Fake> {
        let model = config::parse(FILE, "weft.toml").expect("the test's file is good");
        Arc::new(Fake { model: Mutex::new(model), check_errors: Mutex::default() })
    }

    /// The same path as in weftd: change a copy, validate the whole, put it in force.
    fn change(&self, change: impl FnOnce(&mut Model) -> ApiResult<()>) -> ApiResult<()> {
        let mut model = self.model.lock().unwrap();
        let mut next = model.clone();
        change(&mut next)?;
        let findings = validate(&next);
        if !findings.is_empty() {
            return Err(ApiError::from_findings(&findings));
        }
        *model = next;
        Ok(())
    }
}

fn remove<T>(list: &mut Vec<T>, kind: &str, name: &str, of: impl Fn(&T) -> (&str, Owner)) -> ApiResult<()> {
    let Some(at) = list.iter().position(|o| of(o).0 == name) else {
        return Err(ApiError::not_found(format!("there is no {kind} \"{name}\"")));
    };
    if of(&list[at]).1 == Owner::File {
        return Err(ApiError::precondition(format!("{kind} \"{name}\" is from the configuration file"))
            .hint("remove it there and run 'weftctl reload'"));
    }
    list.remove(at);
    Ok(())
}

fn worker() -> WorkerStatus {
    WorkerStatus {
        id: 0,
        core: 1,
        numa: -1,
        loops: 1_000_000_000_000,
        busy_percent: 12.5,
        cycles_per_packet: 180.0,
        idle: false,
        queues: vec!["up0:rx0".into(), "vm1:rx0".into()],
        stage_cycles: [("rx", 40.5), ("enter", 7.0)]
            .map(|(s, c)| StageCycles { stage: s.into(), cycles_per_packet: c })
            .into(),
    }
}

impl Backend for Fake {
    fn status(&self) -> ApiResult<Status> {
        let model = self.model.lock().unwrap();
        Ok(Status {
            version: "0.1.0".into(),
            dpdk_version: "DPDK 22.11.11".into(),
            pid: 42,
            uptime_seconds: 3661,
            config_file: "/etc/weft/weft.toml".into(),
            workers: 1,
            uplinks: 1,
            ports: model.objects.ports.len() as u32,
            bds: model.objects.bds.len() as u32,
            vteps: model.objects.vteps.len() as u32,
            fdb_entries: model.fdb.len() as u64,
            alarms: vec!["worker 0 has not reported for 2 s".into()],
            ..Status::default()
        })
    }

    fn workers(&self) -> ApiResult<Vec<WorkerStatus>> {
        Ok(vec![worker()])
    }

    fn uplinks(&self) -> ApiResult<Vec<UplinkStatus>> {
        let model = self.model.lock().unwrap();
        let all = model.settings.uplinks.iter().map(|u| UplinkStatus {
            name: u.name.clone(),
            device: u.device.clone(),
            driver: "net_null".into(),
            mac: "02:aa:00:00:00:01".parse().unwrap(),
            address: u.address.to_string(),
            gateway: u.gateway,
            mtu: u.mtu.into(),
            link_up: true,
            link_mbps: 10_000,
            rx_queues: vec![QueueOwner { queue: 0, worker: 0 }],
            tx_queues: vec![QueueOwner { queue: 0, worker: 0 }],
            tap: u.tap.clone(),
            rx_missed: 1,
            rx_errors: 2,
            rx_nombuf: 3,
            tx_errors: 4,
        });
        Ok(all.collect())
    }

    fn ports(&self) -> ApiResult<Vec<PortStatus>> {
        let model = self.model.lock().unwrap();
        let all = model.objects.ports.iter().map(|p| PortStatus {
            name: p.name.clone(),
            bd: p.bd.clone(),
            owner: p.owner,
            link_up: true,
            queues: p.kind.queues().into(),
            mtu: match p.kind {
                PortKind::Ethdev { mtu, .. } => mtu.into(),
                PortKind::VhostUser { .. } => 0,
            },
            rx_queues: vec![QueueOwner { queue: 0, worker: 0 }],
            tx_queues: vec![QueueOwner { queue: 0, worker: 0 }],
            detail: match &p.kind {
                PortKind::VhostUser { socket, mode, packed, .. } => PortDetail::VhostUser {
                    socket: socket.display().to_string(),
                    mode: *mode,
                    packed: *packed,
                    connected: true,
                    features: 0x1_5020_8000,
                    rings_enabled: vec![0, 1],
                },
                PortKind::Ethdev { device, .. } => PortDetail::Ethdev {
                    device: device.clone(),
                    driver: "net_memif".into(),
                    mac: "02:bb:00:00:00:01".parse().unwrap(),
                    link_mbps: 0,
                },
            },
        });
        Ok(all.collect())
    }

    fn bds(&self) -> ApiResult<Vec<BdStatus>> {
        let model = self.model.lock().unwrap();
        let objects = &model.objects;
        let all = objects.bds.iter().map(|b| BdStatus {
            name: b.name.clone(),
            vni: b.vni,
            inner_vlan: b.inner_vlan,
            vteps: b.vteps.clone(),
            ports: objects.ports.iter().filter(|p| p.bd == b.name).map(|p| p.name.clone()).collect(),
            fdb_entries: model.fdb.iter().filter(|e| e.bd == b.name).count() as u64,
            owner: b.owner,
        });
        Ok(all.collect())
    }

    fn vteps(&self) -> ApiResult<Vec<VtepStatus>> {
        let model = self.model.lock().unwrap();
        let objects = &model.objects;
        let all = objects.vteps.iter().map(|v| VtepStatus {
            name: v.name.clone(),
            address: v.address,
            encap: v.encap,
            port: v.port.unwrap_or(model.settings.tunnel.port_of(v.encap)),
            next_hop: Some(v.address),
            resolved: v.owner == Owner::File,
            bds: objects.bds.iter().filter(|b| b.vteps.contains(&v.name)).map(|b| b.name.clone()).collect(),
            owner: v.owner,
        });
        Ok(all.collect())
    }

    fn fdb(&self, bd: Option<&str>) -> ApiResult<FdbList> {
        let model = self.model.lock().unwrap();
        if let Some(bd) = bd.filter(|bd| model.objects.bd(bd).is_none()) {
            return Err(ApiError::not_found(format!("there is no bd \"{bd}\"")));
        }
        let all = model.fdb.iter().filter(|e| bd.is_none_or(|bd| e.bd == bd)).map(|e| FdbStatus {
            bd: e.bd.clone(),
            mac: e.mac,
            target: e.target.clone(),
            owner: e.owner,
        });
        Ok(Box::new(all.collect::<Vec<_>>().into_iter()))
    }

    fn neighbours(&self) -> ApiResult<Vec<NeighbourStatus>> {
        let one = |ip: &str, mac: Option<&str>, state| NeighbourStatus {
            uplink: "up0".into(),
            ip: ip.parse().unwrap(),
            mac: mac.map(|mac| mac.parse().unwrap()),
            state,
            age_seconds: 7,
            queued: 0,
        };
        Ok(vec![
            one("192.168.50.2", Some("02:cc:00:00:00:02"), NeighbourState::Reachable),
            one("192.168.50.3", None, NeighbourState::Incomplete),
        ])
    }

    fn stats(&self) -> ApiResult<Stats> {
        let drops = BTreeMap::from([("unknown-vni".to_owned(), 3), ("split-horizon".to_owned(), 5)]);
        Ok(Stats {
            books: Books {
                received: 100,
                replicas: 10,
                originated: 2,
                sent: 102,
                dropped: 8,
                consumed: 1,
                held: 1,
            },
            drops: drops.clone(),
            ports: vec![PortStats {
                name: "vm1".into(),
                rx_packets: 18_446_744_073_709_551_615,
                rx_bytes: 6400,
                tx_packets: 102,
                tx_bytes: 6528,
                drops,
            }],
            workers: vec![worker()],
            mempool: MempoolStats { size: 8192, in_use: 600 },
            fdb: FdbTableStats {
                entries: 1_000_000,
                places: 1_310_720,
                load_percent: 76.25,
                bytes: 22_282_240,
                chained_entries: 1,
                displacements: 2,
                grown: 3,
                shrunk: 4,
                replaced: 5,
                reseeded: 6,
                anomalies: 7,
            },
            waiting: WaitingStats { items: 2, bytes: 3_141_592, oldest_milliseconds: 12 },
        })
    }

    fn add_port(&self, port: Port) -> ApiResult<()> {
        self.change(|m| {
            if m.objects.port(&port.name).is_some() {
                return Err(ApiError::already_exists(format!("there is a port \"{}\" already", port.name)));
            }
            m.objects.ports.push(port);
            Ok(())
        })
    }

    fn remove_port(&self, name: &str) -> ApiResult<()> {
        self.change(|m| remove(&mut m.objects.ports, "port", name, |p| (&p.name, p.owner)))
    }

    fn add_bd(&self, bd: Bd) -> ApiResult<()> {
        self.change(|m| {
            m.objects.bds.push(bd);
            Ok(())
        })
    }

    fn update_bd(&self, name: &str, update: BdUpdate) -> ApiResult<()> {
        self.change(|m| {
            let bd = m.objects.bds.iter_mut().find(|b| b.name == name);
            update.apply(bd.ok_or_else(|| ApiError::not_found(format!("there is no bd \"{name}\"")))?);
            Ok(())
        })
    }

    fn remove_bd(&self, name: &str) -> ApiResult<()> {
        self.change(|m| remove(&mut m.objects.bds, "bd", name, |b| (&b.name, b.owner)))
    }

    fn add_vtep(&self, vtep: Vtep) -> ApiResult<()> {
        self.change(|m| {
            m.objects.vteps.push(vtep);
            Ok(())
        })
    }

    fn remove_vtep(&self, name: &str) -> ApiResult<()> {
        self.change(|m| remove(&mut m.objects.vteps, "vtep", name, |v| (&v.name, v.owner)))
    }

    fn apply_fdb(&self, batch: &FdbBatch) -> Result<FdbApplied, FdbRefusal> {
        let mut model = self.model.lock().unwrap();
        let mut next = model.clone();
        let mut applied = FdbApplied::default();
        let entries = batch.runs.iter().flat_map(|run| run.macs.iter().map(move |mac| (run, *mac)));
        let entries: Vec<_> = entries.collect();
        for (run, mac) in &entries {
            let at = next.fdb.iter().position(|e| e.bd == run.bd && e.mac == *mac);
            let entry = |target: &FdbTarget| FdbEntry {
                bd: run.bd.clone(),
                mac: *mac,
                target: target.clone(),
                owner: Owner::Api,
            };
            match (&run.op, at) {
                (FdbOp::Set(target), Some(at)) if next.fdb[at].target == *target => applied.unchanged += 1,
                (FdbOp::Set(target), Some(at)) => {
                    next.fdb[at] = entry(target);
                    applied.replaced += 1;
                }
                (FdbOp::Set(target), None) | (FdbOp::Add(target), _) => {
                    next.fdb.push(entry(target));
                    applied.added += 1;
                }
                (FdbOp::Discard | FdbOp::Remove, Some(at)) => {
                    next.fdb.remove(at);
                    applied.removed += 1;
                }
                (FdbOp::Discard, None) => applied.unchanged += 1,
                (FdbOp::Remove, None) => {
                    return Err(FdbRefusal::whole(ApiError::not_found("there is no such entry")));
                }
            }
        }
        let findings = validate(&next);
        if !findings.is_empty() {
            let number = |name: &str| {
                entries.iter().position(|(run, mac)| format!("{} {mac}", run.bd) == name).unwrap_or_default()
            };
            let mistakes = findings
                .iter()
                .take(200)
                .map(|f| FdbMistake { entry: number(&f.object.name), message: f.to_string() });
            return Err(FdbRefusal {
                kind: ErrorKind::Invalid,
                mistakes: mistakes.collect(),
                more: findings.len().saturating_sub(200),
                hint: findings[0].hint.clone(),
                message: String::new(),
            });
        }
        *model = next;
        Ok(applied)
    }

    fn reload(&self) -> ApiResult<ReloadReport> {
        Ok(ReloadReport {
            added: vec!["port vm2".into()],
            changed: vec!["bd web".into()],
            removed: vec![],
            unchanged: 3,
            needs_restart: vec!["workers.cores".into()],
        })
    }

    fn check(&self) -> ApiResult<CheckReport> {
        let errors = self.check_errors.lock().unwrap().clone();
        let would = errors.is_empty().then(ReloadReport::default);
        Ok(CheckReport { file: "/etc/weft/weft.toml".into(), errors, would })
    }
}

/// A server with a fake behind it, in a directory of its own.
pub struct Lab {
    pub fake: Arc<Fake>,
    pub socket: PathBuf,
    pub server: Option<ServerHandle>,
    pub dir: tempfile::TempDir,
}

impl Lab {
    pub fn new() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("weftd.sock");
        let fake = Fake::new();
        let server = Server::bind(&socket).unwrap().start(fake.clone()).unwrap();
        Lab { fake, socket, server: Some(server), dir }
    }

    /// Runs the real weftctl against this server.
    pub fn run(&self, args: &[&str]) -> Ran {
        weftctl(&[&["--socket", self.socket.to_str().unwrap()], args].concat())
    }

    /// Runs it, demands success, and returns what it printed.
    pub fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
        assert_eq!(ran.stderr, "");
        ran.stdout
    }

    /// Runs it with --json, demands success, and returns the value.
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let out = self.ok(&[args, &["--json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// Runs it, demands exit code 1, and returns what it complained.
    pub fn refused(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{args:?}: {}", ran.stderr);
        ran.stderr
    }
}

pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

pub fn weftctl(args: &[&str]) -> Ran {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_weftctl"))
        .args(args)
        .env_remove("WEFT_SOCKET")
        .output()
        .expect("weftctl runs");
    Ran {
        code: status.code().expect("weftctl exits by itself"),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}
