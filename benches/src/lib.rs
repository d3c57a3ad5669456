//! What the benchmark programs are made of: the frames that are sent, when, and how a received one is judged.
//!
//! | where | what |
//! |---|---|
//! | `micro/` | criterion micro-benchmarks of the wire and tables crates, and of the packet path without I/O |
//! | `micro/peers/` | the forwarding table beside rte_hash and other hash tables, in turns |
//! | `micro/instructions.py` | instructions per packet by stage, as callgrind counts them in `src/bin/weft-instructions.rs` |
//! | `src/bin/weft-gen/` | generator and sink on one core |
//! | `src/bin/core-distance.rs` | the round trip of a cache line between two cores |
//! | `e2e/` | the end-to-end benchmark, which runs the two above around weftd and its peers |
#![deny(unsafe_code)]

pub mod bed;
pub mod eal;
pub mod frames;
pub mod latency;
pub mod pace;
pub mod sink;
pub mod sizes;
pub mod source;
