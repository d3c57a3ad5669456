//! What the API server needs of the daemon.

use super::{ApiError, FdbApplied, FdbBatch, FdbList, FdbRefusal};
use crate::model::{Bd, BdUpdate, Port, Vtep};
use crate::status::{
    BdStatus, CheckReport, NeighbourStatus, PortStatus, ReloadReport, Stats, Status, UplinkStatus,
    VtepStatus, WorkerStatus,
};

/// Result of a backend call.
pub type ApiResult<T> = Result<T, ApiError>;

/// The daemon as the API server sees it.
///
/// Calls come from blocking threads, several at a time; each may take as long as it needs (a grace period, a device
/// being opened). A change returns once it is in force in every worker. Changes are all or nothing: a batch with one
/// bad entry changes nothing. Requests arrive well-formed (types, ranges) but not validated against the model:
/// [`crate::validate::validate`] on the model that would result is the backend's part, and
/// [`ApiError::from_findings`] turns what it finds into the answer.
///
/// Objects made through these calls have [`Owner::Api`](crate::model::Owner::Api); the server sets it.
pub trait Backend: Send + Sync + 'static {
    /// The daemon at a glance.
    fn status(&self) -> ApiResult<Status>;
    /// All workers.
    fn workers(&self) -> ApiResult<Vec<WorkerStatus>>;
    /// All uplinks.
    fn uplinks(&self) -> ApiResult<Vec<UplinkStatus>>;
    /// All local ports.
    fn ports(&self) -> ApiResult<Vec<PortStatus>>;
    /// All bridge domains.
    fn bds(&self) -> ApiResult<Vec<BdStatus>>;
    /// All remote endpoints.
    fn vteps(&self) -> ApiResult<Vec<VtepStatus>>;
    /// FDB entries, of one bridge domain if `bd` is given (`NotFound` if there is none of that name), as they were at
    /// the moment of the call.
    fn fdb(&self, bd: Option<&str>) -> ApiResult<FdbList>;
    /// Neighbours on the underlay.
    fn neighbours(&self) -> ApiResult<Vec<NeighbourStatus>>;
    /// All counters.
    fn stats(&self) -> ApiResult<Stats>;

    /// Makes a port. `AlreadyExists` if the name is taken.
    fn add_port(&self, port: Port) -> ApiResult<()>;
    /// Removes a port. `Precondition` while FDB entries of the file point to it, or if the file owns it.
    fn remove_port(&self, name: &str) -> ApiResult<()>;
    /// Makes a bridge domain.
    fn add_bd(&self, bd: Bd) -> ApiResult<()>;
    /// Changes a bridge domain.
    fn update_bd(&self, name: &str, update: BdUpdate) -> ApiResult<()>;
    /// Removes a bridge domain. `Precondition` while ports or FDB entries are in it.
    fn remove_bd(&self, name: &str) -> ApiResult<()>;
    /// Makes a remote endpoint.
    fn add_vtep(&self, vtep: Vtep) -> ApiResult<()>;
    /// Removes a remote endpoint. `Precondition` while a bridge domain or FDB entry names it.
    fn remove_vtep(&self, name: &str) -> ApiResult<()>;
    /// Changes forwarding entries, all or none, in time that depends on the batch alone.
    fn apply_fdb(&self, batch: &FdbBatch) -> Result<FdbApplied, FdbRefusal>;

    /// Reads the configuration file again and applies what changed in it.
    fn reload(&self) -> ApiResult<ReloadReport>;
    /// Reads the configuration file and says what a reload would do, changing nothing.
    fn check(&self) -> ApiResult<CheckReport>;
}
