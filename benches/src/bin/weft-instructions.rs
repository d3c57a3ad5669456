//! Runs bursts through the packet path for callgrind to count: `make bench-instructions`.
//!
//! callgrind is told to collect within [`measured`] only (`--toggle-collect`), so that neither the set-up nor the making of
//! packets is in its figures. Prints, as JSON, what the figures are to be divided by.
#![deny(unsafe_code)]

use clap::{Parser, ValueEnum};
use weft_benches::bed::{BATCH, Bed, Way};
use weft_benches::eal;
use weft_port::{BURST, Burst};
use weft_wire::Encap;

/// Runs bursts of 32 through the packet path, without I/O.
#[derive(Parser)]
struct Args {
    /// Which way the packets take.
    #[arg(long, value_enum)]
    case: Case,
    /// Bursts, rounded up to whole batches of four.
    #[arg(long, default_value_t = 200)]
    bursts: usize,
    /// Destination MAC addresses, each with an entry in the FDB.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    flows: u32,
    /// Bytes of the inner frame, without FCS.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(60..=1464))]
    size: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum Case {
    EncapVxlan,
    EncapGeneve,
    DecapVxlan,
    DecapGeneve,
    L2,
}

fn main() {
    let args = Args::parse();
    let way = match args.case {
        Case::EncapVxlan => Way::Encap(Encap::Vxlan),
        Case::EncapGeneve => Way::Encap(Encap::Geneve),
        Case::DecapVxlan => Way::Decap(Encap::Vxlan),
        Case::DecapGeneve => Way::Decap(Encap::Geneve),
        Case::L2 => Way::L2,
    };
    // Ordinary pages: the number of instructions is the same, and callgrind need not know about others.
    let eal = eal::start_with(64, false);
    let mut bed = Bed::new(&eal, way, args.flows, args.size as usize);
    let batches = args.bursts.div_ceil(BATCH);
    let mut bursts: [Burst; BATCH] = Default::default();
    for _ in 0..batches {
        bed.prepare(&mut bursts);
        measured(&mut bed, &mut bursts);
    }
    let packets = batches * BATCH * BURST;
    println!(
        "{}",
        serde_json::json!({ "case": way.to_string(), "packets": packets, "bursts": batches * BATCH })
    );
}

/// What is counted. A function of its own, by whose name callgrind knows where to begin and end.
#[inline(never)]
fn measured(bed: &mut Bed, bursts: &mut [Burst; BATCH]) {
    bed.rounds(bursts);
}
