//! The loop that sends and receives, and the parts of a run that are made of it.

use std::io::Write;
use std::time::Duration;

use weft_benches::pace::Pacer;
use weft_benches::sink::{Received, Sink};
use weft_benches::source::Source;
use weft_port::{
    BURST, Burst, DEFAULT_DATA_ROOM, Eal, EthConfig, EthDev, Mempool, PortError, RxQueue, TxQueue,
    free_burst, tsc, tsc_hz,
};

use crate::Args;

/// Packets and descriptors of each ring.
const RING: u16 = 1024;
/// The transmitting device is looked at for ARP once in this many rounds.
const LOOK: u64 = 64;
/// Seconds without a frame after which no more are expected.
const SILENCE: f64 = 0.2;
/// Seconds in which frames that are too many may still come.
const AFTERMATH: f64 = 0.01;

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

pub fn text(e: PortError) -> String {
    e.to_string()
}

/// What to send.
pub enum Load<'a> {
    Nothing,
    /// One burst, whatever of it the ring takes.
    Burst,
    /// As much as the ring takes.
    Full,
    Paced(&'a mut Pacer),
}

/// What was counted since the start.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    pub sent: u64,
    /// Frames that the ring did not take when it was their time.
    pub unsent: u64,
    pub loops: u64,
    /// TSC ticks of rounds that moved nothing.
    pub idle: u64,
}

/// A moment and what had been counted by then.
#[derive(Clone, Copy)]
pub struct Mark {
    pub at: u64,
    pub counts: Counts,
    pub received: Received,
    pub waited: u64,
}

pub struct Generator {
    a: Port,
    b: Port,
    source: Source,
    pub sink: Sink,
    out: Burst,
    got: Burst,
    counts: Counts,
    /// Beginning of the round before, and whether that one moved anything.
    before: u64,
    moved: bool,
}

impl Generator {
    /// Opens the devices and waits for their links.
    pub fn open(eal: &Eal, args: &Args) -> Result<Self, String> {
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
        Ok(Self { a, b, source, sink, out, got, counts: Counts::default(), before: tsc(), moved: true })
    }

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
        if self.counts.loops.is_multiple_of(LOOK) && self.a.receive(&mut self.got) > 0 {
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

    pub fn mark(&self, at: u64) -> Mark {
        Mark { at, counts: self.counts, received: self.sink.received, waited: waited() }
    }

    /// Sends single bursts until something arrives. Never less than a burst, so that the ring is a whole number of them.
    pub fn knock(&mut self, seconds: f64) -> Result<(), String> {
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

    pub fn warm(&mut self, args: &Args) -> Result<(), String> {
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
    pub fn drain(&mut self, since: &Mark) -> i64 {
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
    pub fn wait_for_gate(&mut self) -> Result<(), String> {
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
    pub fn count(&mut self, seconds: f64, load: &mut Load) -> (Mark, Mark) {
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
