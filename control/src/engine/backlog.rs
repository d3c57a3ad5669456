//! Bounds what waits for a worker that does not come round.
//!
//! Each change replaces something that workers may still be reading, a snapshot of the tables at least, and it is freed
//! once every worker has finished a round. While one never does, every further change would take more memory until none
//! is left for anything. So there is a limit beyond which nothing is changed any more; what runs goes on running.
//!
//! The forwarding table builds no larger one aside while more than [`FdbConfig::retired_limit`] waits. Its replaced
//! tables count here as well: no matter what the memory was for, it is gone until that worker moves.
//!
//! [`FdbConfig::retired_limit`]: weft_tables::fdb::FdbConfig::retired_limit

use std::time::Duration;

use weft_tables::qsbr::{Domain, Pending, StalledReader};

use crate::api::{ApiError, ApiResult};
use crate::units;

/// No change while more bytes wait: some hundred snapshots of a large configuration.
pub const MAX_BYTES: usize = 64_000_000;
/// No change while more items wait. Each costs some 100 bytes of books besides its own.
pub const MAX_ITEMS: usize = 10_000;
/// Workers that are well finish a round in far less.
const GRACE: Duration = Duration::from_secs(1);

/// Whether so much waits that nothing may be changed.
pub fn is_full(domain: &Domain) -> bool {
    let p = domain.pending();
    p.bytes_hint > MAX_BYTES || p.items > MAX_ITEMS
}

/// Refuses a change while too much waits, having given the workers a moment to finish their round.
pub fn check(domain: &Domain) -> ApiResult<()> {
    domain.collect();
    if !is_full(domain) || domain.synchronize(GRACE).is_ok() && !is_full(domain) {
        return Ok(());
    }
    let message = format!(
        "nothing was changed: {} (limits: {} and {} items)",
        describe(&domain.pending(), &domain.stalled(GRACE / 2)),
        units::bytes(MAX_BYTES as u64),
        units::grouped(MAX_ITEMS as u64)
    );
    Err(ApiError::precondition(message).hint(
        "packets flow as before, but for that worker's queues; find what keeps it from its core (weftctl worker list \
         names the core), then repeat the change; if it never comes back, restart weftd",
    ))
}

/// What waits, for whom and for how long, as a sentence without its end.
pub fn describe(p: &Pending, stalled: &[StalledReader]) -> String {
    let who: Vec<String> = stalled
        .iter()
        .map(|r| format!("{}, which has not finished a round for {}", r.name, units::span(r.since)))
        .collect();
    format!(
        "{} in {} {} that changes replaced wait for {}",
        units::bytes(p.bytes_hint as u64),
        units::grouped(p.items as u64),
        if p.items == 1 { "item" } else { "items" },
        if who.is_empty() { "workers to finish a round".to_owned() } else { who.join("; for ") }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ErrorKind;

    #[test]
    fn memory_that_a_stalled_worker_holds_up_is_bounded_by_its_size() {
        let domain = Domain::new(2);
        let mut well = domain.register("worker-0").unwrap();
        let mut stalled = domain.register("worker-1").unwrap();
        well.online();
        stalled.online();
        domain.retire_sized(Box::new(()), MAX_BYTES);
        well.quiescent();
        check(&domain).unwrap();
        domain.retire_sized(Box::new(()), 1);
        well.offline();
        let refused = check(&domain).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Precondition);
        for said in ["64.0 MB in 2 items", "worker-1, which has not finished a round for 1", "10,000 items"] {
            assert!(refused.message.contains(said), "{said}: {refused}");
        }
        assert!(!refused.message.contains("worker-0"), "{refused}");
        assert!(refused.hint.contains("weftctl worker list"), "{}", refused.hint);
        assert_eq!(domain.pending().items, 2, "what waits is neither freed nor added to");

        stalled.quiescent();
        check(&domain).unwrap();
        assert_eq!(domain.pending(), Pending::default());
    }

    #[test]
    fn and_by_its_number() {
        let domain = Domain::new(1);
        let mut stalled = domain.register("worker-0").unwrap();
        stalled.online();
        (0..MAX_ITEMS).for_each(|_| domain.retire(Box::new(0_u8)));
        check(&domain).unwrap();
        domain.retire(Box::new(0_u8));
        let refused = check(&domain).unwrap_err();
        assert!(refused.message.contains("10.0 kB in 10,001 items"), "{refused}");
        // A worker that sleeps holds nothing up.
        stalled.offline();
        check(&domain).unwrap();
    }

    #[test]
    fn what_only_waits_for_a_round_to_end_is_waited_for() {
        let domain = Domain::new(1);
        let mut slow = domain.register("worker-0").unwrap();
        slow.online();
        domain.retire_sized(Box::new(()), MAX_BYTES + 1);
        std::thread::scope(|s| {
            s.spawn(|| {
                std::thread::sleep(GRACE / 20);
                slow.quiescent();
            });
            check(&domain).unwrap();
        });
        assert_eq!(domain.pending().items, 0);
    }
}
