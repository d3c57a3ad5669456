//! Looks after what changes by itself: guests that come and go, links, stalled workers, memory to be freed.

use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::{Engine, Shared};

/// How often links and workers are looked at.
const PERIOD: Duration = Duration::from_millis(200);
/// A worker that reports nothing for so long is an alarm.
const STALL: Duration = Duration::from_millis(500);

/// Runs until the engine stops; `pokes` say that a guest's state changed.
pub fn run(engine: &Engine, pokes: &Receiver<()>) {
    let shared = &engine.shared;
    while !shared.stopping.load(std::sync::atomic::Ordering::Relaxed) {
        let poked = match pokes.recv_timeout(PERIOD) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        // A guest's rings come one by one: take them together.
        while pokes.try_recv().is_ok() {}
        look(shared, poked);
    }
}

fn look(shared: &Shared, poked: bool) {
    let stalled = shared.domain.stalled(STALL);
    let mut s = shared.state();
    let mut changed = poked;
    let up = s.uplink.device.link().up;
    if up != s.uplink.link {
        tracing::info!("uplink {}: link {}", s.uplink.model.name, word(up));
        s.uplink.link = up;
        changed = true;
    }
    for p in s.ports.values_mut() {
        let up = p.link_now();
        if up != p.link {
            tracing::info!("port {}: {}", p.model.name, word(up));
            p.link = up;
            changed = true;
        }
    }
    let alarms: Vec<String> = stalled
        .iter()
        .map(|r| format!("{} has not finished a round for {} ms", r.name, r.since.as_millis()))
        .collect();
    for a in alarms.iter().filter(|_| s.alarms.is_empty()) {
        tracing::error!("{a}: is its core used by something else?");
    }
    s.alarms = alarms;
    if changed {
        s.publish(shared);
    }
    drop(s);
    shared.domain.collect();
}

fn word(up: bool) -> &'static str {
    if up { "up" } else { "down" }
}
