//! EAL's start, and threads.

mod common;

use weft_port::{Eal, EalConfig, PortError, pin_current_thread, tsc_hz};

fn affinity() -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("status");
    status.lines().find(|l| l.starts_with("Cpus_allowed_list")).expect("mask").to_owned()
}

#[test]
fn starts_once_restores_the_mask_and_registers_threads() {
    let before = affinity();
    let eal = common::eal("eal");
    assert_eq!(affinity(), before, "the caller keeps its cores");
    let own = format!("weft-test-eal-{}", std::process::id());
    for folder in ["/run/dpdk", "/var/run/dpdk", "/tmp/dpdk"] {
        assert!(!std::path::Path::new(folder).join(&own).exists(), "EAL's folder is left in {folder}");
    }
    assert!(tsc_hz() > 100_000_000);
    assert!(eal.dpdk_version().contains('.'));

    // DPDK's own threads: all on one core.
    for task in std::fs::read_dir("/proc/self/task").expect("tasks").flatten() {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if name.starts_with("eal-intr") || name.starts_with("dpdk-intr") {
            let status = std::fs::read_to_string(task.path().join("status")).expect("status");
            let list =
                status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).expect("mask").trim();
            assert!(list.parse::<u32>().is_ok(), "{name} runs on {list}");
        }
    }

    let again = Eal::init(&EalConfig::default());
    assert!(matches!(again, Err(PortError::EalAlreadyStarted)), "{again:?}");
    assert_eq!(affinity(), before, "a refused start leaves the mask as well");

    let mine = eal.register_thread().expect_err("the starter has an id already").to_string();
    assert!(mine.contains("already"), "{mine}");

    std::thread::scope(|scope| {
        let registered = scope
            .spawn(|| {
                pin_current_thread(0).expect("pin");
                let guard = eal.register_thread().expect("register");
                let id = guard.lcore_id();
                assert!(id != u32::MAX && id != 0);
                eal.register_thread().expect_err("twice");
                drop(guard);
                eal.register_thread().expect("again after the guard went").lcore_id()
            })
            .join()
            .expect("thread");
        // A panic gives the id back, too: more threads than there are ids.
        for _ in 0..200 {
            let died = scope.spawn(|| {
                let _guard = eal.register_thread().expect("an id is free");
                std::panic::resume_unwind(Box::new("as planned"));
            });
            assert!(died.join().is_err());
        }
        let after =
            scope.spawn(|| eal.register_thread().expect("register").lcore_id()).join().expect("thread");
        assert_eq!(after, registered, "the first free id");
    });
}
