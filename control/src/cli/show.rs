//! What people read.

use std::collections::BTreeMap;
use std::time::Duration;

use super::table::{Table, properties};
use crate::status::{
    BdStatus, CheckReport, FdbStatus, FdbTableStats, NeighbourStatus, PortDetail, PortStats, PortStatus,
    QueueOwner, ReloadReport, Stats, Status, UplinkStatus, VtepStatus, WaitingStats, WorkerStatus,
};
use crate::units::{bytes, grouped, span};

pub(super) fn status(s: &Status) -> String {
    let mut out = properties(&[
        ("weftd", format!("{} ({}), pid {}", s.version, s.dpdk_version, s.pid)),
        ("running for", duration(s.uptime_seconds)),
        ("configuration", format!("{}, reloaded {} times", s.config_file, s.reloads)),
        ("workers", s.workers.to_string()),
        ("uplinks", s.uplinks.to_string()),
        ("ports", s.ports.to_string()),
        ("bridge domains", s.bds.to_string()),
        ("vteps", s.vteps.to_string()),
        ("FDB entries", s.fdb_entries.to_string()),
    ]);
    for alarm in &s.alarms {
        out += &format!("ALARM: {alarm}\n");
    }
    out
}

pub(super) fn workers(workers: &[WorkerStatus]) -> String {
    let mut t = Table::new(&[">ID", ">CORE", ">NUMA", ">BUSY", ">CYC/PKT", ">LOOPS", "STATE", "QUEUES"]);
    for w in workers {
        t.row([
            w.id.to_string(),
            w.core.to_string(),
            w.numa.to_string(),
            format!("{:.1}%", w.busy_percent),
            if w.cycles_per_packet > 0.0 { format!("{:.0}", w.cycles_per_packet) } else { String::new() },
            w.loops.to_string(),
            if w.idle { "idle" } else { "polling" }.to_owned(),
            w.queues.join(" "),
        ]);
    }
    t.finish("no workers") + &stages(workers)
}

/// Cycles per packet by stage, of the workers that sampled any.
fn stages(workers: &[WorkerStatus]) -> String {
    let Some(first) = workers.iter().find(|w| !w.stage_cycles.is_empty()) else { return String::new() };
    let names = first.stage_cycles.iter().map(|s| format!(">{}", s.stage.to_uppercase()));
    let titles: Vec<String> = std::iter::once(">ID".to_owned()).chain(names).collect();
    let mut t = Table::new(&titles.iter().map(String::as_str).collect::<Vec<_>>());
    for w in workers.iter().filter(|w| !w.stage_cycles.is_empty()) {
        let cycles = w.stage_cycles.iter().map(|s| format!("{:.1}", s.cycles_per_packet));
        t.row(std::iter::once(w.id.to_string()).chain(cycles));
    }
    format!("\ncycles per packet by stage, sampled:\n{}", t.finish(""))
}

pub(super) fn uplinks(uplinks: &[UplinkStatus]) -> String {
    let mut out = String::new();
    for u in uplinks {
        if !out.is_empty() {
            out.push('\n');
        }
        out += &properties(&[
            ("uplink", u.name.clone()),
            ("device", format!("{} ({})", u.device, u.driver)),
            ("link", link(u.link_up, u.link_mbps)),
            ("MAC", u.mac.to_string()),
            ("address", u.address.clone()),
            ("gateway", u.gateway.map(|g| g.to_string()).unwrap_or_default()),
            ("MTU", u.mtu.to_string()),
            ("TAP", u.tap.clone()),
            ("rx queues", owners(&u.rx_queues)),
            ("tx queues", owners(&u.tx_queues)),
            (
                "device counters",
                format!(
                    "rx missed {}, rx errors {}, rx without mbuf {}, tx errors {}",
                    u.rx_missed, u.rx_errors, u.rx_nombuf, u.tx_errors
                ),
            ),
        ]);
    }
    if out.is_empty() { "no uplinks\n".to_owned() } else { out }
}

pub(super) fn ports(ports: &[PortStatus]) -> String {
    let mut t = Table::new(&["NAME", "BD", "TYPE", "LINK", ">QUEUES", "OWNER", "SOCKET OR DEVICE"]);
    for p in ports {
        let place = match &p.detail {
            PortDetail::VhostUser { socket, .. } => socket,
            PortDetail::Ethdev { device, .. } => device,
        };
        t.row([
            p.name.clone(),
            p.bd.clone(),
            p.detail.type_name().to_owned(),
            up(p.link_up).to_owned(),
            p.queues.to_string(),
            p.owner.to_string(),
            place.clone(),
        ]);
    }
    t.finish("no ports")
}

pub(super) fn port(p: &PortStatus) -> String {
    let mut lines = vec![
        ("port", p.name.clone()),
        ("bridge domain", p.bd.clone()),
        ("owner", p.owner.to_string()),
        ("type", p.detail.type_name().to_owned()),
    ];
    match &p.detail {
        PortDetail::VhostUser { socket, mode, packed, connected, features, rings_enabled } => {
            let rings: Vec<String> = rings_enabled.iter().map(u32::to_string).collect();
            lines.extend([
                ("socket", format!("{socket} ({mode} mode)")),
                ("packed rings", if *packed { "offered" } else { "not offered" }.to_owned()),
                ("link", up(p.link_up).to_owned()),
                ("guest", if *connected { "connected" } else { "not connected" }.to_owned()),
                ("features", format!("{features:#x}")),
                ("rings enabled", rings.join(" ")),
            ]);
        }
        PortDetail::Ethdev { device, driver, mac, link_mbps } => lines.extend([
            ("device", format!("{device} ({driver})")),
            ("link", link(p.link_up, *link_mbps)),
            ("MAC", mac.to_string()),
        ]),
    }
    lines.extend([
        ("MTU", if p.mtu == 0 { "unknown".to_owned() } else { p.mtu.to_string() }),
        ("queue pairs", p.queues.to_string()),
        ("rx queues", owners(&p.rx_queues)),
        ("tx queues", owners(&p.tx_queues)),
    ]);
    properties(&lines)
}

pub(super) fn bds(bds: &[BdStatus]) -> String {
    let mut t = Table::new(&["NAME", ">VNI", "INNER-VLAN", ">FDB", "OWNER", "PORTS", "VTEPS"]);
    for b in bds {
        t.row([
            b.name.clone(),
            b.vni.map_or("local".to_owned(), |vni| vni.get().to_string()),
            b.inner_vlan.to_string(),
            b.fdb_entries.to_string(),
            b.owner.to_string(),
            b.ports.join(","),
            b.vteps.join(","),
        ]);
    }
    t.finish("no bridge domains")
}

pub(super) fn vteps(vteps: &[VtepStatus]) -> String {
    let mut t = Table::new(&["NAME", "ADDRESS", "ENCAP", ">PORT", "NEXT HOP", "RESOLVED", "OWNER", "BDS"]);
    for v in vteps {
        t.row([
            v.name.clone(),
            v.address.to_string(),
            v.encap.to_string(),
            v.port.to_string(),
            v.next_hop.map(|hop| hop.to_string()).unwrap_or_default(),
            if v.resolved { "yes" } else { "no" }.to_owned(),
            v.owner.to_string(),
            v.bds.join(","),
        ]);
    }
    t.finish("no vteps")
}

pub(super) fn fdb(entries: &[FdbStatus]) -> String {
    let mut t = Table::new(&["BD", "MAC", "TO", "OWNER"]);
    for e in entries {
        t.row([e.bd.clone(), e.mac.to_string(), e.target.to_string(), e.owner.to_string()]);
    }
    t.finish("no entries")
}

pub(super) fn neighbours(neighbours: &[NeighbourStatus]) -> String {
    let mut t = Table::new(&["ADDRESS", "MAC", "STATE", ">AGE", ">WAITING", "UPLINK"]);
    for n in neighbours {
        t.row([
            n.ip.to_string(),
            n.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            n.state.to_string(),
            format!("{}s", n.age_seconds),
            n.queued.to_string(),
            n.uplink.clone(),
        ]);
    }
    t.finish("no neighbours")
}

pub(super) fn stats(s: &Stats) -> String {
    let b = &s.books;
    let mut out = String::new();
    let mut t =
        Table::new(&[">RECEIVED", ">REPLICAS", ">ORIGINATED", ">SENT", ">DROPPED", ">CONSUMED", ">HELD"]);
    let books = [b.received, b.replicas, b.originated, b.sent, b.dropped, b.consumed, b.held];
    t.row(books.map(|n| n.to_string()));
    out += &t.finish("");
    if b.imbalance() != 0 {
        out += &format!("not yet accounted for (in flight while counting): {}\n", b.imbalance());
    }
    out += &format!("\nmbufs: {} of {} in use\n", s.mempool.in_use, s.mempool.size);
    out += &fdb_table(&s.fdb);
    out += &format!("waiting for workers: {}\n\n", waiting(&s.waiting));
    let mut t = Table::new(&["PORT", ">RX PACKETS", ">RX BYTES", ">TX PACKETS", ">TX BYTES", ">DROPS"]);
    for p in &s.ports {
        let counts = [p.rx_packets, p.rx_bytes, p.tx_packets, p.tx_bytes, p.drops.values().sum()];
        t.row(std::iter::once(p.name.clone()).chain(counts.map(|n| n.to_string())));
    }
    out += &t.finish("no ports");
    out.push('\n');
    out += &workers(&s.workers);
    out.push('\n');
    out + &drops(&s.drops)
}

fn fdb_table(t: &FdbTableStats) -> String {
    format!(
        "fdb: {} entries, {:.0}% of {} places, {}, {} chained\n     \
         grown {}, shrunk {}, replaced {}, reseeded {} times; {} displacements, {} anomalies\n",
        grouped(t.entries),
        t.load_percent,
        grouped(t.places),
        bytes(t.bytes),
        grouped(t.chained_entries),
        t.grown,
        t.shrunk,
        t.replaced,
        t.reseeded,
        grouped(t.displacements),
        grouped(t.anomalies),
    )
}

fn waiting(w: &WaitingStats) -> String {
    if w.items == 0 {
        return "nothing".to_owned();
    }
    let (items, oldest) = (grouped(w.items), span(Duration::from_millis(w.oldest_milliseconds)));
    let word = if w.items == 1 { "item" } else { "items" };
    format!("{} in {items} {word}, oldest {oldest}", bytes(w.bytes))
}

pub(super) fn port_stats(p: &PortStats) -> String {
    let mut out = properties(&[
        ("port", p.name.clone()),
        ("rx", format!("{} packets, {} bytes", p.rx_packets, p.rx_bytes)),
        ("tx", format!("{} packets, {} bytes", p.tx_packets, p.tx_bytes)),
    ]);
    out.push('\n');
    out + &drops(&p.drops)
}

pub(super) fn drops(drops: &BTreeMap<String, u64>) -> String {
    let mut sorted: Vec<_> = drops.iter().filter(|(_, count)| **count > 0).collect();
    sorted.sort_by_key(|(reason, count)| (std::cmp::Reverse(**count), *reason));
    let mut t = Table::new(&["REASON", ">PACKETS"]);
    for (reason, count) in sorted {
        t.row([reason.clone(), count.to_string()]);
    }
    t.finish("no drops")
}

pub(super) fn reload(r: &ReloadReport) -> String {
    let mut out = changes(r);
    if out.is_empty() {
        out = format!("nothing changed ({} objects of the file are as they were)\n", r.unchanged);
    }
    out
}

pub(super) fn check(c: &CheckReport) -> String {
    let mut out: String = c.errors.iter().map(|error| format!("{error}\n")).collect();
    match (&c.would, c.errors.len()) {
        (_, n) if n > 0 => out += &format!("{}: {n} {}\n", c.file, if n == 1 { "error" } else { "errors" }),
        (Some(would), _) => {
            let changes = changes(would);
            out += &format!("{}: no errors\n", c.file);
            out += if changes.is_empty() {
                "a reload would change nothing\n"
            } else {
                "a reload would do this:\n"
            };
            out += &changes;
        }
        (None, _) => out += &format!("{}: no errors\n", c.file),
    }
    out
}

fn changes(r: &ReloadReport) -> String {
    let mut out = String::new();
    for (word, objects) in [("added", &r.added), ("changed", &r.changed), ("removed", &r.removed)] {
        for object in objects {
            out += &format!("{word} {object}\n");
        }
    }
    for setting in &r.needs_restart {
        out += &format!("needs a restart of weftd: {setting}\n");
    }
    out
}

/// `0 (worker 0), 1 (worker 1)`.
fn owners(queues: &[QueueOwner]) -> String {
    queues.iter().map(|q| format!("{} (worker {})", q.queue, q.worker)).collect::<Vec<_>>().join(", ")
}

fn up(up: bool) -> &'static str {
    if up { "up" } else { "down" }
}

fn link(is_up: bool, mbps: u32) -> String {
    match (is_up, mbps) {
        (true, 1..) => format!("up, {mbps} Mbit/s"),
        _ => up(is_up).to_owned(),
    }
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_at_a_glance() {
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(61), "1 min 1 s");
        assert_eq!(duration(3_600), "1 h 0 min");
        assert_eq!(duration(90_061), "1 d 1 h 1 min");
    }

    #[test]
    fn the_forwarding_table_is_read_at_a_glance() {
        let mut t = FdbTableStats {
            entries: 1_000_000,
            places: 1_310_720,
            load_percent: 76.29,
            bytes: 22_282_240,
            grown: 17,
            displacements: 61_234,
            ..FdbTableStats::default()
        };
        assert_eq!(
            fdb_table(&t),
            "fdb: 1,000,000 entries, 76% of 1,310,720 places, 22.3 MB, 0 chained\n     \
             grown 17, shrunk 0, replaced 0, reseeded 0 times; 61,234 displacements, 0 anomalies\n"
        );
        (t.chained_entries, t.reseeded, t.anomalies) = (9, 1, 1234);
        let text = fdb_table(&t);
        assert!(text.contains("9 chained") && text.contains("reseeded 1 times"), "{text}");
        assert!(text.contains("1,234 anomalies"), "{text}");
    }

    #[test]
    fn what_waits_is_said_only_if_something_does() {
        let mut w = WaitingStats::default();
        assert_eq!(waiting(&w), "nothing");
        w = WaitingStats { items: 2, bytes: 3_141_592, oldest_milliseconds: 12 };
        assert_eq!(waiting(&w), "3.1 MB in 2 items, oldest 12 ms");
        w = WaitingStats { items: 1, bytes: 200, oldest_milliseconds: 4_200 };
        assert_eq!(waiting(&w), "200 bytes in 1 item, oldest 4.2 s");
    }

    #[test]
    fn drops_come_in_order_and_without_zeroes() {
        let drops = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 7), ("c".to_owned(), 0)]);
        assert_eq!(super::drops(&drops), "REASON  PACKETS\nb             7\na             1\n");
        assert_eq!(super::drops(&BTreeMap::new()), "no drops\n");
    }
}
