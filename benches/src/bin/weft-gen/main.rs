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

mod generator;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use serde_json::{Value, json};
use weft_benches::frames::{self, Wrap};
use weft_benches::latency::Histogram;
use weft_benches::pace::Pacer;
use weft_benches::sink::Sink;
use weft_benches::sizes::Sizes;
use weft_port::{Eal, EalConfig, pin_current_thread, tsc, tsc_hz};
use weft_wire::Encap;

use generator::{Generator, Load, Mark, text};

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
    let mut generator = Generator::open(&eal, args)?;
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
