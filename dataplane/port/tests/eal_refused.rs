//! A start that fails: EAL cannot be started again in such a process, so this has one to itself.

use weft_port::{Eal, EalConfig, PortError};

fn affinity() -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("status");
    status.lines().find(|l| l.starts_with("Cpus_allowed_list")).expect("mask").to_owned()
}

#[test]
fn a_failed_start_says_what_was_tried() {
    let before = affinity();
    let config = EalConfig {
        file_prefix: format!("weft-test-refused-{}", std::process::id()),
        main_core: Some(100_000),
        ..EalConfig::default()
    };
    let error = Eal::init(&config).expect_err("no such core").to_string();
    assert!(error.contains("core 100000") && error.contains("cores of this process"), "{error}");
    assert_eq!(affinity(), before);

    let config = EalConfig { main_core: None, extra: vec!["--nonsense".into()], ..config };
    let error = Eal::init(&config).expect_err("no such argument");
    assert!(matches!(error, PortError::EalInit { .. }), "{error:?}");
    let error = error.to_string();
    assert!(error.contains("--nonsense") && error.contains("arguments"), "{error}");
    assert_eq!(affinity(), before, "the mask is restored after a failure, too");

    let again = Eal::init(&EalConfig::default());
    assert!(matches!(again, Err(PortError::EalAlreadyStarted)), "{again:?}");
}
