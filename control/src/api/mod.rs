//! The API: gRPC over a Unix socket.

mod backend;
mod error;

pub use backend::{ApiResult, Backend, FdbKey};
pub use error::{ApiError, ErrorKind};
