//! Looks after what changes by itself: guests that come and go, links, stalled workers, memory to be freed.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};

use weft_dataplane::underlay::agent::AgentCommand;

use super::alarms::{self, Alarm, Reseeding};
use super::fdb::Plan as FdbPlan;
use super::{Engine, Shared, backlog};

/// How often links and workers are looked at.
const PERIOD: Duration = Duration::from_millis(200);
/// A worker that reports nothing for so long is an alarm.
const STALL: Duration = Duration::from_millis(500);

/// After so many looks in a row each next one waits for [`GAP`]: a guest that turns its rings on and off must not keep
/// control busy, and one that only starts must not wait.
const ROW: u32 = 16;
/// See [`ROW`].
const GAP: Duration = Duration::from_millis(10);
/// How long to wait for workers before memory is freed another time.
const GRACE: Duration = Duration::from_secs(1);
/// How often ports that could not be put back are tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Runs until the engine stops; `pokes` say that a guest's state changed.
pub fn run(engine: &Engine, pokes: &Receiver<()>) {
    let shared = &engine.shared;
    let mut tried = Instant::now();
    let mut reseeding = Reseeding::default();
    let (mut row, mut last) = (0_u32, Instant::now());
    while !shared.stopping.load(std::sync::atomic::Ordering::Relaxed) {
        let poked = match pokes.recv_timeout(PERIOD) {
            Ok(()) => 1,
            Err(RecvTimeoutError::Timeout) => 0,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        // Time that passed is taken off the row.
        row = (row + poked).saturating_sub((last.elapsed().as_millis() / GAP.as_millis()) as u32);
        last = Instant::now();
        if row > ROW {
            std::thread::sleep(GAP);
        }
        // A guest's rings come one by one: take them together.
        while pokes.try_recv().is_ok() {}
        look(shared, &mut reseeding);
        if tried.elapsed() >= RETRY {
            tried = Instant::now();
            reopen(shared);
        }
    }
}

fn look(shared: &Shared, reseeding: &mut Reseeding) {
    let conflict = shared.agent_view.lock().unwrap_or_else(PoisonError::into_inner).conflict;
    let mut s = shared.state();
    // Under the lock: a change may have held it for seconds, and what was stalled before is not what is now.
    let stalled = shared.domain.stalled(STALL);
    shared.domain.collect();
    let up = s.uplink.device.link().up;
    if up != s.uplink.link {
        tracing::info!("uplink {}: link {}", s.uplink.model.name, word(up));
        s.uplink.link = up;
        if up {
            // An agent that has ended has nothing to announce.
            let _ = s.agent.send(AgentCommand::Announce);
        }
    }
    for p in s.ports.values_mut() {
        let up = p.link_now();
        if up != p.link {
            tracing::info!("port {}: {}", p.model.name, word(up));
            p.link = up;
        }
    }
    let mut alarms: Vec<Alarm> = stalled.iter().map(alarms::stalled).collect();
    alarms.extend(conflict.map(|mac| alarms::conflict(&s.uplink.model, mac)));
    alarms.extend(alarms::waiting(&shared.domain.pending(), &stalled));
    alarms.extend(reseeding.look(&s.fdb.stats(), Instant::now()));
    for a in alarms::new_ones(&s.alarms, &alarms) {
        tracing::error!("{}", a.text);
    }
    s.alarms = alarms;
    // A guest that turns its rings on and off must not pile up snapshots for a stalled worker either.
    if s.facts() != s.published && !backlog::is_full(&shared.domain) {
        s.publish(shared);
    }
    let idle_pools = s.retired.take_idle();
    drop(s);
    // Not under the lock: freeing a pool takes milliseconds. And not before every worker has finished its round: one that
    // is in the middle of giving packets back may make the pool look idle a moment too early. The last handle looks again.
    if !idle_pools.is_empty() && shared.domain.synchronize(GRACE).is_err() {
        let mut s = shared.state();
        idle_pools.into_iter().for_each(|p| s.retired.push(p));
    } else {
        drop(idle_pools);
    }
    shared.domain.collect();
}

/// Tries again to open what ought to run.
fn reopen(shared: &Shared) {
    let mut s = shared.state();
    // Each try costs a snapshot, and what is missing has its alarm.
    if s.failed.is_empty()
        || backlog::is_full(&shared.domain)
        || shared.stopping.load(std::sync::atomic::Ordering::Relaxed)
    {
        return;
    }
    let same = s.objects.clone();
    if let Err(e) = s.apply(shared, same, FdbPlan::Keep) {
        tracing::error!("opening ports again: {e}");
    }
}

fn word(up: bool) -> &'static str {
    if up { "up" } else { "down" }
}
