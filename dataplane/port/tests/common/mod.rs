//! What the tests share. Each test file is a process of its own, as EAL starts once per process.
#![allow(dead_code)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use weft_port::{
    BURST, Burst, DEFAULT_DATA_ROOM, Eal, EalConfig, Mbuf, Mempool, RxQueue, TxQueue, free_burst,
};

/// True when there are hugepages to spare for a test, unless WEFT_TEST_NO_HUGE is set.
pub fn hugepages() -> bool {
    if std::env::var_os("WEFT_TEST_NO_HUGE").is_some() {
        return false;
    }
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find(|l| l.starts_with(key)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0)
    };
    value("HugePages_Free:") * value("Hugepagesize:") > 512 * 1024
}

/// Starts EAL with little memory, from hugepages if there are any.
pub fn eal(name: &str) -> Eal {
    let mut extra = vec!["--log-level=lib.vhost.*:error".to_owned()];
    if hugepages() {
        // Asking for too much fails at once and takes nothing from other processes.
        extra.push("--socket-limit=512".to_owned());
    }
    Eal::init(&EalConfig {
        file_prefix: format!("weft-test-{name}-{}", std::process::id()),
        memory_mb: 128,
        huge: hugepages(),
        extra,
        ..EalConfig::default()
    })
    .expect("EAL")
}

pub fn pool(eal: &Eal, name: &str, count: u32) -> Mempool {
    Mempool::new(eal, name, count, 32, DEFAULT_DATA_ROOM, -1).expect("pool")
}

/// A folder for this process's sockets and files, removed on drop.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("weft-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("folder");
        Self(dir)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Waits until `done` says so.
pub fn wait_for(what: &str, seconds: u64, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(seconds), "waited {seconds} s in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A frame that tells its number, with contents that depend on it.
pub fn frame(number: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x88, 0xb5];
    bytes.extend(number.to_be_bytes());
    bytes.extend((bytes.len()..len).map(|i| (i as u32).wrapping_mul(31).wrapping_add(number) as u8));
    bytes.truncate(len);
    bytes
}

/// All bytes of a packet.
pub fn bytes(packet: &Mbuf) -> Vec<u8> {
    packet.segments().flatten().copied().collect()
}

/// Sends all frames; fails if the queue does not take them in time.
pub fn send(tx: &mut TxQueue, pool: &Mempool, frames: &[Vec<u8>]) {
    for chunk in frames.chunks(BURST) {
        let mut burst: Burst = chunk.iter().map(|f| pool.alloc_copy(f).expect("mbuf")).collect();
        wait_for("room to send", 20, || {
            tx.tx_burst(&mut burst);
            burst.is_empty()
        });
    }
}

/// Receives until there are `count` frames.
pub fn receive(rx: &mut RxQueue, count: usize) -> Vec<Vec<u8>> {
    let (mut frames, mut burst) = (Vec::new(), Burst::new());
    wait_for(&format!("{count} frames"), 20, || {
        rx.rx_burst(&mut burst, BURST);
        frames.extend(burst.iter().map(bytes));
        free_burst(&mut burst);
        frames.len() >= count
    });
    frames
}
