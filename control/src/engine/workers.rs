//! The worker threads, and which of them owns which queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::utils::CachePadded;
use weft_dataplane::counters::ThreadCounters;
use weft_dataplane::forwarding::{Forwarding, MAX_QUEUES, TxqId};
use weft_dataplane::tx::HandoffEnds;
use weft_dataplane::underlay::punt::{Inject, PuntTx};
use weft_dataplane::worker::mailbox::{Command, Mailbox, NoAnswer, RxBinding, mailbox};
use weft_dataplane::worker::{self, IdleMode, WorkerParts};
use weft_port::{Eal, PortError, RxQueue, TxQueue};
use weft_tables::qsbr::Reader;

use super::ids::PortId;

/// How long control waits for a worker to take or give back queues.
const ANSWER: Duration = Duration::from_secs(5);

/// A running worker as control sees it.
pub struct WorkerHandle {
    pub core: usize,
    pub asleep: Arc<CachePadded<AtomicBool>>,
    mailbox: Mailbox,
    stop: Arc<CachePadded<AtomicBool>>,
    thread: Option<JoinHandle<()>>,
}

/// What a worker is started with.
pub struct Start {
    pub id: usize,
    pub core: usize,
    pub idle: IdleMode,
    pub stage_timing: bool,
    pub eal: Eal,
    pub fwd: Forwarding,
    pub reader: Reader,
    pub counters: Arc<ThreadCounters>,
    pub handoff: HandoffEnds,
    pub punt: PuntTx,
    pub inject: rtrb::Consumer<Inject>,
}

/// Starts a worker and waits until it polls.
pub fn start(s: Start) -> Result<WorkerHandle, PortError> {
    let (mailbox, end) = mailbox(s.id);
    let stop = Arc::new(CachePadded::new(AtomicBool::new(false)));
    let asleep = Arc::new(CachePadded::new(AtomicBool::new(false)));
    let parts = WorkerParts {
        id: s.id,
        core: s.core,
        idle: s.idle,
        stage_timing: s.stage_timing,
        eal: s.eal,
        fwd: s.fwd,
        reader: s.reader,
        counters: s.counters,
        handoff: s.handoff,
        punt: s.punt,
        inject: s.inject,
        mailbox: end,
        stop: stop.clone(),
        asleep: asleep.clone(),
    };
    let (ready, is_ready) = crossbeam::channel::bounded::<Result<(), PortError>>(1);
    let ready_ok = ready.clone();
    let thread = std::thread::Builder::new()
        .name(format!("worker-{}", s.id))
        .spawn(move || {
            let done = worker::run(parts, move || drop(ready_ok.send(Ok(()))));
            if let Err(e) = done {
                drop(ready.send(Err(e)));
            }
        })
        .map_err(|e| PortError::Invalid {
            what: format!("worker {}", s.id),
            why: format!("can't start a thread: {e}"),
        })?;
    match is_ready.recv() {
        Ok(Ok(())) => Ok(WorkerHandle { core: s.core, asleep, mailbox, stop, thread: Some(thread) }),
        Ok(Err(e)) => Err(e),
        Err(_) => {
            Err(PortError::Invalid { what: format!("worker {}", s.id), why: "ended at its start".into() })
        }
    }
}

impl WorkerHandle {
    /// Ends the worker. Its queues end with it.
    pub fn stop(&mut self) {
        // Relaxed: only the wish to end is carried; joining orders everything else.
        self.stop.store(true, Ordering::Relaxed);
        if let Some(t) = self.thread.take() {
            // A worker does not panic in release builds (they abort); in a test the panic was reported already.
            drop(t.join());
        }
    }
}

/// Which worker owns queue `queue` of a port: spread so that ports with one queue do not all meet on one worker.
pub fn owner(id: PortId, queue: usize, workers: usize) -> usize {
    (usize::from(id.slot).saturating_sub(1) + queue) % workers
}

/// One worker's share of a port's queues.
type Share = (Vec<RxBinding>, Vec<(TxqId, TxQueue)>);

/// Hands a port's queues to their owners. On an error those handed over are taken back.
pub fn give_queues(
    workers: &mut [WorkerHandle],
    id: PortId,
    rx: Vec<RxQueue>,
    tx: Vec<TxQueue>,
) -> Result<(), NoAnswer> {
    let n = workers.len();
    let mut by_worker: Vec<Share> = (0..n).map(|_| Share::default()).collect();
    for queue in rx {
        let w = owner(id, usize::from(queue.index()), n);
        by_worker[w].0.push(RxBinding { slot: id.slot, generation: id.generation, queue });
    }
    for queue in tx {
        let w = owner(id, usize::from(queue.index()), n);
        by_worker[w].1.push((TxqId::new(id.slot, queue.index()), queue));
    }
    for (w, (rx, tx)) in by_worker.into_iter().enumerate() {
        if rx.is_empty() && tx.is_empty() {
            continue;
        }
        let add = Command::Add { generation: id.generation, rx, tx };
        if let Err(e) = workers[w].mailbox.call(add, ANSWER) {
            drop(take_queues(workers, id));
            return Err(e);
        }
    }
    Ok(())
}

/// Takes a port's queues back from every worker.
pub fn take_queues(
    workers: &mut [WorkerHandle],
    id: PortId,
) -> Result<(Vec<RxQueue>, Vec<TxQueue>), NoAnswer> {
    let (mut all_rx, mut all_tx) = (Vec::new(), Vec::new());
    for w in workers.iter_mut() {
        let (rx, tx) = (Vec::with_capacity(MAX_QUEUES), Vec::with_capacity(MAX_QUEUES));
        let answer = w.mailbox.call(Command::Remove { slot: id.slot, rx, tx }, ANSWER)?;
        if let Command::Remove { rx, tx, .. } = answer {
            all_rx.extend(rx.into_iter().map(|b| b.queue));
            all_tx.extend(tx.into_iter().map(|(_, q)| q));
        }
    }
    Ok((all_rx, all_tx))
}

/// Returns when every worker has begun a round after this call, and so has taken what was on its rings before.
pub fn fence(workers: &mut [WorkerHandle]) -> Result<(), NoAnswer> {
    // Correctness does not rest on it but on the generation that each parcel carries. This is for tidy counters.
    for w in workers.iter_mut() {
        w.mailbox.call(Command::Fence, ANSWER)?;
    }
    Ok(())
}
