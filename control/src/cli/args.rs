//! Arguments of weftctl.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};
use weft_wire::{Encap, MacAddr, Vni};

use crate::api::FdbBatch;
use crate::model::{InnerVlan, PortKind, VhostMode};
use crate::validate::range;

/// Show and change a running weftd.
#[derive(Debug, Parser)]
#[command(
    name = "weftctl",
    version,
    about = "Show and change a running weftd",
    after_help = "Exit codes: 0 done, 1 refused, 2 wrong usage, 3 weftd cannot be reached.\nWhat is added here has the owner 'api': a reload of the file does not touch it, a restart forgets it."
)]
pub(super) struct Args {
    /// API socket of weftd
    #[arg(long, global = true, value_name = "PATH", env = "WEFT_SOCKET", default_value = crate::model::DEFAULT_SOCKET)]
    pub socket: PathBuf,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Give up when weftd has not answered for so long
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show the daemon at a glance
    Status,
    /// Show the poll-mode workers and their queues
    #[command(subcommand)]
    Worker(ListOnly),
    /// Show the underlay interfaces
    #[command(subcommand)]
    Uplink(ListOnly),
    /// Show, add and remove local ports
    #[command(subcommand)]
    Port(PortVerb),
    /// Show, add, change and remove bridge domains
    #[command(subcommand)]
    Bd(BdVerb),
    /// Show, add and remove remote tunnel endpoints
    #[command(subcommand)]
    Vtep(VtepVerb),
    /// Show, add and remove forwarding entries
    #[command(subcommand)]
    Fdb(FdbVerb),
    /// Show what ARP knows of the underlay
    #[command(subcommand)]
    Neigh(ListOnly),
    /// Show counters
    Stats {
        /// Only this port or uplink
        #[arg(long, value_name = "NAME")]
        port: Option<String>,
    },
    /// Show dropped packets by reason
    Drops,
    /// Apply what changed in the configuration file
    Reload,
    /// Check a configuration file, or what a reload of weftd's own would do
    Check {
        /// File to check; no weftd is needed
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ListOnly {
    /// List all
    List,
}

#[derive(Debug, Subcommand)]
pub(super) enum PortVerb {
    /// List all
    List,
    /// Show everything about one
    Show { name: String },
    /// Add one and start to serve it
    Add(PortAdd),
    /// Remove one
    Del { name: String },
}

#[derive(Debug, ClapArgs)]
pub(super) struct PortAdd {
    /// Name, unique over ports and uplinks
    pub name: String,
    /// Bridge domain
    #[arg(long, value_name = "BD")]
    pub bd: String,
    #[command(flatten)]
    pub kind: PortAddKind,
    /// vhost-user: who listens, server (weftd) or client (QEMU)
    #[arg(long, value_name = "MODE", conflicts_with = "device")]
    pub mode: Option<VhostMode>,
    /// Queue pairs
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=PortKind::MAX_QUEUES as i64))]
    pub queues: u16,
    /// vhost-user: offer packed rings too
    #[arg(long, conflicts_with = "device")]
    pub packed: bool,
    /// ethdev: IP MTU
    #[arg(long, value_name = "BYTES", conflicts_with = "vhost_user")]
    pub mtu: Option<u16>,
}

#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = false)]
pub(super) struct PortAddKind {
    /// Serve a VM over this vhost-user socket
    #[arg(long, value_name = "PATH")]
    pub vhost_user: Option<PathBuf>,
    /// Use a DPDK device: PCI address or vdev arguments
    #[arg(long, value_name = "ARGS")]
    pub device: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum BdVerb {
    /// List all
    List,
    /// Add one
    Add {
        name: String,
        /// Number in tunnels; without it the bridge domain is local to this host
        #[arg(long, value_name = "N", value_parser = vni)]
        vni: Option<Vni>,
        /// Remote endpoint that takes part; may be given several times
        #[arg(long = "vtep", value_name = "VTEP")]
        vteps: Vec<String>,
        /// VLAN tags inside VXLAN: drop or keep
        #[arg(long, value_name = "POLICY", default_value_t)]
        inner_vlan: InnerVlan,
    },
    /// Change one; what is not named stays
    Set(BdSet),
    /// Remove an empty one
    Del { name: String },
}

#[derive(Debug, ClapArgs)]
pub(super) struct BdSet {
    pub name: String,
    #[command(flatten)]
    pub change: BdChange,
}

#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = true)]
pub(super) struct BdChange {
    /// New number in tunnels
    #[arg(long, value_name = "N", value_parser = vni)]
    pub vni: Option<Vni>,
    /// Take the number away
    #[arg(long, conflicts_with = "vni")]
    pub no_vni: bool,
    /// Remote endpoint that takes part; those given replace all that were there
    #[arg(long = "vtep", value_name = "VTEP")]
    pub vteps: Vec<String>,
    /// No remote endpoint takes part
    #[arg(long, conflicts_with = "vteps")]
    pub no_vteps: bool,
    /// VLAN tags inside VXLAN: drop or keep
    #[arg(long, value_name = "POLICY")]
    pub inner_vlan: Option<InnerVlan>,
}

#[derive(Debug, Subcommand)]
pub(super) enum VtepVerb {
    /// List all
    List,
    /// Add one
    Add {
        name: String,
        /// Underlay address
        #[arg(long, value_name = "IP")]
        address: Ipv4Addr,
        /// geneve or vxlan
        #[arg(long, value_name = "ENCAP", default_value_t = Encap::Geneve)]
        encap: Encap,
        /// UDP destination port [default: weftd's for this encapsulation]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
        port: Option<u16>,
    },
    /// Remove one that nothing uses
    Del { name: String },
}

#[derive(Debug, Subcommand)]
pub(super) enum FdbVerb {
    /// List all
    List {
        /// Only this bridge domain
        #[arg(long, value_name = "BD")]
        bd: Option<String>,
    },
    /// Add a static entry
    Add {
        /// Destination address
        mac: MacAddr,
        /// Bridge domain
        #[arg(long, value_name = "BD")]
        bd: String,
        #[command(flatten)]
        target: FdbTargetArg,
    },
    /// Remove a static entry
    Del {
        /// Destination address
        mac: MacAddr,
        /// Bridge domain
        #[arg(long, value_name = "BD")]
        bd: String,
    },
    /// Apply many changes, from a file or as another program writes them
    #[command(after_help = "Lines:\n  \
        add BD MAC vtep NAME   frames for MAC go to this remote endpoint, whether there was an entry or not\n  \
        add BD MAC port NAME   ... to this local port\n  \
        del BD MAC             there is no entry, whether there was one or not\n\
        What follows a # is a comment. A file is checked before anything is changed. Each batch is applied whole or not\n\
        at all; the first one that weftd refuses ends it, and those before stay in force. A run can be repeated.")]
    Apply(FdbApply),
}

#[derive(Debug, ClapArgs)]
pub(super) struct FdbApply {
    /// File with a change a line; -: standard input, each change sent as it comes
    pub file: PathBuf,
    /// Changes that are applied together at most
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=FdbBatch::MOST as i64))]
    pub batch: u32,
    /// Print the number of the last line that is in force, after each batch
    #[arg(long)]
    pub ack: bool,
}

#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = false)]
pub(super) struct FdbTargetArg {
    /// To this local port
    #[arg(long, value_name = "PORT")]
    pub port: Option<String>,
    /// To this remote endpoint
    #[arg(long, value_name = "VTEP")]
    pub vtep: Option<String>,
}

fn vni(text: &str) -> Result<Vni, String> {
    let range = || format!("allowed: {} to {}", range::VNI.start(), range::VNI.end());
    let number: u32 = text.parse().map_err(|_| range())?;
    Vni::new(number).ok_or_else(range)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn arguments_are_consistent() {
        super::Args::command().debug_assert();
    }
}
