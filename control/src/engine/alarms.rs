//! What needs attention, in sentences for `weftctl status`.

use std::time::{Duration, Instant};

use weft_tables::fdb::FdbStats;
use weft_tables::qsbr::{Pending, StalledReader};
use weft_wire::MacAddr;

use super::backlog;
use crate::model::Uplink;
use crate::units;

/// Replaced memory that waits for longer is an alarm.
const LONG_WAIT: Duration = Duration::from_secs(3);
/// For how long it is told that the FDB took another seed.
const RECENT: Duration = Duration::from_secs(600);

/// Something that needs attention now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// What it is about: tells one that goes on, in other words (times, sizes), from one that is new.
    about: String,
    /// For people.
    pub text: String,
}

impl Alarm {
    fn new(about: impl Into<String>, text: String) -> Self {
        Self { about: about.into(), text }
    }
}

/// Those of `now` that were not there `before`, in whatever words.
pub fn new_ones<'a>(before: &'a [Alarm], now: &'a [Alarm]) -> impl Iterator<Item = &'a Alarm> {
    now.iter().filter(|a| before.iter().all(|b| b.about != a.about))
}

/// A worker does not come round.
pub fn stalled(r: &StalledReader) -> Alarm {
    let ms = r.since.as_millis();
    let text =
        format!("{} has not finished a round for {ms} ms: is its core used by something else?", r.name);
    Alarm::new(&r.name, text)
}

/// Another station claims the VTEP address.
pub fn conflict(uplink: &Uplink, mac: MacAddr) -> Alarm {
    let address = uplink.address.addr();
    Alarm::new(
        "conflict",
        format!("uplink {}: {mac} claims this host's address {address} in ARP", uplink.name),
    )
}

/// Memory waits for workers for too long.
pub fn waiting(p: &Pending, stalled: &[StalledReader]) -> Option<Alarm> {
    (p.oldest > LONG_WAIT).then(|| {
        let text = format!(
            "{}: from {} or {} items on, changes are refused; free that worker's core, or restart weftd",
            backlog::describe(p, stalled),
            units::bytes(backlog::MAX_BYTES as u64),
            units::grouped(backlog::MAX_ITEMS as u64),
        );
        Alarm::new("waiting", text)
    })
}

/// Notices when the FDB takes another seed.
#[derive(Debug, Default)]
pub struct Reseeding {
    seen: u64,
    last: Option<Instant>,
}

impl Reseeding {
    /// To be told the table's figures every now and then.
    pub fn look(&mut self, stats: &FdbStats, now: Instant) -> Option<Alarm> {
        if stats.reseeded > self.seen {
            self.seen = stats.reseeded;
            self.last = Some(now);
        }
        let ago = now.saturating_duration_since(self.last?);
        (ago < RECENT).then(|| {
            let text = format!(
                "the FDB took another hash seed {} ago, {} times since the start: many of its keys had equal hashes. \
                 Nothing is lost, but chance hardly does that: either there was no memory to grow, or somebody chooses \
                 MAC addresses to slow lookups down. See which bridge domain has grown (weftctl bd list) and who adds \
                 to it; should it go on, the seed is known to somebody, as from a core dump",
                units::span(ago),
                self.seen
            );
            Alarm::new("reseeded", text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_tables::fdb::{Fdb, FdbConfig};
    use weft_tables::qsbr::Domain;

    fn reader(name: &str, ms: u64) -> StalledReader {
        StalledReader { name: name.into(), since: Duration::from_millis(ms) }
    }

    #[test]
    fn an_alarm_that_goes_on_is_not_new() {
        let before = [stalled(&reader("worker-0", 600))];
        let now = [stalled(&reader("worker-0", 800)), stalled(&reader("worker-1", 600))];
        let new: Vec<&str> = new_ones(&before, &now).map(|a| a.about.as_str()).collect();
        assert_eq!(new, ["worker-1"]);
        assert_eq!(new_ones(&now, &now).count(), 0);
    }

    #[test]
    fn memory_that_waits_for_long_is_laid_to_the_worker_that_stalls() {
        let mut p = Pending { items: 2, bytes_hint: 3_141_592, oldest: LONG_WAIT };
        let who = [reader("worker-1", 4_200)];
        assert_eq!(waiting(&p, &who), None);
        p.oldest += Duration::from_millis(1);
        let text = waiting(&p, &who).unwrap().text;
        for said in ["3.1 MB in 2 items", "worker-1, which has not finished a round for 4.2 s", "64.0 MB"] {
            assert!(text.contains(said), "{said}: {text}");
        }
    }

    #[test]
    fn reseeding_is_told_for_a_while() {
        let (mut watch, start) = (Reseeding::default(), Instant::now());
        let after = |s| start + Duration::from_secs(s);
        let (table, _) = Fdb::new(&Domain::new(1), FdbConfig::default());
        let mut stats = FdbStats { anomalies: 9, overflow: 8, ..table.stats() };
        assert_eq!(watch.look(&stats, start), None, "an entry in a chain is no alarm");
        stats.reseeded = 1;
        let first = watch.look(&stats, after(1)).unwrap();
        assert!(first.text.contains("0 ms ago, 1 times"), "{first:?}");
        let later = watch.look(&stats, after(600)).unwrap();
        assert!(later.text.contains("599 s ago") && new_ones(&[first], &[later]).next().is_none());
        assert_eq!(watch.look(&stats, after(601)), None);
        stats.reseeded = 3;
        assert!(watch.look(&stats, after(700)).unwrap().text.contains("3 times"));
    }
}
