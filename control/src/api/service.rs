//! The gRPC service: each call is translated, handed to the backend on a blocking thread, and translated back.

use std::sync::Arc;

use tokio_stream::Stream;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Response, Status};

use super::proto::weft_server::Weft;
use super::{ApiError, ApiResult, Backend, ErrorKind, FdbBatch, convert, proto, stream};
use crate::validate::closest;

/// Metadata key of an error's hint.
pub(super) const HINT: &str = "weft-hint-bin";

/// FDB entries in one message of a listing: well below gRPC's 4 MiB, whatever the names' lengths.
const FDB_PIECE: usize = 4096;

pub(super) struct Service {
    pub(super) backend: Arc<dyn Backend>,
}

impl Service {
    /// Asks the backend on a thread that may block.
    async fn ask<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Backend) -> ApiResult<T> + Send + 'static,
    ) -> Result<T, Status> {
        let backend = Arc::clone(&self.backend);
        match tokio::task::spawn_blocking(move || call(&*backend)).await {
            Ok(result) => result.map_err(Status::from),
            // A panic of the backend in builds that unwind, or the runtime going down.
            Err(_) => Err(ApiError::internal("the request was not carried out to its end")
                .hint("see weftd's log")
                .into()),
        }
    }
}

/// The gRPC code of a kind of errors.
pub(super) fn code_of(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::Precondition => Code::FailedPrecondition,
        ErrorKind::Internal => Code::Internal,
    }
}

/// The kind of errors that has this gRPC code.
pub(super) fn kind_of(code: Code) -> Option<ErrorKind> {
    use ErrorKind::{AlreadyExists, Internal, Invalid, NotFound, Precondition};
    [NotFound, AlreadyExists, Invalid, Precondition, Internal].into_iter().find(|kind| code_of(*kind) == code)
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Status {
        let mut status = Status::new(code_of(error.kind), cut(&error.message));
        if !error.hint.is_empty() {
            status.metadata_mut().insert_bin(HINT, MetadataValue::from_bytes(cut(&error.hint).as_bytes()));
        }
        status
    }
}

/// Errors travel in HTTP/2 headers, whose list peers limit to 16 KiB by default: a batch of a thousand bad entries
/// must not turn into a protocol error.
fn cut(text: &str) -> String {
    const MOST: usize = 4096;
    if text.len() <= MOST {
        return text.to_owned();
    }
    let mut out = String::new();
    let lines: Vec<&str> = text.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        if out.len() + line.len() > MOST {
            out += &format!("... and {} more", lines.len() - i);
            break;
        }
        out += line;
        out.push('\n');
    }
    out
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Weft for Service {
    async fn get_status(&self, _: Request<proto::GetStatusRequest>) -> Answer<proto::GetStatusResponse> {
        Ok(Response::new(self.ask(|b| b.status()).await?.into()))
    }

    async fn list_workers(
        &self,
        _: Request<proto::ListWorkersRequest>,
    ) -> Answer<proto::ListWorkersResponse> {
        let workers = self.ask(|b| b.workers()).await?.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::ListWorkersResponse { workers }))
    }

    async fn list_uplinks(
        &self,
        _: Request<proto::ListUplinksRequest>,
    ) -> Answer<proto::ListUplinksResponse> {
        let uplinks = self.ask(|b| b.uplinks()).await?.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::ListUplinksResponse { uplinks }))
    }

    async fn list_ports(
        &self,
        request: Request<proto::ListPortsRequest>,
    ) -> Answer<proto::ListPortsResponse> {
        let name = request.into_inner().name;
        let mut ports = self.ask(|b| b.ports()).await?;
        if !name.is_empty() {
            if !ports.iter().any(|port| port.name == name) {
                let hint = match closest(&name, ports.iter().map(|port| port.name.as_str())) {
                    Some(close) => format!("did you mean \"{close}\"?"),
                    None => "'weftctl port list' shows which there are".to_owned(),
                };
                return Err(ApiError::not_found(format!("there is no port \"{name}\"")).hint(hint).into());
            }
            ports.retain(|port| port.name == name);
        }
        let ports = ports.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::ListPortsResponse { ports }))
    }

    async fn add_port(&self, request: Request<proto::AddPortRequest>) -> Answer<proto::AddPortResponse> {
        let port = convert::read_port(request.into_inner())?;
        self.ask(move |b| b.add_port(port)).await?;
        Ok(Response::new(proto::AddPortResponse {}))
    }

    async fn remove_port(
        &self,
        request: Request<proto::RemovePortRequest>,
    ) -> Answer<proto::RemovePortResponse> {
        self.ask(move |b| b.remove_port(&request.get_ref().name)).await?;
        Ok(Response::new(proto::RemovePortResponse {}))
    }

    async fn list_bds(&self, _: Request<proto::ListBdsRequest>) -> Answer<proto::ListBdsResponse> {
        let bds = self.ask(|b| b.bds()).await?.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::ListBdsResponse { bds }))
    }

    async fn add_bd(&self, request: Request<proto::AddBdRequest>) -> Answer<proto::AddBdResponse> {
        let bd = convert::read_bd(request.into_inner())?;
        self.ask(move |b| b.add_bd(bd)).await?;
        Ok(Response::new(proto::AddBdResponse {}))
    }

    async fn update_bd(&self, request: Request<proto::UpdateBdRequest>) -> Answer<proto::UpdateBdResponse> {
        let (name, update) = convert::read_bd_update(request.into_inner())?;
        self.ask(move |b| b.update_bd(&name, update)).await?;
        Ok(Response::new(proto::UpdateBdResponse {}))
    }

    async fn remove_bd(&self, request: Request<proto::RemoveBdRequest>) -> Answer<proto::RemoveBdResponse> {
        self.ask(move |b| b.remove_bd(&request.get_ref().name)).await?;
        Ok(Response::new(proto::RemoveBdResponse {}))
    }

    async fn list_vteps(&self, _: Request<proto::ListVtepsRequest>) -> Answer<proto::ListVtepsResponse> {
        let vteps = self.ask(|b| b.vteps()).await?.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::ListVtepsResponse { vteps }))
    }

    async fn add_vtep(&self, request: Request<proto::AddVtepRequest>) -> Answer<proto::AddVtepResponse> {
        let vtep = convert::read_vtep(request.into_inner())?;
        self.ask(move |b| b.add_vtep(vtep)).await?;
        Ok(Response::new(proto::AddVtepResponse {}))
    }

    async fn remove_vtep(
        &self,
        request: Request<proto::RemoveVtepRequest>,
    ) -> Answer<proto::RemoveVtepResponse> {
        self.ask(move |b| b.remove_vtep(&request.get_ref().name)).await?;
        Ok(Response::new(proto::RemoveVtepResponse {}))
    }

    type ListFdbStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<proto::ListFdbResponse, Status>> + Send + 'static>>;

    async fn list_fdb(&self, request: Request<proto::ListFdbRequest>) -> Answer<Self::ListFdbStream> {
        let bd = request.into_inner().bd;
        let mut entries = self.ask(move |b| b.fdb(Some(bd.as_str()).filter(|bd| !bd.is_empty()))).await?;
        let pieces = std::iter::from_fn(move || {
            let entries: Vec<_> = entries.by_ref().take(FDB_PIECE).map(Into::into).collect();
            if entries.is_empty() { None } else { Some(Ok(proto::ListFdbResponse { entries })) }
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(pieces))))
    }

    async fn add_fdb(&self, request: Request<proto::AddFdbRequest>) -> Answer<proto::AddFdbResponse> {
        let entries = convert::read_fdb_entries(request.into_inner().entries)?;
        self.ask(move |b| Ok(b.apply_fdb(&FdbBatch::adding(entries)).map(drop)?)).await?;
        Ok(Response::new(proto::AddFdbResponse {}))
    }

    async fn remove_fdb(
        &self,
        request: Request<proto::RemoveFdbRequest>,
    ) -> Answer<proto::RemoveFdbResponse> {
        let keys = convert::read_fdb_keys(request.into_inner().keys)?;
        self.ask(move |b| Ok(b.apply_fdb(&FdbBatch::removing(&keys)).map(drop)?)).await?;
        Ok(Response::new(proto::RemoveFdbResponse {}))
    }

    type ApplyFdbStream = stream::Answers;

    async fn apply_fdb(
        &self,
        request: Request<tonic::Streaming<proto::ApplyFdbRequest>>,
    ) -> Answer<Self::ApplyFdbStream> {
        Ok(Response::new(stream::serve(Arc::clone(&self.backend), request.into_inner())))
    }

    async fn list_neighbours(
        &self,
        _: Request<proto::ListNeighboursRequest>,
    ) -> Answer<proto::ListNeighboursResponse> {
        let neighbours = self.ask(|b| b.neighbours()).await?.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::ListNeighboursResponse { neighbours }))
    }

    async fn get_stats(&self, _: Request<proto::GetStatsRequest>) -> Answer<proto::GetStatsResponse> {
        Ok(Response::new(self.ask(|b| b.stats()).await?.into()))
    }

    async fn reload(&self, _: Request<proto::ReloadRequest>) -> Answer<proto::ReloadResponse> {
        let report = self.ask(|b| b.reload()).await?;
        Ok(Response::new(proto::ReloadResponse { report: Some(report.into()) }))
    }

    async fn check(&self, _: Request<proto::CheckRequest>) -> Answer<proto::CheckResponse> {
        Ok(Response::new(self.ask(|b| b.check()).await?.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_errors_are_cut_between_lines() {
        let text: String = (0..1000).map(|i| format!("line {i}\n")).collect();
        let short = cut(&text);
        assert!(short.len() < 4200);
        let last = short.lines().last().unwrap();
        let kept = short.lines().count() - 1;
        assert_eq!(last, format!("... and {} more", 1000 - kept));
        assert_eq!(cut("a\nb"), "a\nb");
    }
}
