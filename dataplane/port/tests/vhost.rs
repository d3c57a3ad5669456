//! vhost-user against a real front-end: dpdk-testpmd with a virtio-user device, which sends back what it gets.

mod common;

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Folder, bytes, frame, hugepages, pool, wait_for};
use weft_port::vhost::features;
use weft_port::{
    BURST, Burst, Eal, Mempool, RxQueue, TxQueue, VhostConfig, VhostEvent, VhostHooks, VhostMode, VhostPort,
    free_burst,
};

/// Notes what happens, in order.
#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Log {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("log"))
    }
}

impl VhostHooks for Log {
    fn wait_grace_period(&self) {
        self.0.lock().expect("log").push("grace".into());
    }

    fn event(&self, event: VhostEvent) {
        self.0.lock().expect("log").push(format!("{event:?}"));
    }
}

/// A guest: testpmd on a virtio-user device. Killed on drop.
struct Guest(Child, String);

impl Guest {
    fn start(path: &Path, server: bool, queues: u16, packed: bool) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let vdev = format!(
            "net_virtio_user0,path={},queues={queues},packed_vq={}{}",
            path.display(),
            u8::from(packed),
            if server { ",server=1" } else { "" }
        );
        let prefix = format!("weft-guest-{}-{number}", std::process::id());
        let child = Command::new("dpdk-testpmd")
            .args([
                "-l",
                "0-1",
                "--no-pci",
                "--in-memory",
                "--single-file-segments",
                "--no-telemetry",
                "-m",
                "128",
            ])
            .args([format!("--file-prefix={prefix}"), format!("--vdev={vdev}")])
            .args([
                "--",
                "--forward-mode=io",
                "--total-num-mbufs=4096",
                "--no-lsc-interrupt",
                "--no-flush-rx",
            ])
            .args([format!("--rxq={queues}"), format!("--txq={queues}")])
            // It runs until its input ends.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dpdk-testpmd: apt install dpdk-dev dpdk");
        Self(child, prefix)
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.0.kill().expect("kill");
        self.0.wait().expect("wait");
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        // EAL's folder, which is empty and stays behind.
        let _ = std::fs::remove_dir(format!("/run/dpdk/{}", self.1));
    }
}

struct Lab {
    eal: Eal,
    pool: Mempool,
    folder: Folder,
}

struct Port {
    port: VhostPort,
    rx: Vec<RxQueue>,
    tx: Vec<TxQueue>,
    log: Arc<Log>,
}

impl Lab {
    fn config(&self, name: &str) -> VhostConfig {
        VhostConfig {
            path: self.folder.path(name),
            mode: VhostMode::Server,
            queues: 1,
            packed: false,
            pool: self.pool.clone(),
        }
    }

    fn open(&self, config: VhostConfig) -> Port {
        let log = Arc::new(Log::default());
        let (port, rx, tx) =
            VhostPort::open(&self.eal, config, log.clone()).unwrap_or_else(|e| panic!("{e}"));
        Port { port, rx, tx, log }
    }

    fn refused(&self, config: VhostConfig) -> String {
        VhostPort::open(&self.eal, config, Arc::new(Log::default())).expect_err("must be refused").to_string()
    }
}

impl Port {
    fn wait_ready(&self) {
        wait_for("the guest's rings", 30, || {
            let state = self.port.state();
            state.connected && usize::from(state.queues_enabled) == self.rx.len() * 2
        });
    }

    /// Sends frames on a queue and expects the guest to send them back on the same one, in order and whole.
    fn round_trip(&mut self, pool: &Mempool, queue: usize, frames: &[Vec<u8>]) {
        let (mut back, mut burst, mut out) = (Vec::new(), Burst::new(), Burst::new());
        let mut todo = frames.iter();
        // As many as the guest's rings (256) and its forwarder take, so that none is dropped on its side.
        let mut flying = 0usize;
        wait_for(&format!("{} frames from queue {queue}", frames.len()), 30, || {
            for _ in 0..50 {
                while flying < 64 && out.len() < BURST {
                    let Some(frame) = todo.next() else { break };
                    out.push(pool.alloc_copy(frame).expect("mbuf"));
                    flying += 1;
                }
                self.tx[queue].tx_burst(&mut out);
                let got = self.rx[queue].rx_burst(&mut burst, BURST);
                flying -= got;
                back.extend(burst.iter().map(bytes));
                free_burst(&mut burst);
            }
            back.len() >= frames.len()
        });
        assert!(back == frames, "queue {queue}: frames came back changed, or in another order");
    }

    fn close(self) {
        let start = std::time::Instant::now();
        self.port.close(self.rx, self.tx);
        println!("  closed in {:?}", start.elapsed());
    }
}

fn frames(count: u32) -> Vec<Vec<u8>> {
    (0..count).map(|i| frame(i, 60 + (i as usize * 131) % 1455)).collect()
}

/// A part of the test, with its name.
type Step = (&'static str, fn(&Lab));

#[test]
fn guests() {
    if !hugepages() {
        eprintln!("SKIPPED: a virtio-user guest needs hugepages: reserve 1 GiB of them");
        return;
    }
    let eal = common::eal("vhost");
    let lab = Lab { pool: pool(&eal, "vhost", 8191), eal, folder: Folder::new("vhost") };
    let steps: &[Step] = &[
        ("offered features", offered),
        ("sockets in the way", sockets),
        ("server, split, 1 queue", |lab| forwarding(lab, VhostMode::Server, 1, false)),
        ("server, packed, 1 queue", |lab| forwarding(lab, VhostMode::Server, 1, true)),
        ("server, split, 2 queues", |lab| forwarding(lab, VhostMode::Server, 2, false)),
        ("server, packed, 2 queues", |lab| forwarding(lab, VhostMode::Server, 2, true)),
        ("client, split, 1 queue", |lab| forwarding(lab, VhostMode::Client, 1, false)),
        ("client, packed, 2 queues", |lab| forwarding(lab, VhostMode::Client, 2, true)),
        ("killed in server mode", |lab| killed(lab, VhostMode::Server)),
        ("killed in client mode", |lab| killed(lab, VhostMode::Client)),
        ("a second front-end", second),
        ("more queues than the port", excess),
        ("closed under traffic", closed),
    ];
    for (name, step) in steps {
        let start = std::time::Instant::now();
        step(&lab);
        println!("{name}: {:.1} s", start.elapsed().as_secs_f32());
        assert_eq!(lab.pool.in_use(), 0, "mbufs leaked in step '{name}'");
    }
}

/// Sends one vhost-user request without a payload and returns the 64 bits of the answer.
fn ask(stream: &mut UnixStream, request: u32) -> u64 {
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
    let header = [request, 1, 0].map(u32::to_ne_bytes).concat();
    stream.write_all(&header).expect("request");
    let mut answer = [0; 20];
    stream.read_exact(&mut answer).expect("answer");
    u64::from_ne_bytes(answer[12..].try_into().expect("8 bytes"))
}

/// The feature word as a front-end sees it, bit by bit from the specification.
fn offered(lab: &Lab) {
    for (queues, packed) in [(1, false), (1, true), (2, false)] {
        let port = lab.open(VhostConfig { queues, packed, ..lab.config("features") });
        let mut front = UnixStream::connect(port.port.path()).expect("connect");
        let word = ask(&mut front, 1);
        let offers = |bit: u32| word & 1 << bit != 0;
        for bit in [0, 1, 6, 7, 8, 9, 10, 11, 12, 13, 14, 33, 54, 55, 56] {
            assert!(!offers(bit), "bit {bit} is offered: {:?}", features::names(word));
        }
        for bit in [3, 15, 28, 30, 32] {
            assert!(offers(bit), "bit {bit} is not offered: {:?}", features::names(word));
        }
        assert_eq!(offers(34), packed, "packed rings");
        assert_eq!(offers(22), queues > 1, "several queues");
        assert!(!port.port.state().connected, "a connection is not a guest yet");
        assert!(port.log.take().is_empty());
        drop(front);
        port.close();
    }
}

fn sockets(lab: &Lab) {
    let path = lab.folder.path("way");
    let live = UnixListener::bind(&path).expect("bind");
    let error = lab.refused(lab.config("way"));
    assert!(error.contains("another process listens"), "{error}");
    drop(live);
    assert!(path.exists());
    let port = lab.open(lab.config("way"));
    let error = lab.refused(lab.config("way"));
    assert!(error.contains("another port of this process"), "{error}");
    UnixStream::connect(&path).expect("served");
    port.close();
    assert!(!path.exists(), "closing removes the socket");

    std::fs::write(&path, "precious").expect("write");
    assert!(lab.refused(lab.config("way")).contains("not a socket"));
    assert_eq!(std::fs::read(&path).expect("read"), b"precious");
    std::fs::remove_file(&path).expect("remove");

    assert!(lab.refused(lab.config("no/folder")).contains("create it"));
    assert!(lab.refused(lab.config(&"x".repeat(120))).contains("shorter"));
    assert!(lab.refused(VhostConfig { queues: 0, ..lab.config("way") }).contains("queue pairs"));
    assert!(lab.refused(VhostConfig { queues: 129, ..lab.config("way") }).contains("queue pairs"));
    // Refusals leave nothing registered.
    lab.open(lab.config("way")).close();
    // In client mode nothing needs to be there, and nothing there is touched.
    lab.open(VhostConfig { mode: VhostMode::Client, ..lab.config("way") }).close();
}

fn start_guest(config: &VhostConfig) -> Guest {
    if config.mode == VhostMode::Client {
        // What a killed front-end leaves behind is its own to remove; virtio-user does not.
        let _ = std::fs::remove_file(&config.path);
    }
    Guest::start(&config.path, config.mode == VhostMode::Client, config.queues, config.packed)
}

fn forwarding(lab: &Lab, mode: VhostMode, queues: u16, packed: bool) {
    let config = VhostConfig { mode, queues, packed, ..lab.config("fwd") };
    let mut port = lab.open(config.clone());
    assert_eq!((port.rx.len(), port.tx.len()), (usize::from(queues), usize::from(queues)));
    assert!(!port.tx[0].ready());
    let mut nobody: Burst = [lab.pool.alloc_copy(&frame(0, 60)).expect("mbuf")].into_iter().collect();
    assert_eq!(port.tx[0].tx_burst(&mut nobody), 0, "no guest takes nothing");
    assert_eq!(nobody.len(), 1, "and frees nothing");
    drop(nobody);

    let guest = start_guest(&config);
    port.wait_ready();
    assert!(port.tx[0].ready());
    let state = port.port.state();
    let spec = features::OFFLOADS;
    assert_eq!(state.features & spec, 0, "{:?}", features::names(state.features & spec));
    assert_eq!(state.features & features::RING_PACKED != 0, packed, "{:?}", features::names(state.features));
    assert_eq!(state.features & features::MQ != 0, queues > 1);
    assert_ne!(state.features & features::VERSION_1, 0);
    assert_eq!(state.ring_sizes, vec![256; usize::from(queues) * 2]);
    assert_eq!((state.unserved_rings, state.mtu), (0, None));

    for queue in 0..usize::from(queues) {
        port.round_trip(&lab.pool, queue, &frames(2000));
    }
    // Frames over several mbufs, and over several of the guest's buffers.
    let large: Vec<_> = (0..50).map(|i| frame(i, 2500 + i as usize * 100)).collect();
    port.round_trip(&lab.pool, 0, &large);

    guest.kill();
    wait_for("the guest to be gone", 10, || !port.port.state().connected);
    let log = port.log.take();
    let at =
        |what: &str| log.iter().position(|l| l == what).unwrap_or_else(|| panic!("no {what} in {log:?}"));
    assert!(at("Connected") < at("grace") && at("grace") < at("Disconnected"), "{log:?}");
    assert_eq!(log.iter().filter(|l| *l == "grace").count(), 1, "{log:?}");
    port.close();
}

/// SIGKILL while packets are on their way, at different moments, with the queues on another thread.
fn killed(lab: &Lab, mode: VhostMode) {
    let config = VhostConfig { mode, ..lab.config("kill") };
    let mut port = lab.open(config.clone());
    for round in 0..3u64 {
        let guest = start_guest(&config);
        port.wait_ready();
        port.round_trip(&lab.pool, 0, &frames(500));
        let (mut rx, mut tx) = (port.rx.remove(0), port.tx.remove(0));
        let pool = lab.pool.clone();
        let worker = std::thread::spawn(move || {
            let (mut burst, mut received, mut idle) = (Burst::new(), 0u64, 0);
            for number in 0.. {
                rx.rx_burst(&mut burst, BURST);
                received += burst.len() as u64;
                free_burst(&mut burst);
                burst.extend((0..BURST as u32).filter_map(|_| pool.alloc_copy(&frame(number, 200))));
                let sent = tx.tx_burst(&mut burst);
                free_burst(&mut burst);
                // Gone for good: many rounds in which the guest is not there.
                idle = if sent == 0 && !tx.ready() { idle + 1 } else { 0 };
                if idle > 1000 {
                    break;
                }
            }
            (rx, tx, received)
        });
        std::thread::sleep(Duration::from_millis(100 + 70 * round));
        guest.kill();
        let (rx, tx, received) = worker.join().expect("worker");
        assert!(received > 0, "no traffic in round {round}");
        port.rx.push(rx);
        port.tx.push(tx);
        wait_for("the guest to be gone", 10, || !port.port.state().connected);
        assert_eq!(lab.pool.in_use(), 0, "mbufs leaked when the guest was killed");
    }
    let log = port.log.take();
    let count = |what: &str| log.iter().filter(|l| *l == what).count();
    assert_eq!((count("Connected"), count("grace"), count("Disconnected")), (3, 3, 3), "{log:?}");
    port.close();
}

/// Somebody else connects to a guest's socket: the guest does not notice.
fn second(lab: &Lab) {
    let config = lab.config("second");
    let mut port = lab.open(config.clone());
    let guest = start_guest(&config);
    port.wait_ready();
    port.round_trip(&lab.pool, 0, &frames(100));
    let mut intruder = UnixStream::connect(&config.path).expect("connect");
    ask(&mut intruder, 1);
    port.round_trip(&lab.pool, 0, &frames(500));
    // A whole second guest does not get the port either.
    let other = start_guest(&config);
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(200));
        port.round_trip(&lab.pool, 0, &frames(100));
    }
    drop(intruder);
    drop(other);
    port.round_trip(&lab.pool, 0, &frames(500));
    let log = port.log.take();
    assert_eq!(log.iter().filter(|l| *l == "Connected").count(), 1, "{log:?}");
    assert!(!log.iter().any(|l| l == "Disconnected"), "{log:?}");
    drop(guest);
    port.close();
}

/// A guest with three queue pairs at a port of two: what it sends on the third is lost, and the port says so.
fn excess(lab: &Lab) {
    let config = VhostConfig { queues: 2, ..lab.config("excess") };
    let mut port = lab.open(config.clone());
    let guest = Guest::start(&config.path, false, 3, false);
    port.wait_ready();
    wait_for("the third pair to be noticed", 10, || port.port.state().unserved_rings == 2);
    port.round_trip(&lab.pool, 1, &frames(200));
    drop(guest);
    port.close();
}

/// The port goes while a worker uses its queues: they fall silent, and nothing else happens.
fn closed(lab: &Lab) {
    let config = lab.config("closed");
    let mut port = lab.open(config.clone());
    let guest = start_guest(&config);
    port.wait_ready();
    port.round_trip(&lab.pool, 0, &frames(200));
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (mut rx, mut tx) = (port.rx.remove(0), port.tx.remove(0));
    let worker = std::thread::spawn({
        let (stop, pool) = (stop.clone(), lab.pool.clone());
        move || {
            let mut burst = Burst::new();
            while !stop.load(Ordering::Relaxed) {
                rx.rx_burst(&mut burst, BURST);
                free_burst(&mut burst);
                burst.extend((0..BURST as u32).filter_map(|i| pool.alloc_copy(&frame(i, 100))));
                tx.tx_burst(&mut burst);
                free_burst(&mut burst);
            }
            (rx, tx)
        }
    });
    std::thread::sleep(Duration::from_millis(100));
    let log = port.log.clone();
    port.close();
    assert_eq!(log.take().last().map(String::as_str), Some("Disconnected"));
    std::thread::sleep(Duration::from_millis(50));
    stop.store(true, Ordering::Relaxed);
    let (mut rx, tx) = worker.join().expect("worker");
    assert!(!tx.ready());
    assert_eq!(rx.rx_burst(&mut Burst::new(), BURST), 0);
    drop(guest);
    // The path is free again, for the same guest's next life.
    lab.open(config).close();
}
