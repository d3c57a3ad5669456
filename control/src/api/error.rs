//! Errors of the API: a kind for programs, a message and a hint for people.

use thiserror::Error;

use crate::validate::Finding;

/// What went wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct ApiError {
    /// For programs.
    pub kind: ErrorKind,
    /// For people: what, where and why, a sentence without a full stop.
    pub message: String,
    /// What to do about it; empty if there is nothing to add.
    pub hint: String,
}

/// Kinds of errors; each has its gRPC code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No object of that name. gRPC `NOT_FOUND`.
    NotFound,
    /// The name is taken. gRPC `ALREADY_EXISTS`.
    AlreadyExists,
    /// The request makes no sense, whatever the state. gRPC `INVALID_ARGUMENT`.
    Invalid,
    /// The request makes sense, but not in this state. gRPC `FAILED_PRECONDITION`.
    Precondition,
    /// weftd or DPDK failed. gRPC `INTERNAL`.
    Internal,
}

impl ApiError {
    /// An error without a hint.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> ApiError {
        ApiError { kind, message: message.into(), hint: String::new() }
    }

    /// No object of that name.
    pub fn not_found(message: impl Into<String>) -> ApiError {
        Self::new(ErrorKind::NotFound, message)
    }

    /// The name is taken.
    pub fn already_exists(message: impl Into<String>) -> ApiError {
        Self::new(ErrorKind::AlreadyExists, message)
    }

    /// The request makes no sense.
    pub fn invalid(message: impl Into<String>) -> ApiError {
        Self::new(ErrorKind::Invalid, message)
    }

    /// The request does not fit the state.
    pub fn precondition(message: impl Into<String>) -> ApiError {
        Self::new(ErrorKind::Precondition, message)
    }

    /// Something broke on weftd's side.
    pub fn internal(message: impl Into<String>) -> ApiError {
        Self::new(ErrorKind::Internal, message)
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> ApiError {
        self.hint = hint.into();
        self
    }

    /// One `Invalid` error that lists all `findings`, a line each, hints together below.
    pub fn from_findings(findings: &[Finding]) -> ApiError {
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        let mut hints: Vec<&str> = Vec::new();
        for finding in findings {
            if !finding.hint.is_empty() && !hints.contains(&finding.hint.as_str()) {
                hints.push(&finding.hint);
            }
        }
        ApiError::invalid(lines.join("\n")).hint(hints.join("\n"))
    }
}
