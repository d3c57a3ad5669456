//! The whole engine, on a device that leads nowhere and ordinary memory. One test: DPDK starts once in a process.

use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use weft_wire::MacAddr;

use super::{Engine, backlog};
use crate::api::{ApiError, Backend, ErrorKind, FdbBatch, FdbOp, FdbRun};
use crate::config;
use crate::model::{Bd, FdbTarget, InnerVlan, Objects, Owner};

const FILE: &str = r#"
[dpdk]
file_prefix = "PREFIX"
hugepages = false
memory_mb = 256
queue_mbufs = 1024
[workers]
cores = "CORE"
[[uplink]]
name = "up0"
device = "net_null0,no-rx=1"
address = "192.168.50.1/24"
[[vtep]]
name = "host-b"
address = "192.168.50.2"
[[bd]]
name = "web"
vni = 100
vteps = ["host-b"]
[[fdb]]
bd = "web"
mac = "02:00:00:00:00:02"
vtep = "host-b"
"#;

fn bd(name: &str) -> Bd {
    Bd {
        name: name.into(),
        vni: None,
        vteps: Vec::new(),
        inner_vlan: InnerVlan::default(),
        owner: Owner::Api,
    }
}

/// New entries with these numbers.
fn entries(numbers: Range<u64>) -> FdbBatch {
    let op = FdbOp::Add(FdbTarget::Vtep("host-b".into()));
    let macs = numbers.map(|i| MacAddr::from_u64(0x0200_0100_0000 + i)).collect();
    FdbBatch { runs: vec![FdbRun { bd: "web".into(), op, macs }] }
}

#[test]
fn changes_wait_for_a_stalled_worker_and_nothing_else_does() {
    let mask = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap();
    let core = (0..nix::sched::CpuSet::count()).rfind(|c| mask.is_set(*c).unwrap()).unwrap();
    let file = FILE.replace("CORE", &core.to_string());
    let file = file.replace("PREFIX", &format!("weft-test-engine-{}", std::process::id()));
    let model = config::parse(&file, "weft.toml").unwrap();
    let engine = Engine::start(model, PathBuf::from("weft.toml")).unwrap();
    let (shared, domain) = (&engine.shared, &engine.shared.domain);

    // A large batch goes in and out, and the figures tell.
    engine.apply_fdb(&entries(0..5000)).unwrap();
    let fdb = engine.stats().unwrap().fdb;
    assert_eq!((fdb.entries, engine.fdb(None).unwrap().count()), (5001, 5001));
    assert!(fdb.grown > 5 && fdb.places > 5001 && fdb.bytes > 16 * 5001, "{fdb:?}");
    assert!((fdb.load_percent - 100.0 * 5001.0 / fdb.places as f64).abs() < 1e-6, "{fdb:?}");
    assert_eq!(engine.stats().unwrap().waiting.bytes, 0, "a change waits until nothing does");

    // The domain has a place for one reader more than there are workers.
    let mut stalled = domain.register("worker-9").unwrap();
    stalled.online();
    // While there is room, entries change without new tables and without a wait for anybody.
    let (published, begin) = (shared.state().generation, Instant::now());
    let op = FdbOp::Discard;
    let batch = FdbBatch { runs: vec![FdbRun { op, ..entries(0..1).runs.remove(0) }] };
    engine.apply_fdb(&batch).unwrap();
    engine.apply_fdb(&entries(0..1)).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    assert_eq!(shared.state().generation, published);
    domain.retire_sized(Box::new(()), backlog::MAX_BYTES + 1);
    let waiting = engine.stats().unwrap().waiting;
    assert!(waiting.bytes > backlog::MAX_BYTES as u64 && waiting.items > 0, "{waiting:?}");
    let generation = || shared.state().generation;
    let (before, bds) = (generation(), engine.bds().unwrap());
    let add_fdb = || engine.apply_fdb(&entries(5000..5001)).map(drop).map_err(ApiError::from);
    for refused in [engine.add_bd(bd("db")), add_fdb()] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Precondition);
        assert!(refused.message.contains("for worker-9, which has not finished a round for"), "{refused}");
    }
    assert_eq!((generation(), engine.bds().unwrap()), (before, bds));
    assert_eq!(engine.stats().unwrap().fdb.entries, 5001);

    stalled.offline();
    engine.add_bd(bd("db")).unwrap();
    assert_eq!(engine.stats().unwrap().waiting.items, 0);

    // An end is not refused.
    stalled.online();
    domain.retire_sized(Box::new(()), backlog::MAX_BYTES + 1);
    engine.stop();
    assert_eq!(shared.state().objects, Objects::default());
    assert_eq!(shared.state().fdb.len(), 0);
}
