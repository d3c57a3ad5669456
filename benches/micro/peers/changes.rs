//! Inserts and deletes, nobody looking; and the memory that a growing table takes.

use std::time::Instant;

use hashbrown::HashMap;
use std::sync::Arc;
use weft_tables::fdb::{Fdb, FdbConfig, FdbKey, MAX_BURST};
use weft_tables::qsbr::Domain;

use crate::Run;
use crate::contenders::{RteWriter, Table, shuffled, weft_key};
use crate::report::{Better, Row, Spread};

/// Not a power of two: rte_hash made for a million rounds up, and does not fit a power of two itself.
const ENTRIES: usize = 1_000_000;

/// Millions of inserts, then of deletes, a second.
fn in_and_out(mut table: impl Table, order: &[u32]) -> (f64, f64) {
    let rate = |start: Instant| order.len() as f64 / start.elapsed().as_secs_f64() / 1e6;
    let start = Instant::now();
    let refused = order.iter().filter(|&&i| !table.insert(i)).count();
    let inserts = rate(start);
    assert_eq!(refused, 0, "keys found no place");
    let start = Instant::now();
    for &i in order {
        table.remove(i);
    }
    (inserts, rate(start))
}

/// Millions of inserts a second, by weft in bursts as a control plane has them at hand.
fn in_bursts(order: &[u32]) -> f64 {
    let (mut writer, _fdb) = Fdb::new(&Domain::new(1), FdbConfig::default());
    let start = Instant::now();
    for burst in order.chunks(MAX_BURST) {
        let mut entries = [(weft_key(0), 0); MAX_BURST];
        for (entry, &i) in entries.iter_mut().zip(burst) {
            *entry = (weft_key(i), i);
        }
        writer.insert_all(&entries[..burst.len()]).expect("memory");
    }
    let rate = order.len() as f64 / start.elapsed().as_secs_f64() / 1e6;
    assert_eq!(writer.len(), order.len());
    rate
}

/// A million keys in, one by one, and out again; and all at once.
pub fn inserts_and_deletes(run: &mut Run) {
    const INSERTS: &str = "inserts, growing from empty (rte_hash: made for 1M)";
    const DELETES: &str = "deletes, until empty";
    const BURSTS: &str = "the same, weft in bursts (insert_all)";
    const ROOMY: &str = "inserts, rte_hash made for 2M";
    const BULK: &str = "bulk load (replace_all)";
    let size = "1M";
    if ![INSERTS, BURSTS, DELETES, ROOMY, BULK].iter().any(|case| run.wants(case, size)) {
        return;
    }
    run.progress("inserts and deletes");
    let order = shuffled(ENTRIES);
    let entries: Vec<(FdbKey, u32)> = order.iter().map(|&i| (weft_key(i), i)).collect();
    let [mut inserts, mut bursts, mut deletes, mut roomy]: [[Vec<f64>; 4]; 4] = Default::default();
    let mut bulk = Vec::new();
    for _ in 0..if run.quick { 3 } else { run.rounds.min(9) } {
        let measured = [
            in_and_out(Fdb::new(&Domain::new(1), FdbConfig::default()).0, &order),
            in_and_out(RteWriter::new(1 << 20, 0).0, &order),
            in_and_out(HashMap::new(), &order),
            in_and_out(Arc::default(), &order),
        ];
        for (i, (insert, delete)) in measured.into_iter().enumerate() {
            inserts[i].push(insert);
            deletes[i].push(delete);
        }
        bursts[0].push(in_bursts(&order));
        bursts[1].push(measured[1].0);
        roomy[0].push(measured[0].0);
        roomy[1].push(in_and_out(RteWriter::new(2 << 20, 0).0, &order).0);

        let (mut writer, _fdb) = Fdb::new(&Domain::new(1), FdbConfig::default());
        let start = Instant::now();
        writer.replace_all(entries.iter().copied()).expect("memory");
        bulk.push(start.elapsed().as_secs_f64());
        assert_eq!(writer.len(), ENTRIES);
    }
    let row = |case, rounds| Row::new(case, size, "M/s", rounds).with_ratios(rounds, Better::More);
    run.rows.push(row(INSERTS, &inserts).wants_ratio(1.5));
    run.rows.push(row(BURSTS, &bursts).wants_ratio(1.5));
    run.rows.push(row(ROOMY, &roomy));
    run.rows.push(row(DELETES, &deletes));
    run.rows.push(Row::weft(BULK, size, "s", Spread::of(&bulk)).wants_most(0.15));
}

/// Bytes that weft's table takes, and takes for a moment while it grows.
pub fn memory(run: &mut Run) {
    const AT_REST: &str = "memory at rest";
    const GROWING: &str = "memory while growing (old and new), at most";
    /// Tables of some kilobytes may take what they like.
    const FROM: usize = 8192;
    if !run.wants(AT_REST, "1M") && !run.wants(GROWING, "1M") {
        return;
    }
    run.progress("memory");
    let (mut writer, _fdb) = Fdb::new(&Domain::new(1), FdbConfig::default());
    let (mut before, mut most) = (writer.stats(), 0f64);
    for i in 0..ENTRIES as u32 {
        Table::insert(&mut writer, i);
        let now = writer.stats();
        if now.grown != before.grown && before.entries >= FROM {
            most = most.max((before.bytes + now.bytes) as f64 / before.entries as f64);
        }
        before = now;
    }
    let at_rest = before.bytes as f64 / before.entries as f64;
    let row = |case, value| Row::weft(case, "1M", "bytes/entry", Spread::one(value));
    run.rows.push(row(AT_REST, at_rest).with_load(before.load).wants_most(24.0));
    run.rows.push(row(GROWING, most).wants_most(60.0));
}
