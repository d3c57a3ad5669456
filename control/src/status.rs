//! What weftd tells about itself: plain data, the same words in JSON, on the API and in tables.
//!
//! Field names are part of the interface: scripts read them from `weftctl --json`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::Serialize;
use weft_wire::{Encap, MacAddr, Vni};

use crate::model::{FdbTarget, InnerVlan, Owner, VhostMode};

/// The daemon at a glance.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Status {
    /// weftd's version.
    pub version: String,
    /// DPDK's version as the library reports it: `DPDK 22.11.11`.
    pub dpdk_version: String,
    /// Process id of weftd.
    pub pid: u32,
    /// Seconds since start.
    pub uptime_seconds: u64,
    /// The configuration file in use.
    pub config_file: String,
    /// Times the file was applied again.
    pub reloads: u64,
    /// Number of workers.
    pub workers: u32,
    /// Number of uplinks.
    pub uplinks: u32,
    /// Number of local ports.
    pub ports: u32,
    /// Number of bridge domains.
    pub bds: u32,
    /// Number of remote endpoints.
    pub vteps: u32,
    /// Number of FDB entries.
    pub fdb_entries: u64,
    /// What needs attention now, in plain sentences (a stalled worker, a port waiting for memory).
    pub alarms: Vec<String>,
}

/// One poll-mode worker.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct WorkerStatus {
    /// Number, from 0.
    pub id: u32,
    /// Core it is pinned to.
    pub core: u32,
    /// NUMA node of that core; -1 if unknown.
    pub numa: i32,
    /// Rounds of its loop since start.
    pub loops: u64,
    /// Share of its cycles, since the last request or over the last second, spent on rounds that moved packets.
    pub busy_percent: f64,
    /// Cycles per packet over the same time; 0 without packets.
    pub cycles_per_packet: f64,
    /// Whether it sleeps now for want of work.
    pub idle: bool,
    /// Queues it owns, as `PORT:rx0`, `PORT:tx0`.
    pub queues: Vec<String>,
    /// Cycles by stage over the same time, in the order of the path; empty unless `[workers] stage_timing` is on and packets
    /// came.
    pub stage_cycles: Vec<StageCycles>,
}

/// What one stage of a worker's packet path takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct StageCycles {
    /// `rx`, `enter` (admission or decapsulation), `lookup`, `dispatch` (with encapsulation), `tx`.
    pub stage: String,
    /// TSC cycles for each packet of the sampled rounds.
    pub cycles_per_packet: f64,
}

/// One queue of an uplink and its owner.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct QueueOwner {
    /// Queue number.
    pub queue: u32,
    /// Number of the worker that owns it.
    pub worker: u32,
}

/// One uplink.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UplinkStatus {
    /// Name.
    pub name: String,
    /// Device as configured.
    pub device: String,
    /// DPDK driver that serves it.
    pub driver: String,
    /// MAC address in use.
    pub mac: MacAddr,
    /// VTEP address with prefix length.
    pub address: String,
    /// Gateway.
    pub gateway: Option<Ipv4Addr>,
    /// IP MTU in bytes.
    pub mtu: u32,
    /// Link is up.
    pub link_up: bool,
    /// Speed of the link in Mbit/s; 0 if unknown.
    pub link_mbps: u32,
    /// Receive queues and who polls each.
    pub rx_queues: Vec<QueueOwner>,
    /// Transmit queues and who fills each.
    pub tx_queues: Vec<QueueOwner>,
    /// Name of the TAP to the kernel; empty: none.
    pub tap: String,
    /// Device's count of frames it had no descriptor for.
    pub rx_missed: u64,
    /// Device's count of broken frames received.
    pub rx_errors: u64,
    /// Device's count of receptions that failed for want of mbufs.
    pub rx_nombuf: u64,
    /// Device's count of failed transmissions.
    pub tx_errors: u64,
}

/// One local port.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PortStatus {
    /// Name.
    pub name: String,
    /// Bridge domain.
    pub bd: String,
    /// Who made it.
    pub owner: Owner,
    /// Frames reach it: its device's link is up, or its guest is connected with a ring enabled.
    pub link_up: bool,
    /// Queue pairs configured.
    pub queues: u32,
    /// MTU of its guest or device in bytes; 0 if unknown.
    pub mtu: u32,
    /// Receive queues (weft receives from them) and who polls each.
    pub rx_queues: Vec<QueueOwner>,
    /// Transmit queues and who fills each.
    pub tx_queues: Vec<QueueOwner>,
    /// What depends on the kind of port.
    #[serde(flatten)]
    pub detail: PortDetail,
}

/// The part of a port's status that depends on its kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum PortDetail {
    /// A vhost-user port.
    VhostUser {
        /// Socket path.
        socket: String,
        /// Who listens.
        mode: VhostMode,
        /// Packed rings are offered.
        packed: bool,
        /// A guest is connected.
        connected: bool,
        /// Negotiated virtio feature word, as `0x...`; `0x0` until negotiated.
        #[serde(serialize_with = "hex")]
        features: u64,
        /// Rings the guest has enabled, by vring number (even: guest receives, odd: guest sends).
        rings_enabled: Vec<u32>,
    },
    /// A DPDK device.
    Ethdev {
        /// Device as configured.
        device: String,
        /// DPDK driver that serves it.
        driver: String,
        /// Its MAC address.
        mac: MacAddr,
        /// Speed of the link in Mbit/s; 0 if unknown.
        link_mbps: u32,
    },
}

impl PortDetail {
    /// The word that stands for this kind in the file and on the API.
    pub fn type_name(&self) -> &'static str {
        match self {
            PortDetail::VhostUser { .. } => "vhost-user",
            PortDetail::Ethdev { .. } => "ethdev",
        }
    }
}

/// JSON has no 64-bit integers that every reader keeps exactly, and people read feature words in hex.
fn hex<S: serde::Serializer>(value: &u64, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&format_args!("{value:#x}"))
}

/// One bridge domain.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BdStatus {
    /// Name.
    pub name: String,
    /// VNI, if it reaches beyond this host.
    pub vni: Option<Vni>,
    /// Inner VLAN policy.
    pub inner_vlan: InnerVlan,
    /// Remote endpoints in it.
    pub vteps: Vec<String>,
    /// Local ports in it.
    pub ports: Vec<String>,
    /// FDB entries in it.
    pub fdb_entries: u64,
    /// Who made it.
    pub owner: Owner,
}

/// One remote endpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VtepStatus {
    /// Name.
    pub name: String,
    /// Underlay address.
    pub address: Ipv4Addr,
    /// Encapsulation.
    pub encap: Encap,
    /// UDP destination port in use.
    pub port: u16,
    /// Address of the next hop on the underlay (the endpoint itself or the gateway).
    pub next_hop: Option<Ipv4Addr>,
    /// The next hop's MAC is known, so that frames leave at once.
    pub resolved: bool,
    /// Bridge domains it takes part in.
    pub bds: Vec<String>,
    /// Who made it.
    pub owner: Owner,
}

/// One forwarding entry.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FdbStatus {
    /// Bridge domain.
    pub bd: String,
    /// Destination address.
    pub mac: MacAddr,
    /// Where it leads.
    #[serde(flatten)]
    pub target: FdbTarget,
    /// Who made it.
    pub owner: Owner,
}

/// One neighbour on the underlay.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NeighbourStatus {
    /// Uplink it is reached by.
    pub uplink: String,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its MAC, once known.
    pub mac: Option<MacAddr>,
    /// How sure we are.
    pub state: NeighbourState,
    /// Seconds since it was last confirmed (since the first request while incomplete).
    pub age_seconds: u64,
    /// Packets that wait for it.
    pub queued: u32,
}

/// State of a neighbour entry, in the words of RFC 4861 that Linux uses for ARP too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NeighbourState {
    /// Asked, no answer yet.
    Incomplete,
    /// Confirmed lately.
    Reachable,
    /// Known, not confirmed lately.
    Stale,
    /// Known, being asked again.
    Probe,
    /// Did not answer.
    Failed,
}

impl std::fmt::Display for NeighbourState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            NeighbourState::Incomplete => "incomplete",
            NeighbourState::Reachable => "reachable",
            NeighbourState::Stale => "stale",
            NeighbourState::Probe => "probe",
            NeighbourState::Failed => "failed",
        })
    }
}

/// Counters of the whole daemon.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Stats {
    /// The packet balance.
    pub books: Books,
    /// Drops by reason (kebab-case); reasons that never occurred may be left out.
    pub drops: BTreeMap<String, u64>,
    /// Per local port and per uplink.
    pub ports: Vec<PortStats>,
    /// Per worker.
    pub workers: Vec<WorkerStatus>,
    /// The packet buffers.
    pub mempool: MempoolStats,
    /// The forwarding table.
    pub fdb: FdbTableStats,
    /// Memory that waits for workers.
    pub waiting: WaitingStats,
}

/// Where every packet went: `received + replicas + originated = sent + dropped + consumed + held`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Books {
    /// Taken from ports, uplinks and the TAP.
    pub received: u64,
    /// Further copies made for flooding.
    pub replicas: u64,
    /// Made by weft itself (ARP, ICMP answers).
    pub originated: u64,
    /// Handed to a port, an uplink or the TAP.
    pub sent: u64,
    /// Sum of all drops.
    pub dropped: u64,
    /// Used up by weft itself (ARP and ICMP for its own address).
    pub consumed: u64,
    /// In weft at the moment: waiting for ARP, staged, on a ring between workers.
    pub held: u64,
}

impl Books {
    /// What came in minus what is accounted for: 0 when the books balance. A sample taken while packets flow may
    /// be off by what is in flight between two counters.
    pub fn imbalance(&self) -> i128 {
        let inward = i128::from(self.received) + i128::from(self.replicas) + i128::from(self.originated);
        let outward = i128::from(self.sent)
            + i128::from(self.dropped)
            + i128::from(self.consumed)
            + i128::from(self.held);
        inward - outward
    }
}

/// Counters of one port or uplink, as weft sees it: rx is what weft received from it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct PortStats {
    /// Name of the port or uplink.
    pub name: String,
    /// Packets received from it.
    pub rx_packets: u64,
    /// Bytes received from it.
    pub rx_bytes: u64,
    /// Packets sent to it.
    pub tx_packets: u64,
    /// Bytes sent to it.
    pub tx_bytes: u64,
    /// Drops charged to it, by reason.
    pub drops: BTreeMap<String, u64>,
}

/// Use of the packet buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct MempoolStats {
    /// Buffers in the pool.
    pub size: u64,
    /// Buffers that are out: in rings, in descriptors, in caches of workers, held.
    pub in_use: u64,
}

/// The forwarding table, a cuckoo hash table of buckets. Counts are since the start.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct FdbTableStats {
    /// Entries in it.
    pub entries: u64,
    /// Places for entries that it has now.
    pub places: u64,
    /// Entries per place, in percent: it grows at 83 (at 75 while it is small).
    pub load_percent: f64,
    /// Memory that it takes.
    pub bytes: u64,
    /// Entries that found no place in either of their buckets and lie in an overflow chain: more than a few mean keys
    /// with equal hashes, or no memory to grow.
    pub chained_entries: u64,
    /// Entries moved to their other bucket to make place for another one.
    pub displacements: u64,
    /// Times it grew.
    pub grown: u64,
    /// Times it shrank.
    pub shrunk: u64,
    /// Times its whole contents were replaced at once.
    pub replaced: u64,
    /// Times it took another hash seed, because too many entries were chained.
    pub reseeded: u64,
    /// Entries that had to be chained.
    pub anomalies: u64,
}

/// What changes replaced, and workers may still be reading: it is freed when each has finished a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct WaitingStats {
    /// Things that wait: snapshots of the tables, next hops, forwarding tables.
    pub items: u64,
    /// Memory that they take.
    pub bytes: u64,
    /// For how long the oldest of them has waited; 0 if nothing waits. Above a few milliseconds a worker is stalled.
    pub oldest_milliseconds: u64,
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ReloadReport {
    /// Objects made, as `port vm1`.
    pub added: Vec<String>,
    /// Objects changed in place.
    pub changed: Vec<String>,
    /// Objects taken away.
    pub removed: Vec<String>,
    /// Objects of the file that stayed as they were.
    pub unchanged: u64,
    /// Settings that differ from the running ones and wait for a restart, as `workers.cores`.
    pub needs_restart: Vec<String>,
}

/// What a check of the file on weftd's side found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct CheckReport {
    /// The file that was read.
    pub file: String,
    /// Every error, ready to print (`FILE:LINE:COLUMN: error: ...`); empty: the file is good.
    pub errors: Vec<String>,
    /// What a reload would do now; absent when there are errors.
    pub would: Option<ReloadReport>,
}
