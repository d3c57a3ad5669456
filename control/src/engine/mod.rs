//! The engine: turns the desired state into running ports and published tables.
//!
//! ```text
//!   Objects --validate--> --open ports--> --compile--> Tables --publish, grace period--> --close what is gone
//! ```
//!
//! One path serves the start, a reload and every API call that changes objects: [`apply`] gets the whole new
//! [`Objects`], works out the difference, and either all of it is in force when it returns, or nothing is. Forwarding
//! entries, of which there may be millions, go another way: the API changes them batch by batch, in place ([`fdb`]).
//!
//! | file | holds |
//! |---|---|
//! | [`boot`] | start and stop: EAL, uplink, agent, workers |
//! | [`ids`] | slots and numbers, and when they may be used again |
//! | [`pools`] | packet buffers of each port |
//! | [`ports`] | opening and closing ports |
//! | [`workers`] | the worker threads, and which owns which queue |
//! | [`compile`] | objects to forwarding tables, without side effects |
//! | [`apply`] | the transaction |
//! | [`fdb`] | the forwarding entries |
//! | [`backlog`] | when a change is refused: too much waits for a stalled worker |
//! | [`diff`] | what a change would do, in words |
//! | [`watch`] | guests that come and go, links, stalled workers |
//! | [`alarms`] | what the watcher found wrong, in words |
//! | [`report`] | status and counters |
//! | [`backend`] | what the API calls |

mod alarms;
mod apply;
mod backend;
mod backlog;
mod boot;
mod compile;
mod diff;
mod fdb;
mod ids;
mod pools;
mod ports;
mod report;
#[cfg(test)]
mod tests;
mod watch;
mod workers;

use crate::model::{Objects, Settings};
use alarms::Alarm;
use compile::PortFacts;
use crossbeam::channel::Sender;
use fdb::Entries;
use ids::Ids;
use pools::Retired;
use ports::{Opener, RunningPort};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;
use weft_dataplane::counters::{PortTotals, ThreadCounters};
use weft_dataplane::forwarding::Forwarding;
use weft_dataplane::underlay::agent::{AgentCommand, AgentView};
use weft_port::{Eal, Mempool};
use weft_tables::qsbr::Domain;
use workers::WorkerHandle;

pub use boot::StartError;

/// The running daemon, shared between the API server, the signal handlers and the watcher.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

/// What never changes while the daemon runs, and the lock around what does.
struct Shared {
    eal: Eal,
    opener: Opener,
    agent_pool: Mempool,
    domain: Arc<Domain>,
    fwd: Forwarding,
    settings: Settings,
    config: PathBuf,
    started: Instant,
    /// Of the workers by number, then of the agent.
    counters: Vec<Arc<ThreadCounters>>,
    agent_view: Arc<Mutex<AgentView>>,
    stopping: AtomicBool,
    state: Mutex<State>,
}

/// What changes, under one lock: there is one writer of everything.
struct State {
    objects: Objects,
    ids: Ids,
    ports: BTreeMap<String, RunningPort>,
    uplink: ports::RunningUplink,
    workers: Vec<WorkerHandle>,
    agent: Sender<AgentCommand>,
    agent_thread: Option<JoinHandle<()>>,
    fdb: Entries,
    generation: u64,
    /// What the published tables were made from.
    published: (BTreeMap<String, PortFacts>, PortFacts),
    /// Memory that the published tables take.
    published_bytes: usize,
    reloads: u64,
    /// Pools of ports that are gone.
    retired: Retired,
    /// Ports that ought to run and could not be opened again, and why.
    failed: BTreeMap<String, String>,
    /// Counters of a slot when its present life began.
    baselines: BTreeMap<u16, PortTotals>,
    samples: Vec<report::Sample>,
    /// What the watcher found wrong, for `status`.
    alarms: Vec<Alarm>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic aborts the release build; a test that survives one may go on reading.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
