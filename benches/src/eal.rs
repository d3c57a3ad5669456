//! Starting DPDK for a micro-benchmark.

use weft_port::{Eal, EalConfig};

/// Starts EAL without devices, on hugepages if `memory_mb` of them are free and on ordinary pages otherwise. Says whether
/// there are hugepages.
///
/// # Panics
/// If EAL does not start, which it says why.
pub fn start(memory_mb: u32) -> (Eal, bool) {
    let huge = free_hugepages_mb() >= u64::from(memory_mb);
    (start_with(memory_mb, huge), huge)
}

/// As [`start`], with hugepages or without as told.
///
/// # Panics
/// If EAL does not start, which it says why.
pub fn start_with(memory_mb: u32, huge: bool) -> Eal {
    let config = EalConfig {
        file_prefix: format!("weft-bench-{}", std::process::id()),
        memory_mb,
        huge,
        extra: vec!["--log-level=*:warning".into()],
        ..EalConfig::default()
    };
    Eal::init(&config).expect("EAL starts")
}

fn free_hugepages_mb() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| -> u64 {
        let line = meminfo.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    field("HugePages_Free") * field("Hugepagesize") / 1024
}
