//! Ethernet devices of DPDK's own: frames through them, what they report, and every refusal.

mod common;

use common::{Folder, bytes, frame, pool, receive, send, wait_for};
use weft_port::{Burst, Eal, EthConfig, EthDev, Mempool, PortError, RxQueue, TxQueue};

struct Lab {
    eal: Eal,
    pool: Mempool,
    folder: Folder,
}

type Open = (EthDev, Vec<RxQueue>, Vec<TxQueue>);

impl Lab {
    fn config(&self, device: &str) -> EthConfig {
        EthConfig {
            device: device.to_owned(),
            rx_queues: 1,
            tx_queues: 1,
            rx_desc: 0,
            tx_desc: 0,
            mtu: 1500,
            promiscuous: true,
            rx_checksums: true,
            free_early: true,
            pool: self.pool.clone(),
        }
    }

    fn open(&self, device: &str) -> Open {
        EthDev::open(&self.eal, &self.config(device)).unwrap_or_else(|e| panic!("{e}"))
    }

    fn refused(&self, config: &EthConfig) -> String {
        EthDev::open(&self.eal, config).expect_err(&config.device).to_string()
    }
}

/// A part of the test, with its name.
type Step = (&'static str, fn(&Lab));

#[test]
fn devices() {
    let eal = common::eal("eth");
    let pool = pool(&eal, "eth", 4095);
    let lab = Lab { eal, pool, folder: Folder::new("eth") };
    let steps: &[Step] = &[
        ("null", null),
        ("ring", ring),
        ("memif", memif),
        ("pcap", pcap),
        ("refusals", refusals),
        ("queues", queues),
    ];
    for (name, step) in steps {
        println!("{name}");
        step(&lab);
        assert_eq!(lab.pool.in_use(), 0, "mbufs leaked in step '{name}'");
    }
}

fn close((dev, rx, tx): Open) {
    dev.close(rx, tx).expect("close");
}

fn null(lab: &Lab) {
    let mut open = lab.open("net_null0,size=64");
    let (dev, rx, tx) = &mut open;
    assert_eq!((dev.driver_name(), dev.device()), ("net_null", "net_null0,size=64"));
    assert_eq!(dev.mac()[0] & 1, 0, "a unicast address");
    assert!(dev.link().up);
    let mut burst = Burst::new();
    assert_eq!(rx[0].rx_burst(&mut burst, 32), 32);
    assert_eq!(rx[0].rx_burst(&mut burst, 100), 32, "no more than there is room for");
    assert_eq!(rx[0].rx_burst(&mut burst, 32), 0, "the burst is full");
    assert!(burst.iter().all(|m| m.pkt_len() == 64));
    assert_eq!(tx[0].tx_burst(&mut burst), 64);
    assert!(burst.is_empty());
    assert_eq!(tx[0].tx_burst(&mut burst), 0);
    let stats = dev.stats();
    assert_eq!((stats.rx_packets, stats.tx_packets), (64, 64));

    let again = EthDev::open(&lab.eal, &lab.config("net_null0"));
    assert!(matches!(again, Err(PortError::EthBusy { .. })), "{again:?}");
    close(open);
    // Plugged out, so that the same name can be plugged in again.
    for _ in 0..3 {
        close(lab.open("net_null0,size=128"));
    }
}

/// net_ring loops what is sent back to the receiver, and takes a prefix only when it is full.
fn ring(lab: &Lab) {
    let mut open = lab.open("net_ring0");
    let (_, rx, tx) = &mut open;
    let frames: Vec<_> = (0..500).map(|i| frame(i, 60 + i as usize % 1400)).collect();
    send(&mut tx[0], &lab.pool, &frames);
    assert_eq!(receive(&mut rx[0], 500), frames, "in order and whole");

    // Fill it up: what is not taken stays with us, in order.
    let mut number = 0;
    let mut burst = Burst::new();
    loop {
        assert!(number < 4000, "the ring never fills up");
        while !burst.is_full() {
            burst.push(lab.pool.alloc_copy(&frame(number, 60)).expect("mbuf"));
            number += 1;
        }
        if tx[0].tx_burst(&mut burst) < 64 {
            break;
        }
    }
    let kept: Vec<_> = burst.iter().map(bytes).collect();
    let taken = number as usize - kept.len();
    assert!(!kept.is_empty());
    let want: Vec<_> = (0..number).map(|i| frame(i, 60)).collect();
    assert_eq!(kept, want[taken..], "the rest, from the first one that was not taken");
    assert_eq!(lab.pool.in_use(), number, "nothing that was not taken is freed");
    assert_eq!(receive(&mut rx[0], taken), want[..taken]);
    assert_eq!(lab.pool.in_use() as usize, kept.len());
    drop(burst);
    close(open);
}

fn memif(lab: &Lab) {
    let socket = lab.folder.path("memif");
    let args = |n: u8, role: &str| {
        format!("net_memif{n},role={role},id=0,socket={},socket-abstract=no", socket.display())
    };
    let mut a = lab.open(&args(0, "server"));
    assert!(!a.0.link().up, "nobody is there yet");
    let mut b = lab.open(&args(1, "client"));
    wait_for("both links", 10, || a.0.link().up && b.0.link().up);
    let frames: Vec<_> = (0..200).map(|i| frame(i, 60 + (i as usize * 37) % 1455)).collect();
    for (from, to) in [(0, 1), (1, 0)] {
        let ends = [&mut a, &mut b];
        let mut ends = ends.map(Some);
        let from = ends[from].take().expect("an end");
        let to = ends[to].take().expect("the other");
        // A client hands out empty buffers for the server's frames when it polls.
        assert_eq!(to.1[0].rx_burst(&mut Burst::new(), 32), 0);
        send(&mut from.2[0], &lab.pool, &frames);
        assert_eq!(receive(&mut to.1[0], 200), frames);
    }
    // A chain of mbufs arrives as one frame.
    let mut chained = lab.pool.alloc_copy(&frame(1, 300)).expect("mbuf");
    assert!(chained.chain(lab.pool.alloc_copy(&frame(2, 300)).expect("mbuf")));
    let want = bytes(&chained);
    let mut burst = Burst::new();
    burst.push(chained);
    assert_eq!(a.2[0].tx_burst(&mut burst), 1);
    assert_eq!(receive(&mut b.1[0], 1), [want]);

    close(b);
    wait_for("the link to go down", 10, || !a.0.link().up);
    let mut burst: Burst = [lab.pool.alloc_copy(&frame(1, 60)).expect("mbuf")].into_iter().collect();
    a.2[0].tx_burst(&mut burst);
    drop(burst);
    close(a);

    let config = EthConfig { mtu: 9000, ..lab.config(&args(0, "server")) };
    let jumbo = Mempool::new(&lab.eal, "jumbo", 255, 0, 10_240, -1).expect("pool");
    let config = EthConfig { pool: jumbo, ..config };
    let error = lab.refused(&config);
    assert!(error.contains("MTU 9000") && error.contains("driver"), "{error}");
}

fn pcap(lab: &Lab) {
    let file = lab.folder.path("out.pcap");
    let device = format!("net_pcap0,tx_pcap={}", file.display());
    let error = lab.refused(&lab.config("net_pcap0,rx_pcap=/nonexistent/x.pcap"));
    assert!(error.contains("net_pcap0") && error.contains("probe"), "{error}");

    let (dev, rx, mut tx) = lab.open(&device);
    let frames: Vec<_> = (0..10).map(|i| frame(i, 100)).collect();
    send(&mut tx[0], &lab.pool, &frames);
    dev.close(rx, tx).expect("close");
    // Closing flushes: global header of 24 bytes, then 16 for each frame.
    assert_eq!(std::fs::metadata(&file).expect("file").len(), 24 + 10 * (16 + 100));

    let (dev, mut rx, tx) = lab.open(&format!("net_pcap0,rx_pcap={}", file.display()));
    assert_eq!(receive(&mut rx[0], 10), frames);
    dev.close(rx, tx).expect("close");
}

fn refusals(lab: &Lab) {
    for (device, what) in [
        ("", "name"),
        ("net_nosuch0", "net_nosuch0"),
        ("0000:ff:1f.7", "vfio-pci"),
        ("net_memif0,role=nonsense", "arguments"),
        ("net_af_packet0,iface=nosuch0", "interface"),
        ("a\0b", "zero byte"),
    ] {
        let error = lab.refused(&lab.config(device));
        assert!(error.contains(what), "{device}: {error}");
    }
    for (device, mtu, what) in [
        // 1960 + 22 (Ethernet and two tags) + 66 fill a slot of 2048, the default.
        ("net_af_packet0,iface=lo", 1961, "framesz=4096,blocksz=4096"),
        ("net_af_packet0,iface=lo,framesz=16384", 9000, "blocksz=16384"),
        ("net_af_packet0,iface=lo,framesz=4096,blocksz=4096", 2000, "lower framesz to 2080"),
        ("net_af_packet0,iface=lo,framesz=many", 1500, "not a number"),
        ("net_null0", 60, "RFC 791"),
        ("net_null0", 9000, "data room"),
    ] {
        let error = lab.refused(&EthConfig { mtu, ..lab.config(device) });
        assert!(error.contains(what), "{device} mtu {mtu}: {error}");
    }
    let none = EthConfig { rx_queues: 0, ..lab.config("net_null0") };
    assert!(lab.refused(&none).contains("at least one"));
    // Nothing of the above is left behind.
    close(lab.open("net_null0"));
    // A MAC address can be changed here and not there, which is said.
    let open = lab.open("net_null0");
    let _ = open.0.set_mac([2, 0, 0, 0, 0, 9]);
    let error = open.0.set_mac([1, 0, 0, 0, 0, 9]).expect_err("multicast").to_string();
    assert!(error.contains("MAC"), "{error}");
    close(open);
}

fn queues(lab: &Lab) {
    // As many as the device can do.
    let config = EthConfig { rx_queues: 2000, tx_queues: 2000, ..lab.config("net_ring7") };
    let (dev, rx, tx) = EthDev::open(&lab.eal, &config).expect("open");
    let (max_rx, max_tx) = (dev.caps().max_rx_queues, dev.caps().max_tx_queues);
    assert_eq!((rx.len(), tx.len()), (usize::from(max_rx), usize::from(max_tx)));
    assert!(rx.iter().enumerate().all(|(i, q)| usize::from(q.index()) == i));
    dev.close(rx, tx).expect("close");

    // The device outlives the handle for as long as a queue is somewhere.
    let (dev, mut rx, tx) = lab.open("net_null3");
    let mut queue = rx.remove(0);
    let error = dev.close(rx, tx).expect_err("a queue is missing").to_string();
    assert!(error.contains("not given back"), "{error}");
    let mut burst = Burst::new();
    assert_eq!(queue.rx_burst(&mut burst, 8), 8, "still open");
    drop(burst);
    assert!(matches!(EthDev::open(&lab.eal, &lab.config("net_null3")), Err(PortError::EthBusy { .. })));
    drop(queue);
    close(lab.open("net_null3"));
}
