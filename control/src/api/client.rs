//! The client: weftctl's side, in plain types.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use super::proto::weft_client::WeftClient;
use super::service::{HINT, kind_of};
use super::{ApiError, ErrorKind, FdbApplied, FdbBatch, FdbKey, FdbRefusal, convert, proto};
use crate::model::{Bd, BdUpdate, FdbEntry, Port, Vtep};
use crate::status as plain;

/// weftd cannot be reached.
#[derive(Debug, Error)]
#[error("cannot reach weftd at {path}: {error}")]
pub struct ConnectError {
    /// The socket.
    pub path: PathBuf,
    /// Why not.
    pub error: io::Error,
}

/// What a call can end in.
#[derive(Debug, Error)]
pub enum CallError {
    /// weftd said no.
    #[error(transparent)]
    Refused(#[from] ApiError),
    /// The connection broke before an answer came.
    #[error("the connection to weftd broke: {0}")]
    Broken(String),
    /// The answer makes no sense to this version.
    #[error(transparent)]
    Unclear(#[from] convert::Unclear),
}

impl From<Status> for CallError {
    fn from(status: Status) -> CallError {
        let kind = match status.code() {
            Code::Unavailable | Code::Cancelled | Code::Unknown => {
                return CallError::Broken(status.message().to_owned());
            }
            Code::Unimplemented => {
                let error = ApiError::internal("this weftd does not know the request");
                return error.hint("weftctl is newer than weftd: restart weftd after an upgrade").into();
            }
            code => kind_of(code).unwrap_or(ErrorKind::Internal),
        };
        let hint = status.metadata().get_bin(HINT).and_then(|value| value.to_bytes().ok());
        let hint = hint.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        ApiError { kind, message: status.message().to_owned(), hint }.into()
    }
}

/// Result of a call.
pub type CallResult<T> = Result<T, CallError>;

/// Answers to the batches of one stream, in order.
#[derive(Debug)]
pub struct FdbAnswers(Streaming<proto::ApplyFdbResponse>);

impl FdbAnswers {
    /// What became of the next batch, once that is known; `None` if no more batches are answered. After a refusal, none
    /// is.
    pub async fn next(&mut self) -> CallResult<Option<Result<FdbApplied, FdbRefusal>>> {
        Ok(self.0.message().await?.map(convert::read_fdb_result))
    }
}

/// A connection to weftd.
#[derive(Debug, Clone)]
pub struct Client {
    inner: WeftClient<Channel>,
}

impl Client {
    /// Connects to the socket at `path`.
    pub async fn connect(path: &Path) -> Result<Client, ConnectError> {
        let failed = |error| ConnectError { path: path.to_owned(), error };
        // gRPC's own errors hide what the system said: ask first.
        drop(UnixStream::connect(path).map_err(failed)?);
        let path_text = path.to_str().ok_or_else(|| failed(io::Error::other("the path is not UTF-8")))?;
        let endpoint =
            Endpoint::from_shared(format!("unix:{path_text}")).map_err(|e| failed(io::Error::other(e)))?;
        let channel = endpoint.connect().await.map_err(|e| failed(io::Error::other(e)))?;
        Ok(Client { inner: WeftClient::new(channel).max_decoding_message_size(64 << 20) })
    }

    /// The generated client on the same connection.
    pub fn raw(&self) -> WeftClient<Channel> {
        self.inner.clone()
    }

    /// See [`super::Backend::status`].
    pub async fn status(&mut self) -> CallResult<plain::Status> {
        Ok(self.inner.get_status(proto::GetStatusRequest {}).await?.into_inner().into())
    }

    /// See [`super::Backend::workers`].
    pub async fn workers(&mut self) -> CallResult<Vec<plain::WorkerStatus>> {
        let answer = self.inner.list_workers(proto::ListWorkersRequest {}).await?.into_inner();
        Ok(answer.workers.into_iter().map(Into::into).collect())
    }

    /// See [`super::Backend::uplinks`].
    pub async fn uplinks(&mut self) -> CallResult<Vec<plain::UplinkStatus>> {
        let answer = self.inner.list_uplinks(proto::ListUplinksRequest {}).await?.into_inner();
        Ok(convert::list(answer.uplinks)?)
    }

    /// All ports, or the one named.
    pub async fn ports(&mut self, name: Option<&str>) -> CallResult<Vec<plain::PortStatus>> {
        let request = proto::ListPortsRequest { name: name.unwrap_or_default().to_owned() };
        Ok(convert::list(self.inner.list_ports(request).await?.into_inner().ports)?)
    }

    /// See [`super::Backend::add_port`].
    pub async fn add_port(&mut self, port: Port) -> CallResult<()> {
        self.inner.add_port(convert::write_port(port)).await?;
        Ok(())
    }

    /// See [`super::Backend::remove_port`].
    pub async fn remove_port(&mut self, name: &str) -> CallResult<()> {
        self.inner.remove_port(proto::RemovePortRequest { name: name.to_owned() }).await?;
        Ok(())
    }

    /// See [`super::Backend::bds`].
    pub async fn bds(&mut self) -> CallResult<Vec<plain::BdStatus>> {
        Ok(convert::list(self.inner.list_bds(proto::ListBdsRequest {}).await?.into_inner().bds)?)
    }

    /// See [`super::Backend::add_bd`].
    pub async fn add_bd(&mut self, bd: Bd) -> CallResult<()> {
        self.inner.add_bd(convert::write_bd(bd)).await?;
        Ok(())
    }

    /// See [`super::Backend::update_bd`].
    pub async fn update_bd(&mut self, name: &str, update: BdUpdate) -> CallResult<()> {
        self.inner.update_bd(convert::write_bd_update(name, update)).await?;
        Ok(())
    }

    /// See [`super::Backend::remove_bd`].
    pub async fn remove_bd(&mut self, name: &str) -> CallResult<()> {
        self.inner.remove_bd(proto::RemoveBdRequest { name: name.to_owned() }).await?;
        Ok(())
    }

    /// See [`super::Backend::vteps`].
    pub async fn vteps(&mut self) -> CallResult<Vec<plain::VtepStatus>> {
        Ok(convert::list(self.inner.list_vteps(proto::ListVtepsRequest {}).await?.into_inner().vteps)?)
    }

    /// See [`super::Backend::add_vtep`].
    pub async fn add_vtep(&mut self, vtep: Vtep) -> CallResult<()> {
        self.inner.add_vtep(convert::write_vtep(vtep)).await?;
        Ok(())
    }

    /// See [`super::Backend::remove_vtep`].
    pub async fn remove_vtep(&mut self, name: &str) -> CallResult<()> {
        self.inner.remove_vtep(proto::RemoveVtepRequest { name: name.to_owned() }).await?;
        Ok(())
    }

    /// See [`super::Backend::fdb`].
    pub async fn fdb(&mut self, bd: Option<&str>) -> CallResult<Vec<plain::FdbStatus>> {
        let request = proto::ListFdbRequest { bd: bd.unwrap_or_default().to_owned() };
        let mut stream = self.inner.list_fdb(request).await?.into_inner();
        let mut all = Vec::new();
        while let Some(piece) = stream.message().await? {
            all.append(&mut convert::list(piece.entries)?);
        }
        Ok(all)
    }

    /// Adds forwarding entries that are not there yet, all or none.
    pub async fn add_fdb(&mut self, entries: Vec<FdbEntry>) -> CallResult<()> {
        let entries = entries.into_iter().map(convert::write_fdb_entry).collect();
        self.inner.add_fdb(proto::AddFdbRequest { entries }).await?;
        Ok(())
    }

    /// Removes forwarding entries that are there, all or none.
    pub async fn remove_fdb(&mut self, keys: Vec<FdbKey>) -> CallResult<()> {
        let keys = keys.into_iter().map(convert::write_fdb_key).collect();
        self.inner.remove_fdb(proto::RemoveFdbRequest { keys }).await?;
        Ok(())
    }

    /// Starts a stream of batches of FDB changes; it ends when `batches` does.
    pub async fn apply_fdb(
        &mut self,
        batches: impl Stream<Item = FdbBatch> + Send + 'static,
    ) -> CallResult<FdbAnswers> {
        let requests = batches.map(convert::write_fdb_batch);
        Ok(FdbAnswers(self.inner.apply_fdb(requests).await?.into_inner()))
    }

    /// See [`super::Backend::neighbours`].
    pub async fn neighbours(&mut self) -> CallResult<Vec<plain::NeighbourStatus>> {
        let answer = self.inner.list_neighbours(proto::ListNeighboursRequest {}).await?.into_inner();
        Ok(convert::list(answer.neighbours)?)
    }

    /// See [`super::Backend::stats`].
    pub async fn stats(&mut self) -> CallResult<plain::Stats> {
        Ok(self.inner.get_stats(proto::GetStatsRequest {}).await?.into_inner().try_into()?)
    }

    /// See [`super::Backend::reload`].
    pub async fn reload(&mut self) -> CallResult<plain::ReloadReport> {
        let answer = self.inner.reload(proto::ReloadRequest {}).await?.into_inner();
        Ok(answer.report.unwrap_or_default().into())
    }

    /// See [`super::Backend::check`].
    pub async fn check(&mut self) -> CallResult<plain::CheckReport> {
        Ok(self.inner.check(proto::CheckRequest {}).await?.into_inner().into())
    }
}
