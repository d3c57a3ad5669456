//! Lock-free forwarding tables and quiescent-state based publication.
//!
//! Everything a worker looks at while packets flow lives behind one of three structures, each with
//! readers that take no lock, never wait and write nothing but their own report line:
//!
//! * [`fdb`]: the forwarding table, (network, MAC) to next-hop id: a cuckoo table for up to millions
//!   of entries, changed in place by one writer.
//! * [`Published`]: one value (a snapshot of configuration) that is replaced as a whole.
//! * [`SlotTable`]: a fixed array of values with stable ids (next hops, ports), replaced one by one.
//!
//! [`qsbr`] is what makes taking something away safe: memory that a reader may still see is freed only
//! after every reader has passed a quiescent state. Its opening essay is the place to start.
//!
//! The crate is pure Rust and knows nothing of DPDK, so that its protocols can be run under loom, miri
//! and ThreadSanitizer. The protocols' tests are in `tests/`; `src/sync.rs` says what they run on.

mod alloc;
pub mod fdb;
mod published;
pub mod qsbr;
mod slots;
mod sync;

pub use alloc::OutOfMemory;
pub use published::Published;
pub use slots::{SlotTable, SlotView};
