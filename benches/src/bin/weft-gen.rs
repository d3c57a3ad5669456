//! weft-gen: packet generator and sink, one thread on one core.
//!
//! Sends prepared UDP frames into one device, as fast as it takes them or at a given rate, receives on another, and
//! prints one line of JSON. It says itself whether it was the bottleneck: `idle` is the share of time in which it had
//! found the transmit ring full and nothing to receive. Near zero, the result is the generator's speed and not the switch's.
//!
//! A run has these parts: a burst now and then until the first frame arrives; warming up at full speed until every flow
//! was sent a few times; silence until nothing is on its way any more; counting; silence again. What is lost is exact,
//! therefore: all that was sent while counting and did not come until nothing came any more.
//!
//! It plays the remote VTEP as well: it answers ARP for its address on both devices.
#![deny(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde_json::{Value, json};
use weft_benches::frames::{self, Wrap};
use weft_benches::latency::Histogram;
use weft_benches::pace::Pacer;
use weft_benches::sink::{Received, Sink};
use weft_benches::sizes::Sizes;
use weft_benches::source::Source;
use weft_port::{
    BURST, Burst, DEFAULT_DATA_ROOM, Eal, EalConfig, EthConfig, EthDev, Mempool, PortError, RxQueue, TxQueue,
    free_burst, pin_current_thread, tsc, tsc_hz,
};
use weft_wire::Encap;

/// Packets and descriptors of each ring.
const RING: u16 = 1024;
/// The transmitting device is looked at for ARP once in this many rounds.
const LOOK: u64 = 64;
/// Seconds without a frame after which no more are expected.
const SILENCE: f64 = 0.2;
/// Seconds in which frames that are too many may still come.
const AFTERMATH: f64 = 0.01;

/// Generator and sink for the end-to-end benchmark.
#[derive(Parser, Debug)]
struct Args {
    /// Device to send into, as DPDK's --vdev takes it.
    #[arg(long)]
    tx: String,
    /// Device to receive from.
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
    /// Length of the inner frames in bytes, without FCS: one, several in turn (64,64,1464), or "imix": 64, 570 and 1464 in 7:4:1.
    #[arg(long, default_value = "64")]
    size: Sizes,
    /// Frames a second, in small bursts; what the ring does not take is counted and not sent again. Without it: as
    /// many as the ring takes.
    #[arg(long, value_parser = rate)]
    rate: Option<f64>,
    /// Have each frame say when it was sent, and report how long they took. Only with --rate are the frames' times not
    /// those of a full ring.
    #[arg(long)]
    latency: bool,
    /// Seconds of traffic before counting, at least.
    #[arg(long, default_value_t = 1.0)]
    warm: f64,
    /// How often each flow is sent before counting, at least.
    #[arg(long, default_value_t = 2)]
    warm_passes: u64,
    /// Seconds after which warming up has failed.
    #[arg(long, default_value_t = 300.0)]
    warm_limit: f64,
    /// When warm, print "warm" and wait for a line on standard input before counting.
    #[arg(long)]
    gate: bool,
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

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (1.0..=1e9).contains(&rate) => Ok(rate),
        _ => Err("give 1 to 1e9 frames a second".into()),
    }
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
            rx_checksums: false,
            free_early: false,
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

/// What to send.
enum Load<'a> {
    Nothing,
    /// One burst, whatever of it the ring takes.
    Burst,
    /// As much as the ring takes.
    Full,
    Paced(&'a mut Pacer),
}

/// What was counted since the start.
#[derive(Clone, Copy, Default)]
struct Counts {
    sent: u64,
    /// Frames that the ring did not take when it was their time.
    unsent: u64,
    loops: u64,
    /// TSC ticks of rounds that moved nothing.
    idle: u64,
}

/// A moment and what had been counted by then.
#[derive(Clone, Copy)]
struct Mark {
    at: u64,
    counts: Counts,
    received: Received,
    waited: u64,
}

struct Generator {
    a: Port,
    b: Port,
    source: Source,
    sink: Sink,
    out: Burst,
    got: Burst,
    counts: Counts,
    /// Beginning of the round before, and whether that one moved anything.
    before: u64,
    moved: bool,
}

impl Generator {
    /// Sends, receives; returns the time at the beginning.
    #[inline]
    fn round(&mut self, load: &mut Load) -> u64 {
        let now = tsc();
        if !self.moved {
            self.counts.idle += now.saturating_sub(self.before);
        }
        self.before = now;
        let sent = match load {
            Load::Nothing => 0,
            Load::Full => {
                if self.out.is_empty() {
                    self.fill(BURST, now);
                }
                self.a.tx.tx_burst(&mut self.out)
            }
            Load::Burst => self.send_now(BURST, now),
            Load::Paced(pacer) => match pacer.due(now) {
                0 => 0,
                n => self.send_now(n, now),
            },
        };
        self.counts.sent += sent as u64;
        let got = self.b.receive(&mut self.got);
        if got > 0 {
            let arrived = if self.sink.latency.is_some() { tsc() } else { now };
            self.sink.take(&mut self.got, &mut self.b.tx, arrived);
        }
        self.counts.loops += 1;
        if self.counts.loops % LOOK == 0 && self.a.receive(&mut self.got) > 0 {
            // What is for one device and comes out of the other is a mistake of the switch.
            self.sink.take_astray(&mut self.got, &mut self.a.tx, tsc());
        }
        self.moved = sent + got > 0;
        now
    }

    #[inline]
    fn fill(&mut self, n: usize, now: u64) {
        self.source.fill(&mut self.out, n);
        if self.sink.latency.is_some() {
            self.source.stamp(&mut self.out, now);
        }
    }

    /// Sends `n` frames and gives up those that the ring does not take.
    fn send_now(&mut self, n: usize, now: u64) -> usize {
        self.fill(n, now);
        let sent = self.a.tx.tx_burst(&mut self.out);
        self.counts.unsent += (n - sent) as u64;
        free_burst(&mut self.out);
        sent
    }

    fn mark(&self, at: u64) -> Mark {
        Mark { at, counts: self.counts, received: self.sink.received, waited: waited() }
    }

    /// Sends single bursts until something arrives. Never less than a burst, so that the ring is a whole number of them.
    fn knock(&mut self, seconds: f64) -> Result<(), String> {
        let end = tsc() + ticks(seconds);
        while self.sink.received.frames == 0 {
            if self.round(&mut Load::Burst) > end {
                return Err(format!(
                    "nothing arrived in {seconds} s: {} sent, {} wrong frames, {} ARP replies",
                    self.counts.sent, self.sink.received.bad, self.sink.received.arp
                ));
            }
            // Leaves the core to whatever has to be set up.
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn warm(&mut self, args: &Args) -> Result<(), String> {
        let (start, frames) = (self.counts.sent, args.warm_passes.saturating_mul(args.flows.into()));
        let began = tsc();
        let (enough, limit) = (began + ticks(args.warm), began + ticks(args.warm_limit.max(args.warm)));
        loop {
            let now = self.round(&mut Load::Full);
            let sent = self.counts.sent - start;
            if now > enough && sent >= frames {
                return Ok(());
            }
            if now > limit {
                return Err(format!(
                    "not warm after {} s: {sent} frames sent of {frames} (--warm-passes times --flows)",
                    args.warm_limit
                ));
            }
        }
    }

    /// Receives until nothing is on its way any more; returns how much of what was sent since the mark did not come.
    fn drain(&mut self, since: &Mark) -> i64 {
        free_burst(&mut self.out);
        let mut end = tsc() + ticks(SILENCE);
        let mut seen = self.sink.received.frames;
        loop {
            let now = self.round(&mut Load::Nothing);
            let missing = (self.counts.sent - since.counts.sent) as i64
                - (self.sink.received.frames - since.received.frames) as i64;
            if self.sink.received.frames != seen {
                seen = self.sink.received.frames;
                end = now + ticks(if missing > 0 { SILENCE } else { AFTERMATH });
            }
            if now > end {
                return missing;
            }
        }
    }

    /// Waits for a line on standard input, or its end. Meanwhile the core is mostly left to others.
    fn wait_for_gate(&mut self) -> Result<(), String> {
        println!("warm");
        std::io::stdout().flush().map_err(|e| format!("standard output: {e}"))?;
        let line = std::thread::spawn(|| std::io::stdin().read_line(&mut String::new()).map(|_| ()));
        while !line.is_finished() {
            self.round(&mut Load::Nothing);
            std::thread::sleep(Duration::from_millis(1));
        }
        match line.join() {
            Ok(read) => read.map_err(|e| format!("standard input: {e}")),
            Err(_) => Err("standard input could not be read".into()),
        }
    }

    /// The part that is counted: its beginning and end.
    fn count(&mut self, seconds: f64, load: &mut Load) -> (Mark, Mark) {
        self.moved = true;
        if let Some(latency) = &mut self.sink.latency {
            latency.clear();
        }
        let start = self.mark(tsc());
        if let Load::Paced(pacer) = load {
            pacer.restart(start.at);
        }
        let until = start.at + ticks(seconds);
        loop {
            let now = self.round(load);
            if now > until {
                return (start, self.mark(now));
            }
        }
    }
}

/// Nanoseconds that this thread has waited for its core so far.
fn waited() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn ticks(seconds: f64) -> u64 {
    (seconds * tsc_hz() as f64) as u64
}

fn open(eal: &Eal, args: &Args) -> Result<Generator, String> {
    let (sent, expected) = args.wraps();
    let pool = Mempool::new(eal, "gen-rx", 8191, 256, DEFAULT_DATA_ROOM, -1).map_err(text)?;
    let source = Source::new(eal, sent, args.flows, &args.size, RING)?;
    let sink = Sink::new(expected, args.flows, &args.size, &pool, args.latency);
    // A memif client that shares its buffers takes over the descriptors of DPDK's memory, which virtio-user has to
    // send to its back-end: virtio-user first.
    let is_memif = |device: &str| device.starts_with("net_memif");
    let (mut a, mut b);
    if is_memif(&args.tx) {
        b = Port::open(eal, &args.rx, args.rx_queues, &pool)?;
        a = Port::open(eal, &args.tx, 1, &pool)?;
    } else {
        a = Port::open(eal, &args.tx, 1, &pool)?;
        b = Port::open(eal, &args.rx, args.rx_queues, &pool)?;
    }
    a.wait_link(args.wait)?;
    b.wait_link(args.wait)?;
    let (out, got) = (Burst::new(), Burst::new());
    Ok(Generator { a, b, source, sink, out, got, counts: Counts::default(), before: tsc(), moved: true })
}

fn run(args: &Args) -> Result<Value, String> {
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
    let mut generator = open(&eal, args)?;
    generator.knock(args.wait)?;
    let first = generator.mark(tsc());
    generator.drain(&first);

    let cold = generator.mark(tsc());
    generator.warm(args)?;
    let warm_seconds = (tsc() - cold.at) as f64 / tsc_hz() as f64;
    let lost_warm = generator.drain(&cold);
    if args.gate {
        generator.wait_for_gate()?;
    }

    let mut pacer = args.rate.map(|rate| Pacer::new(rate, tsc_hz()));
    let mut load = pacer.as_mut().map_or(Load::Full, Load::Paced);
    let (start, end) = generator.count(args.seconds, &mut load);
    let lost = generator.drain(&start);
    let mut result = report(&start, &end, &generator.sink, &args.size);
    result["lost"] = lost.into();
    result["lost_warm"] = lost_warm.into();
    result["warm_seconds"] = warm_seconds.into();
    if let Some(pacer) = pacer {
        result["late"] = pacer.late().into();
    }
    if let Some(latency) = &generator.sink.latency {
        result["latency_us"] = latencies(latency);
    }
    Ok(result)
}

fn report(start: &Mark, end: &Mark, sink: &Sink, sizes: &Sizes) -> Value {
    let ticks = (end.at - start.at) as f64;
    let seconds = ticks / tsc_hz() as f64;
    let (s, e, last) = (start.counts, end.counts, sink.received);
    let per_second = |n: u64| (n as f64 / seconds).round();
    let by_size: serde_json::Map<String, Value> = sizes
        .each
        .iter()
        .enumerate()
        .map(|(i, size)| (size.to_string(), (last.by_size[i] - start.received.by_size[i]).into()))
        .collect();
    json!({
        "tx_pps": per_second(e.sent - s.sent),
        "rx_pps": per_second(end.received.frames - start.received.frames),
        "idle": (e.idle - s.idle) as f64 / ticks,
        "stolen": (end.waited - start.waited) as f64 / 1e9 / seconds,
        // While counting and until nothing came any more.
        "sent": e.sent - s.sent,
        "unsent": e.unsent - s.unsent,
        "received": last.frames - start.received.frames,
        "received_by_size": by_size,
        // From the first frame to the last.
        "bad": last.bad,
        "checked": last.checked,
        "arp_replies": last.arp,
        "loops": e.loops - s.loops,
        "seconds": seconds,
        "tsc_hz": tsc_hz(),
    })
}

fn latencies(latency: &Histogram) -> Value {
    let us = |ticks: u64| (ticks as f64 * 1e9 / tsc_hz() as f64).round() / 1e3;
    json!({
        "frames": latency.total(),
        "p50": us(latency.quantile(0.5)),
        "p99": us(latency.quantile(0.99)),
        "p99.9": us(latency.quantile(0.999)),
        "max": us(latency.max()),
    })
}
