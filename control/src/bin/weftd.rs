//! weftd: the vSwitch daemon.
#![deny(unsafe_code)]

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use weft_control::api::{Backend, Server};
use weft_control::config;
use weft_control::engine::Engine;
use weft_control::model::{LogLevel, Model};

/// weftd: a DPDK poll-mode vSwitch that joins VMs into tenant networks over VXLAN and GENEVE.
///
/// SIGTERM or SIGINT stop it; SIGHUP applies the changed configuration file, as `weftctl reload` does.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// The configuration file (docs/configuration.md lists every key).
    #[arg(long, short, value_name = "FILE", default_value = "/etc/weft/weft.toml")]
    config: PathBuf,
    /// Read and check the configuration, print every error, start nothing. Exit code 0 if it is good, else 1.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let model = match config::load(&args.config) {
        Ok(loaded) => loaded.model,
        Err(e) => {
            let lines = e.messages();
            lines.iter().for_each(|l| eprintln!("{l}"));
            eprintln!("weftd: {} error(s) in the configuration", lines.len());
            return ExitCode::FAILURE;
        }
    };
    if args.check {
        println!("{}: good", args.config.display());
        return ExitCode::SUCCESS;
    }
    log_to_stderr(model.settings.daemon.log);
    match run(model, args.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("weftd: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(model: Model, config: PathBuf) -> Result<(), Box<dyn std::error::Error>> {
    // Before any thread: a signal that comes during the start is then taken up after it.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    // Before any device: a second weftd by mistake must not disturb the first.
    let server = Server::bind(&model.settings.daemon.socket)?;
    let engine = Engine::start(model, config)?;
    let served = server.start(Arc::new(engine.clone())).map_err(Into::into).and_then(|server| {
        serve(&engine, &mut signals);
        server.stop().map_err(Into::into)
    });
    // Whatever became of the API: guests and devices are left in order.
    engine.stop();
    served
}

/// Takes up signals until one says to end.
fn serve(engine: &Engine, signals: &mut Signals) {
    for signal in signals.forever() {
        if signal != SIGHUP {
            tracing::info!("stopping");
            break;
        }
        match engine.reload() {
            Ok(r) => {
                tracing::info!(
                    "reloaded: {} added, {} changed, {} removed, {} unchanged",
                    r.added.len(),
                    r.changed.len(),
                    r.removed.len(),
                    r.unchanged
                );
                for key in r.needs_restart {
                    tracing::warn!("{key} has changed in the file and waits for a restart of weftd");
                }
            }
            Err(e) => tracing::error!("reload refused: {e}\n{}", e.hint),
        }
    }
}

fn log_to_stderr(level: LogLevel) {
    let level = match level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Trace => tracing::Level::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}
