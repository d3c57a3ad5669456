//! The desired state of one weftd: what the configuration file and the API both produce.
//!
//! Plain data and nothing else. Whether it makes sense is [`crate::validate`]'s question, how it is written in a
//! file is [`crate::config`]'s, and what becomes of it is the engine's. Names tie the objects together: a port names
//! its bridge domain, a bridge domain names its VTEPs, an FDB entry names all three.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use weft_wire::{Encap, MacAddr, Vni};

/// The desired state: settings that hold until a restart, and objects that come and go.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Model {
    /// What only a restart of weftd changes.
    pub settings: Settings,
    /// What a reload of the file and the API change while traffic flows.
    pub objects: Objects,
    /// Static forwarding entries. Apart from the objects: there may be millions, and they change one by one.
    pub fdb: Vec<FdbEntry>,
}

/// Everything that is fixed for the life of the process.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Settings {
    /// The process: API socket, logging.
    pub daemon: Daemon,
    /// DPDK's environment: memory, hugepages.
    pub dpdk: Dpdk,
    /// The poll-mode workers.
    pub workers: Workers,
    /// Defaults for encapsulation.
    pub tunnel: Tunnel,
    /// The underlay interfaces; exactly one for now.
    pub uplinks: Vec<Uplink>,
}

/// The objects of the overlay, each owned by the file or by the API.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Objects {
    /// Remote tunnel endpoints.
    pub vteps: Vec<Vtep>,
    /// Bridge domains (tenant networks).
    pub bds: Vec<Bd>,
    /// Local ports: VMs and other attached devices.
    pub ports: Vec<Port>,
}

impl Objects {
    /// The remote endpoint of this name.
    pub fn vtep(&self, name: &str) -> Option<&Vtep> {
        self.vteps.iter().find(|v| v.name == name)
    }

    /// The bridge domain of this name.
    pub fn bd(&self, name: &str) -> Option<&Bd> {
        self.bds.iter().find(|b| b.name == name)
    }

    /// The local port of this name.
    pub fn port(&self, name: &str) -> Option<&Port> {
        self.ports.iter().find(|p| p.name == name)
    }

    /// The part of these objects that `owner` made, in the same order.
    pub fn owned_by(&self, owner: Owner) -> Objects {
        Objects {
            vteps: self.vteps.iter().filter(|o| o.owner == owner).cloned().collect(),
            bds: self.bds.iter().filter(|o| o.owner == owner).cloned().collect(),
            ports: self.ports.iter().filter(|o| o.owner == owner).cloned().collect(),
        }
    }

    /// Appends all objects of `other`; says nothing about duplicates, which validation finds.
    pub fn extend(&mut self, other: Objects) {
        self.vteps.extend(other.vteps);
        self.bds.extend(other.bds);
        self.ports.extend(other.ports);
    }
}

/// Who made an object. A reload of the file touches only what the file made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// The configuration file.
    #[default]
    File,
    /// A request on the API (weftctl or another client).
    Api,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Owner::File => "file",
            Owner::Api => "api",
        })
    }
}

/// `[daemon]`: the process itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// Unix socket of the API.
    pub socket: PathBuf,
    /// Least severe log level that is written.
    pub log: LogLevel,
}

impl Default for Daemon {
    fn default() -> Self {
        Daemon { socket: PathBuf::from(DEFAULT_SOCKET), log: LogLevel::Info }
    }
}

/// Where weftd listens and weftctl looks unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/weft/weftd.sock";

/// Severity of log lines, in the usual order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something is wrong but weftd goes on.
    Warn,
    /// What an operator wants to see in a day's log.
    #[default]
    Info,
    /// What a developer wants to see.
    Debug,
    /// Everything.
    Trace,
}

/// `[dpdk]`: what EAL is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dpdk {
    /// Memory for mbufs and DPDK's own structures, in MiB.
    pub memory_mb: u32,
    /// Use hugepages; `false` is for tests and trials only.
    pub hugepages: bool,
    /// Name that separates this process's DPDK files from those of others on the host.
    pub file_prefix: String,
    /// Packet buffers for each queue that receives; 0 is weftd's own choice.
    pub queue_mbufs: u32,
    /// Further EAL arguments, given as they are.
    pub extra_args: Vec<String>,
}

impl Default for Dpdk {
    fn default() -> Self {
        Dpdk {
            memory_mb: 1024,
            hugepages: true,
            file_prefix: "weft".to_owned(),
            queue_mbufs: 0,
            extra_args: Vec::new(),
        }
    }
}

/// `[workers]`: the pinned poll-mode threads.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Workers {
    /// One worker per core, ascending and without repeats. `None`: every core of the affinity mask but the first
    /// (the only one if there is but one).
    pub cores: Option<Vec<usize>>,
    /// What a worker does when there is nothing to do.
    pub idle: Idle,
    /// Whether workers sample how many cycles each stage of the packet path takes.
    pub stage_timing: bool,
}

/// What a worker does when its queues are empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Idle {
    /// Sleep ever longer, reporting itself offline first.
    #[default]
    Backoff,
    /// Poll on: lowest latency, one core at 100 %.
    Poll,
}

/// `[tunnel]`: defaults for encapsulation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// UDP port on which VXLAN is received, and the default it is sent to.
    pub vxlan_port: u16,
    /// UDP port on which GENEVE is received, and the default it is sent to.
    pub geneve_port: u16,
    /// TTL of the outer IPv4 header.
    pub ttl: u8,
    /// Set the don't-fragment bit of the outer header.
    pub df: bool,
    /// DSCP of the outer header.
    pub dscp: Dscp,
}

impl Default for Tunnel {
    fn default() -> Self {
        Tunnel {
            vxlan_port: Encap::Vxlan.default_port(),
            geneve_port: Encap::Geneve.default_port(),
            ttl: 64,
            df: true,
            dscp: Dscp::Fixed(0),
        }
    }
}

impl Tunnel {
    /// The UDP port of this encapsulation on our side.
    pub fn port_of(&self, encap: Encap) -> u16 {
        match encap {
            Encap::Vxlan => self.vxlan_port,
            Encap::Geneve => self.geneve_port,
        }
    }
}

/// DSCP of the outer header: a number or what the inner packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dscp {
    /// Always this value, 0 to 63.
    Fixed(u8),
    /// Copy from the inner IP header (0 when there is none).
    Inherit,
}

/// `[[uplink]]`: one interface to the underlay and the VTEP address on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplink {
    /// Unique name.
    pub name: String,
    /// PCI address (`0000:01:00.0`) or vdev arguments (`net_af_packet0,iface=eth1`).
    pub device: String,
    /// Our VTEP address with the prefix length of its subnet; host bits are kept.
    pub address: Ipv4Net,
    /// Next hop for VTEPs outside the subnet.
    pub gateway: Option<Ipv4Addr>,
    /// Source MAC; `None`: the device's own.
    pub mac: Option<MacAddr>,
    /// IP MTU of the underlay, in bytes (without the Ethernet header).
    pub mtu: u16,
    /// Receive queues; 0: one per worker.
    pub rx_queues: u16,
    /// Name of the kernel TAP that gets what is not weft's; empty: none.
    pub tap: String,
    /// Most packets per second that go to the kernel over the TAP.
    pub exception_pps: u32,
}

impl Uplink {
    /// IP MTU when the file names none: an inner frame of full 1500-byte MTU with its outer headers fits.
    pub const DEFAULT_MTU: u16 = 1600;
    /// Exception rate when the file names none, in packets per second.
    pub const DEFAULT_EXCEPTION_PPS: u32 = 10_000;
}

/// `[[vtep]]`: one remote tunnel endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vtep {
    /// Unique name.
    pub name: String,
    /// Its underlay address.
    pub address: Ipv4Addr,
    /// How frames to it are wrapped.
    pub encap: Encap,
    /// UDP destination port; `None`: `[tunnel]`'s for this encapsulation.
    pub port: Option<u16>,
    /// Who made it.
    #[serde(default)]
    pub owner: Owner,
}

/// `[[bd]]`: one bridge domain, that is one tenant network on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bd {
    /// Unique name.
    pub name: String,
    /// Its number in tunnels; `None`: a switch local to this host.
    pub vni: Option<Vni>,
    /// Names of the remote endpoints that take part; broadcast, multicast and unknown unicast go to each.
    pub vteps: Vec<String>,
    /// What becomes of an inner VLAN tag that arrives in VXLAN.
    pub inner_vlan: InnerVlan,
    /// Who made it.
    #[serde(default)]
    pub owner: Owner,
}

/// What a bridge domain does with a VLAN-tagged inner frame over VXLAN (RFC 7348 section 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InnerVlan {
    /// Drop it: the RFC's default.
    #[default]
    Drop,
    /// Carry it.
    Keep,
}

/// `[[port]]`: one local port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Unique name.
    pub name: String,
    /// Name of the bridge domain it belongs to.
    pub bd: String,
    /// How bytes move.
    #[serde(flatten)]
    pub kind: PortKind,
    /// Who made it.
    #[serde(default)]
    pub owner: Owner,
}

/// What a port is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum PortKind {
    /// A virtio device of a VM, over a vhost-user socket.
    VhostUser {
        /// The Unix socket.
        socket: PathBuf,
        /// Who listens on it.
        mode: VhostMode,
        /// Queue pairs offered to the guest.
        queues: u16,
        /// Offer packed rings too.
        packed: bool,
    },
    /// Any DPDK ethernet device.
    Ethdev {
        /// PCI address or vdev arguments.
        device: String,
        /// Receive and transmit queues asked for.
        queues: u16,
        /// IP MTU in bytes.
        mtu: u16,
    },
}

impl PortKind {
    /// MTU of an ethdev port when none is given.
    pub const DEFAULT_MTU: u16 = 1500;
    /// Most queue pairs of one port.
    pub const MAX_QUEUES: u16 = 8;

    /// The word that stands for this kind in the file and on the API.
    pub fn type_name(&self) -> &'static str {
        match self {
            PortKind::VhostUser { .. } => "vhost-user",
            PortKind::Ethdev { .. } => "ethdev",
        }
    }

    /// Queue pairs asked for.
    pub fn queues(&self) -> u16 {
        match self {
            PortKind::VhostUser { queues, .. } | PortKind::Ethdev { queues, .. } => *queues,
        }
    }
}

/// Who listens on a vhost-user socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VhostMode {
    /// weftd listens, QEMU connects.
    #[default]
    Server,
    /// QEMU listens, weftd connects and reconnects.
    Client,
}

impl fmt::Display for VhostMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            VhostMode::Server => "server",
            VhostMode::Client => "client",
        })
    }
}

impl FromStr for VhostMode {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "server" => Ok(VhostMode::Server),
            "client" => Ok(VhostMode::Client),
            _ => Err(format!("\"{s}\" is neither \"server\" nor \"client\"")),
        }
    }
}

impl fmt::Display for InnerVlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            InnerVlan::Drop => "drop",
            InnerVlan::Keep => "keep",
        })
    }
}

impl FromStr for InnerVlan {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "drop" => Ok(InnerVlan::Drop),
            "keep" => Ok(InnerVlan::Keep),
            _ => Err(format!("\"{s}\" is neither \"drop\" nor \"keep\"")),
        }
    }
}

/// `[[fdb]]`: one static forwarding entry. Its key is (bd, mac).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdbEntry {
    /// Name of the bridge domain.
    pub bd: String,
    /// Unicast destination address.
    pub mac: MacAddr,
    /// Where frames for it go.
    #[serde(flatten)]
    pub target: FdbTarget,
    /// Who made it.
    #[serde(default)]
    pub owner: Owner,
}

/// Where an FDB entry leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FdbTarget {
    /// A local port, by name.
    Port(String),
    /// A remote endpoint, by name.
    Vtep(String),
}

impl fmt::Display for FdbTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FdbTarget::Port(name) => write!(f, "port {name}"),
            FdbTarget::Vtep(name) => write!(f, "vtep {name}"),
        }
    }
}

/// A change to a bridge domain: `None` leaves a property as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BdUpdate {
    /// `Some(None)` takes the VNI away.
    pub vni: Option<Option<Vni>>,
    /// The whole new list.
    pub vteps: Option<Vec<String>>,
    /// The new policy.
    pub inner_vlan: Option<InnerVlan>,
}

impl BdUpdate {
    /// Applies the change to `bd`.
    pub fn apply(&self, bd: &mut Bd) {
        if let Some(vni) = self.vni {
            bd.vni = vni;
        }
        if let Some(vteps) = &self.vteps {
            bd.vteps.clone_from(vteps);
        }
        if let Some(inner_vlan) = self.inner_vlan {
            bd.inner_vlan = inner_vlan;
        }
    }
}
