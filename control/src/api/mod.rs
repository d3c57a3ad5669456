//! The API: gRPC over a Unix socket.
//!
//! [`Server`] owns the socket and answers requests by asking a [`Backend`], whose methods speak in the plain types
//! of [`crate::model`] and [`crate::status`]; [`convert`] translates between those and the wire's.

mod backend;
mod batch;
mod client;
mod convert;
mod error;
mod server;
mod service;
mod socket;
mod stream;

/// Messages, client and server as generated from `weft.proto`.
#[allow(missing_docs, clippy::all)]
pub mod proto {
    tonic::include_proto!("weft.v1");
}

pub use backend::{ApiResult, Backend};
pub use batch::{FdbApplied, FdbBatch, FdbKey, FdbList, FdbMistake, FdbOp, FdbRefusal, FdbRun};
pub use client::{CallError, CallResult, Client, ConnectError, FdbAnswers};
pub use convert::Unclear;
pub use error::{ApiError, ErrorKind};
pub use server::{Server, ServerHandle};
pub use socket::SocketError;
