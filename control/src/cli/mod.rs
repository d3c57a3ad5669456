//! weftctl: the command line of a running weftd.
//!
//! Exit codes: 0 done, 1 refused (by weftd, or by `check FILE`), 2 wrong usage, 3 weftd cannot be reached.

mod apply;
mod args;
mod run;
mod show;
mod table;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde::Serialize;

use crate::api::{ApiError, CallError, ConnectError, ErrorKind};
use crate::config::{self, LoadError};
use args::{Args, Verb};

/// What weftctl prints: text for people, a value for programs.
struct Output {
    text: String,
    json: serde_json::Value,
    /// Everything was answered, yet the answer is a no (`check` that found errors).
    failed: bool,
}

impl Output {
    fn new(text: String, value: &impl Serialize) -> Output {
        // Plain structs with string keys always have a JSON form.
        Output { text, json: serde_json::to_value(value).unwrap_or_default(), failed: false }
    }
}

/// Why weftctl did not do what it was asked for.
enum Failure {
    Connect(ConnectError),
    Call(CallError),
    Local(ApiError),
    Timeout(Duration),
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Failure {
        Failure::Call(error)
    }
}

/// Runs weftctl with the process's arguments.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.verb {
        Verb::Check { file: Some(file) } => Ok(check_file(file)),
        _ => run::run(&args),
    };
    match result {
        Ok(output) => {
            let text = if args.json { format!("{:#}\n", output.json) } else { output.text };
            print(&text);
            ExitCode::from(u8::from(output.failed))
        }
        Err(failure) => report(&failure, args.json),
    }
}

/// Prints and does not mind if nobody reads on (`weftctl fdb list | head`).
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn report(failure: &Failure, json: bool) -> ExitCode {
    let (code, kind, message, hint) = match failure {
        Failure::Connect(error) => (3, "unreachable", error.to_string(), connect_hint(error)),
        Failure::Call(CallError::Refused(error)) | Failure::Local(error) => {
            (1, kind_name(error.kind), error.message.clone(), error.hint.clone())
        }
        Failure::Call(CallError::Broken(_)) => {
            let hint = "it may have been stopped just now: see 'weftctl status' and weftd's log";
            (3, "unreachable", failure_text(failure), hint.to_owned())
        }
        Failure::Timeout(_) => {
            let hint = "a change waits for every worker: 'weftctl status' and weftd's log name one that is stuck\n\
                        the request may still be carried out";
            (3, "unreachable", failure_text(failure), hint.to_owned())
        }
        Failure::Call(CallError::Unclear(_)) => (1, "internal", failure_text(failure), String::new()),
    };
    let mut text = String::new();
    for line in message.lines() {
        text += &format!("error: {line}\n");
    }
    for line in hint.lines() {
        text += &format!("  hint: {line}\n");
    }
    let _ = io::stderr().lock().write_all(text.as_bytes());
    if json {
        let value = serde_json::json!({"error": {"kind": kind, "message": message, "hint": hint}});
        print(&format!("{value:#}\n"));
    }
    ExitCode::from(code)
}

fn failure_text(failure: &Failure) -> String {
    match failure {
        Failure::Connect(error) => error.to_string(),
        Failure::Call(error) => error.to_string(),
        Failure::Local(error) => error.to_string(),
        Failure::Timeout(limit) => format!("weftd has not answered for {} s", limit.as_secs()),
    }
}

fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "not-found",
        ErrorKind::AlreadyExists => "already-exists",
        ErrorKind::Invalid => "invalid",
        ErrorKind::Precondition => "precondition",
        ErrorKind::Internal => "internal",
    }
}

fn connect_hint(error: &ConnectError) -> String {
    const ELSEWHERE: &str = "if it uses another socket: --socket PATH, or WEFT_SOCKET in the environment";
    match error.error.kind() {
        io::ErrorKind::NotFound => {
            format!(
                "weftd is not running there: start it with 'weftd --config /etc/weft/weft.toml'\n{ELSEWHERE}"
            )
        }
        io::ErrorKind::ConnectionRefused => {
            format!("the weftd that made this socket is gone: start it again\n{ELSEWHERE}")
        }
        io::ErrorKind::PermissionDenied => {
            "run weftctl as root, or as a member of the group that owns the socket".to_owned()
        }
        _ => ELSEWHERE.to_owned(),
    }
}

/// `weftctl check FILE`: no weftd is needed.
fn check_file(file: &Path) -> Output {
    #[derive(Serialize)]
    struct Place {
        file: String,
        line: usize,
        column: usize,
        message: String,
        hint: String,
    }
    #[derive(Serialize)]
    struct Report {
        file: String,
        ok: bool,
        errors: Vec<Place>,
    }
    let name = file.display().to_string();
    let (errors, text) = match config::load(file) {
        Ok(loaded) => {
            let objects = &loaded.model.objects;
            let counts = [
                (objects.ports.len(), "ports"),
                (objects.bds.len(), "bridge domains"),
                (objects.vteps.len(), "vteps"),
                (loaded.model.fdb.len(), "FDB entries"),
            ];
            let counts: Vec<String> = counts.iter().map(|(n, what)| format!("{n} {what}")).collect();
            (Vec::new(), format!("{name}: no errors ({})\n", counts.join(", ")))
        }
        Err(LoadError::Io { file, error }) => {
            let message = format!("cannot read it: {error}");
            let text = format!("error: cannot read {file}: {error}\n");
            (vec![Place { file, line: 0, column: 0, message, hint: String::new() }], text)
        }
        Err(LoadError::Invalid(diagnostics)) => {
            let mut text: String = diagnostics.iter().map(|d| format!("{d}\n")).collect();
            let count = diagnostics.len();
            text += &format!("{name}: {count} {}\n", if count == 1 { "error" } else { "errors" });
            let places = diagnostics
                .into_iter()
                .map(|d| Place {
                    file: d.file,
                    line: d.line,
                    column: d.column,
                    message: d.message,
                    hint: d.hint,
                })
                .collect();
            (places, text)
        }
    };
    let failed = !errors.is_empty();
    let mut output = Output::new(text, &Report { file: name, ok: !failed, errors });
    output.failed = failed;
    output
}
