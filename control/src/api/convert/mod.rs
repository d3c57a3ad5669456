//! Between the plain types and the messages on the wire.
//!
//! Answers of weftd are read back by the client into the same plain types; what does not read is an [`Unclear`]
//! answer, which means that client and daemon are of different versions.
//!
//! | file | holds |
//! |---|---|
//! | [`batch`] | batches of changes of forwarding entries, and what became of them |
//! | [`objects`] | requests that make, change and remove objects |
//! | [`status`] | answers: status, counters, reports |
//! | here | what both need: errors, enums |

mod batch;
mod objects;
mod status;

use std::str::FromStr;

use thiserror::Error;

use super::proto;
use crate::model::{InnerVlan, Owner, VhostMode};
use crate::status as plain;

pub(super) use batch::{read_fdb_batch, read_fdb_result, write_fdb_batch, write_fdb_result};
pub(super) use objects::{
    read_bd, read_bd_update, read_fdb_entries, read_fdb_keys, read_port, read_vtep, write_bd,
    write_bd_update, write_fdb_entry, write_fdb_key, write_port, write_vtep,
};

/// A part of an answer that this version does not understand.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("weftd's answer is not understood ({0}): are weftd and weftctl of the same version?")]
pub struct Unclear(&'static str);

type Read<T> = Result<T, Unclear>;

fn read<T: FromStr>(text: &str, what: &'static str) -> Read<T> {
    text.parse().map_err(|_| Unclear(what))
}

fn read_optional<T: FromStr>(text: &str, what: &'static str) -> Read<Option<T>> {
    if text.is_empty() { Ok(None) } else { read(text, what).map(Some) }
}

fn read_all<P, T>(list: Vec<P>, one: impl Fn(P) -> Read<T>) -> Read<Vec<T>> {
    list.into_iter().map(one).collect()
}

fn write_optional<T: ToString>(value: Option<T>) -> String {
    value.map(|v| v.to_string()).unwrap_or_default()
}

/// Reads a list of answers.
pub(super) fn list<P, T: TryFrom<P, Error = Unclear>>(list: Vec<P>) -> Read<Vec<T>> {
    read_all(list, T::try_from)
}

// ---- enums ----

impl From<Owner> for proto::Owner {
    fn from(owner: Owner) -> Self {
        match owner {
            Owner::File => proto::Owner::File,
            Owner::Api => proto::Owner::Api,
        }
    }
}

fn read_owner(owner: i32) -> Read<Owner> {
    match proto::Owner::try_from(owner) {
        Ok(proto::Owner::File) => Ok(Owner::File),
        Ok(proto::Owner::Api) => Ok(Owner::Api),
        _ => Err(Unclear("owner")),
    }
}

impl From<VhostMode> for proto::VhostMode {
    fn from(mode: VhostMode) -> Self {
        match mode {
            VhostMode::Server => proto::VhostMode::Server,
            VhostMode::Client => proto::VhostMode::Client,
        }
    }
}

fn read_mode(mode: i32) -> Option<VhostMode> {
    match proto::VhostMode::try_from(mode).ok()? {
        proto::VhostMode::Unspecified | proto::VhostMode::Server => Some(VhostMode::Server),
        proto::VhostMode::Client => Some(VhostMode::Client),
    }
}

impl From<InnerVlan> for proto::InnerVlan {
    fn from(policy: InnerVlan) -> Self {
        match policy {
            InnerVlan::Drop => proto::InnerVlan::Drop,
            InnerVlan::Keep => proto::InnerVlan::Keep,
        }
    }
}

/// `Ok(None)`: unspecified.
fn read_inner_vlan(policy: i32) -> Result<Option<InnerVlan>, ()> {
    match proto::InnerVlan::try_from(policy) {
        Ok(proto::InnerVlan::Unspecified) => Ok(None),
        Ok(proto::InnerVlan::Drop) => Ok(Some(InnerVlan::Drop)),
        Ok(proto::InnerVlan::Keep) => Ok(Some(InnerVlan::Keep)),
        Err(_) => Err(()),
    }
}

impl From<plain::NeighbourState> for proto::NeighbourState {
    fn from(state: plain::NeighbourState) -> Self {
        match state {
            plain::NeighbourState::Incomplete => proto::NeighbourState::Incomplete,
            plain::NeighbourState::Reachable => proto::NeighbourState::Reachable,
            plain::NeighbourState::Stale => proto::NeighbourState::Stale,
            plain::NeighbourState::Probe => proto::NeighbourState::Probe,
            plain::NeighbourState::Failed => proto::NeighbourState::Failed,
        }
    }
}

fn read_neighbour_state(state: i32) -> Read<plain::NeighbourState> {
    match proto::NeighbourState::try_from(state) {
        Ok(proto::NeighbourState::Incomplete) => Ok(plain::NeighbourState::Incomplete),
        Ok(proto::NeighbourState::Reachable) => Ok(plain::NeighbourState::Reachable),
        Ok(proto::NeighbourState::Stale) => Ok(plain::NeighbourState::Stale),
        Ok(proto::NeighbourState::Probe) => Ok(plain::NeighbourState::Probe),
        Ok(proto::NeighbourState::Failed) => Ok(plain::NeighbourState::Failed),
        _ => Err(Unclear("neighbour state")),
    }
}
