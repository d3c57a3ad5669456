//! weft-gen: packet generator and sink, one thread on one core.
//!
//! Sends prepared UDP frames into one device as fast as it takes them, receives on another, and prints one line of
//! JSON. It says itself whether it was the bottleneck: `idle` is the share of time in which it had found the
//! transmit ring full and nothing to receive. Near zero, the result is the generator's speed and not the switch's.
//!
//! What makes it fast enough: every buffer of the transmit pool holds the frame already, so that sending is taking a
//! buffer and writing the flow's 10 to 12 bytes over it.
//!
//! It plays the remote VTEP as well: it answers ARP for its address on both devices.
#![deny(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde_json::json;
use weft_benches::frames::{self, Check, OUTER, PEER, Patch, Wrap};
use weft_port::{
    BURST, Burst, DEFAULT_DATA_ROOM, Eal, EalConfig, EthConfig, EthDev, Mbuf, Mempool, PortError, RxQueue,
    TxQueue, free_burst, pin_current_thread, tsc, tsc_hz,
};
use weft_wire::arp::{self, ArpOp};
use weft_wire::{Encap, MacAddr};

/// Packets and descriptors of each transmit ring.
const RING: u16 = 1024;
/// One received packet in this many is compared byte for byte; of each one the length is checked.
const SAMPLE: u64 = 128;
/// The transmitting device is looked at for ARP once in this many rounds.
const LOOK: u64 = 64;

/// Generator and sink for the end-to-end benchmark.
#[derive(Parser, Debug)]
struct Args {
    /// Device to send into, as DPDK's --vdev takes it.
    #[arg(long)]
    tx: String,
    /// Device to receive from; may be the same.
    #[arg(long)]
    rx: String,
    /// Receive queues of the latter: a switch may send by any of those that its thread could have.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=8))]
    rx_queues: u16,
    /// What is sent.
    #[arg(long, value_enum, default_value = "plain")]
    send: Kind,
    /// What should arrive.
    #[arg(long, value_enum, default_value = "same")]
    expect: Kind,
    /// Destination MAC addresses, in random order.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(frames::MAX_FLOWS)))]
    flows: u32,
    /// Length of the inner frames in bytes, without FCS.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(frames::MIN_FRAME as i64..=frames::MAX_FRAME as i64))]
    size: u16,
    /// Seconds of traffic before counting.
    #[arg(long, default_value_t = 1.0)]
    warm: f64,
    /// Seconds of counting.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Seconds until links must be up and the first frame must have arrived.
    #[arg(long, default_value_t = 20.0)]
    wait: f64,
    /// Core to run on.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// DPDK memory in MiB.
    #[arg(long, default_value_t = 256)]
    memory: u32,
    /// Level of DPDK's log.
    #[arg(long, default_value = "error")]
    dpdk_log: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Inner frames.
    Plain,
    /// VXLAN packets.
    Vxlan,
    /// GENEVE packets.
    Geneve,
    /// As sent.
    Same,
}

impl Args {
    fn wraps(&self) -> (Wrap, Wrap) {
        let sent = match self.send {
            Kind::Plain | Kind::Same => Wrap::Plain,
            Kind::Vxlan => Wrap::ToSwitch(Encap::Vxlan),
            Kind::Geneve => Wrap::ToSwitch(Encap::Geneve),
        };
        let expected = match self.expect {
            Kind::Same => sent,
            Kind::Plain => Wrap::Plain,
            Kind::Vxlan => Wrap::FromSwitch(Encap::Vxlan),
            Kind::Geneve => Wrap::FromSwitch(Encap::Geneve),
        };
        (sent, expected)
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(result) => {
            println!("{result}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("weft-gen: {e}");
            ExitCode::FAILURE
        }
    }
}

/// A device with its queues.
struct Port {
    dev: EthDev,
    rx: Vec<RxQueue>,
    /// The queue that is received from: the one that gave something last.
    at: usize,
    tx: TxQueue,
}

impl Port {
    fn open(eal: &Eal, device: &str, rx_queues: u16, pool: &Mempool) -> Result<Self, String> {
        let config = EthConfig {
            device: device.to_owned(),
            rx_queues,
            tx_queues: 1,
            rx_desc: RING,
            tx_desc: RING,
            mtu: 1500,
            promiscuous: true,
            pool: pool.clone(),
        };
        let (dev, rx, tx) = EthDev::open(eal, &config).map_err(text)?;
        match tx.into_iter().next() {
            Some(tx) if !rx.is_empty() => Ok(Self { dev, rx, at: 0, tx }),
            _ => Err(format!("device '{device}' has no queues")),
        }
    }

    fn receive(&mut self, got: &mut Burst) -> usize {
        let n = self.rx[self.at].rx_burst(got, BURST);
        if n == 0 && self.rx.len() > 1 {
            self.at = (self.at + 1) % self.rx.len();
        }
        n
    }

    /// Waits for the link. Asking is also what lets a virtio-user server accept its client.
    fn wait_link(&mut self, seconds: f64) -> Result<(), String> {
        let mut left = (seconds * 100.0) as u64;
        while !self.dev.link().up {
            if left == 0 {
                return Err(format!("the link of {} did not come up in {seconds} s", self.dev.device()));
            }
            left -= 1;
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

fn text(e: PortError) -> String {
    e.to_string()
}

/// What was counted since the start.
#[derive(Clone, Copy, Default)]
struct Counts {
    tx: u64,
    rx: u64,
    bad: u64,
    checked: u64,
    arp: u64,
    loops: u64,
    /// TSC ticks of rounds that moved nothing.
    idle: u64,
}

/// The frames to send: a pool whose buffers hold them, and what makes each a flow's.
struct Source {
    pool: Mempool,
    wrap: Wrap,
    /// Bytes of a frame, which every buffer of the pool holds.
    len: usize,
    patches: Vec<Patch>,
    next: usize,
}

impl Source {
    fn new(eal: &Eal, wrap: Wrap, flows: u32, size: usize) -> Result<Self, String> {
        let pool =
            Mempool::new(eal, "gen-tx", 2 * u32::from(RING) - 1, 256, DEFAULT_DATA_ROOM, -1).map_err(text)?;
        let frame = frames::build(wrap, 0, size);
        let patches = frames::shuffled(wrap, flows, size);
        for mut m in std::iter::from_fn(|| pool.alloc()).collect::<Vec<Mbuf>>() {
            m.grow(frame.len()).ok_or("a buffer is too small")?.copy_from_slice(&frame);
        }
        Ok(Self { pool, wrap, len: frame.len(), patches, next: 0 })
    }

    /// Fills an empty burst if there are buffers.
    #[inline]
    fn fill(&mut self, burst: &mut Burst) {
        match self.wrap {
            Wrap::Plain => self.fill_behind::<0>(burst),
            Wrap::ToSwitch(_) | Wrap::FromSwitch(_) => self.fill_behind::<OUTER>(burst),
        }
    }

    fn fill_behind<const OUTER_LEN: usize>(&mut self, burst: &mut Burst) {
        if !self.pool.alloc_bulk(burst, BURST) {
            return;
        }
        for m in burst.iter_mut() {
            // A fresh buffer is empty and has its data begin at the same place each time, so what was written there
            // is the packet again once it is taken.
            if let Some(frame) = m.grow(self.len) {
                self.patches[self.next].apply::<OUTER_LEN>(frame);
            }
            self.next += 1;
            if self.next == self.patches.len() {
                self.next = 0;
            }
        }
    }
}

/// Looks at what was received.
struct Sink {
    check: Check,
    expected_len: u32,
    pool: Mempool,
    until_sample: u64,
}

impl Sink {
    /// Counts a burst and empties it; ARP requests are answered on `tx`.
    #[inline]
    fn take(&mut self, burst: &mut Burst, tx: &mut TxQueue, c: &mut Counts) {
        for m in burst.iter() {
            if m.pkt_len() != self.expected_len {
                self.other(m, tx, c);
            } else {
                c.rx += 1;
                self.until_sample -= 1;
                if self.until_sample == 0 {
                    self.until_sample = SAMPLE;
                    c.checked += 1;
                    c.bad += u64::from(!self.check.is_good(m.data()));
                }
            }
        }
        free_burst(burst);
    }

    /// Not of the length that is expected: ARP, or a mistake.
    #[cold]
    fn other(&self, m: &Mbuf, tx: &mut TxQueue, c: &mut Counts) {
        match arp::parse(m.data()) {
            None => c.bad += 1,
            Some(p) if p.op == ArpOp::Request && p.tpa.octets() == PEER.ip => {
                let mut reply = [0; 60];
                let len = arp::build_reply(MacAddr(PEER.mac), p.tpa, p.sha, p.spa, &mut reply);
                let mut one = Burst::new();
                one.extend(self.pool.alloc_copy(&reply[..len]));
                // A full ring loses the answer; the switch asks again.
                c.arp += tx.tx_burst(&mut one) as u64;
            }
            Some(_) => {}
        }
    }
}

/// Nanoseconds that this thread has waited for its core so far.
fn waited() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn run(args: &Args) -> Result<serde_json::Value, String> {
    let eal = Eal::init(&EalConfig {
        file_prefix: format!("weft-gen-{}", std::process::id()),
        memory_mb: args.memory,
        main_core: Some(args.core),
        // virtio-user and memif share memory by file descriptor, and can't share many.
        extra: vec!["--single-file-segments".into(), format!("--log-level=*:{}", args.dpdk_log)],
        ..EalConfig::default()
    })
    .map_err(text)?;
    pin_current_thread(args.core).map_err(text)?;

    let (sent, expected) = args.wraps();
    let size = usize::from(args.size);
    let pool = Mempool::new(&eal, "gen-rx", 8191, 256, DEFAULT_DATA_ROOM, -1).map_err(text)?;
    let mut source = Source::new(&eal, sent, args.flows, size)?;
    let mut sink = Sink {
        check: Check { wrap: expected, flows: args.flows, len: size },
        expected_len: (expected.outer_len() + size) as u32,
        pool: pool.clone(),
        until_sample: SAMPLE,
    };
    // A memif client that shares its buffers takes over the descriptors of DPDK's memory, which virtio-user has to
    // send to its back-end: virtio-user first.
    let is_memif = |device: &str| device.starts_with("net_memif");
    let (mut a, mut b);
    if is_memif(&args.tx) {
        b = Port::open(&eal, &args.rx, args.rx_queues, &pool)?;
        a = Port::open(&eal, &args.tx, 1, &pool)?;
    } else {
        a = Port::open(&eal, &args.tx, 1, &pool)?;
        b = Port::open(&eal, &args.rx, args.rx_queues, &pool)?;
    }
    a.wait_link(args.wait)?;
    b.wait_link(args.wait)?;

    let hz = tsc_hz();
    let ticks = |seconds: f64| (seconds * hz as f64) as u64;
    let mut c = Counts::default();
    let (mut out, mut got) = (Burst::new(), Burst::new());
    let mut phase = Phase::Waiting { until: tsc() + ticks(args.wait) };
    let mut before = tsc();
    loop {
        let mut moved = 0;
        if !matches!(phase, Phase::Draining { .. }) {
            if out.is_empty() {
                source.fill(&mut out);
            }
            let n = a.tx.tx_burst(&mut out);
            c.tx += n as u64;
            moved += n;
        }
        let n = b.receive(&mut got);
        if n > 0 {
            sink.take(&mut got, &mut b.tx, &mut c);
            moved += n;
        }
        c.loops += 1;
        if c.loops % LOOK == 0 && a.receive(&mut got) > 0 {
            let tests = c.rx;
            sink.take(&mut got, &mut a.tx, &mut c);
            // What is for one device and comes out of the other is a mistake of the switch.
            c.bad += c.rx - tests;
            c.rx = tests;
        }
        let now = tsc();
        if moved == 0 {
            c.idle += now - before;
        }
        before = now;
        match phase {
            Phase::Waiting { until } => {
                if c.rx > 0 {
                    phase = Phase::Warming { until: now + ticks(args.warm) };
                } else if now > until {
                    return Err(format!(
                        "nothing arrived in {} s: {} sent, {} wrong frames, {} ARP replies",
                        args.wait, c.tx, c.bad, c.arp
                    ));
                }
            }
            Phase::Warming { until } if now > until => {
                let start = Mark { at: now, counts: c, waited: waited() };
                phase = Phase::Counting { start, until: now + ticks(args.seconds) };
            }
            Phase::Counting { start, until } if now > until => {
                let end = Mark { at: now, counts: c, waited: waited() };
                phase = Phase::Draining { start, end, until: now + ticks(0.2) };
            }
            Phase::Draining { start, end, until } if now > until => {
                free_burst(&mut out);
                return Ok(report(start, end, c));
            }
            _ => {}
        }
    }
}

/// A moment and what had been counted by then.
#[derive(Clone, Copy)]
struct Mark {
    at: u64,
    counts: Counts,
    waited: u64,
}

#[derive(Clone, Copy)]
enum Phase {
    /// For the first frame to arrive.
    Waiting { until: u64 },
    /// Traffic, not counted.
    Warming { until: u64 },
    /// Traffic, counted.
    Counting { start: Mark, until: u64 },
    /// No more is sent.
    Draining { start: Mark, end: Mark, until: u64 },
}

fn report(start: Mark, end: Mark, last: Counts) -> serde_json::Value {
    let ticks = (end.at - start.at) as f64;
    let seconds = ticks / tsc_hz() as f64;
    let (s, e) = (start.counts, end.counts);
    let (tx, rx, loops) = (e.tx - s.tx, e.rx - s.rx, e.loops - s.loops);
    json!({
        "tx_pps": (tx as f64 / seconds).round(),
        "rx_pps": (rx as f64 / seconds).round(),
        "idle": (e.idle - s.idle) as f64 / ticks,
        "stolen": (end.waited - start.waited) as f64 / 1e9 / seconds,
        // From the first frame to the last.
        "bad": last.bad,
        "checked": last.checked,
        "sent": last.tx,
        "received": last.rx,
        "arp_replies": last.arp,
        "loops": loops,
        "seconds": seconds,
        "tsc_hz": tsc_hz(),
    })
}
