//! Raw bindings to DPDK (22.11 and newer), made by bindgen at build time against the installed headers.
//!
//! Only what `weft-port` uses is bound, so that the build reads quickly and API changes between releases show up
//! in few places. DPDK's static inlines have no symbol to link; `shim/shim.c` wraps those that weft needs, at the
//! level of bursts. The fields of `struct rte_mbuf` are read and written in Rust by [`mbuf`], without a call.
//!
//! Everything here is unsafe in DPDK's own way. Safe wrappers are in `weft-port`; but for that of rte_hash, which only
//! the benchmarks use and which is here, behind the feature `hash`.

/// Accessors for the fields of `struct rte_mbuf`: the one file that knows its layout.
pub mod mbuf;

#[cfg(feature = "hash")]
pub mod hash;

mod bindings {
    #![allow(missing_docs, non_camel_case_types, non_snake_case, non_upper_case_globals, dead_code)]
    #![allow(clippy::all, clippy::undocumented_unsafe_blocks, unsafe_op_in_unsafe_fn, unnecessary_transmutes)]
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;

/// Release of DPDK whose headers this build read, such as `22.11.11`.
pub const DPDK_VERSION: &str = env!("DPDK_VERSION");
