//! `weftctl fdb apply`: lines of changes, from a file or as they come, sent in batches.

mod lines;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use super::args::FdbApply;
use super::{Failure, Output};
use crate::api::{ApiError, Client, FdbApplied, FdbBatch, FdbRefusal};
use crate::units;
use lines::{Mistake, Piece, check, read};

/// Mistakes of a file that are shown.
const SHOWN: usize = 20;

/// What was done, so far or in all.
#[derive(Debug, Default, Serialize)]
struct Report {
    added: u64,
    replaced: u64,
    removed: u64,
    /// Lines that changed nothing.
    unchanged: u64,
    batches: u64,
    seconds: f64,
}

impl Report {
    fn add(&mut self, a: FdbApplied) {
        self.added += a.added;
        self.replaced += a.replaced;
        self.removed += a.removed;
        self.unchanged += a.unchanged;
        self.batches += 1;
    }

    fn text(&self) -> String {
        let [added, replaced, removed, unchanged] =
            [self.added, self.replaced, self.removed, self.unchanged].map(units::grouped);
        format!("added {added}, replaced {replaced}, removed {removed}, unchanged {unchanged}")
    }
}

/// Reads the input and has weftd apply it. `limit` is for each answer of weftd; input may take its time.
pub(super) async fn apply(client: &mut Client, args: &FdbApply, limit: Duration) -> Result<Output, Failure> {
    let (input, eager, name) = open(&args.file)?;
    let most = args.batch as usize;
    // So many batches that weftd always has work, and so few that memory stays small.
    let window = (FdbBatch::MOST / most).clamp(8, 512);
    let begin = Instant::now();
    let (to, mut pieces) = mpsc::channel(window);
    // Not joined: it may wait for input when there is nothing more to do.
    std::thread::spawn(move || read(input, eager, most, |piece| to.blocking_send(piece).is_ok()));
    let (to_weftd, batches) = mpsc::channel(window);
    // `None` at the end of the input.
    let mut to_weftd = Some(to_weftd);
    let mut answers = timeout(limit, client.apply_fdb(ReceiverStream::new(batches)))
        .await
        .map_err(|_| Failure::Timeout(limit))??;
    // Line numbers of batches that have no answer yet.
    let mut waiting: VecDeque<Vec<u64>> = VecDeque::new();
    let mut report = Report::default();
    let mut wrong = None;
    while to_weftd.is_some() || !waiting.is_empty() {
        tokio::select! {
            // Answers first: they make room.
            biased;
            answer = timeout(limit, answers.next()), if !waiting.is_empty() => {
                let answer = answer.map_err(|_| Failure::Timeout(limit))??;
                let lines = waiting.pop_front().unwrap_or_default();
                match answer {
                    Some(Ok(applied)) => {
                        report.add(applied);
                        if args.ack {
                            acknowledge(lines.last().copied().unwrap_or_default());
                        }
                    }
                    Some(Err(refusal)) => return Err(refused(&name, &lines, &refusal, &report)),
                    None => {
                        let error = ApiError::internal("weftd ended the stream before it had answered all of it");
                        return Err(Failure::Local(error.hint("see weftd's log; what was done can be repeated")));
                    }
                }
            }
            piece = pieces.recv(), if to_weftd.is_some() && waiting.len() < window => match piece {
                Some(Piece::Batch { batch, lines }) => {
                    waiting.push_back(lines);
                    if let Some(to) = &to_weftd {
                        // It is only closed when the stream ends, which the answers tell.
                        let _ = to.send(batch).await;
                    }
                }
                other => {
                    if let Some(Piece::Wrong(mistake)) = other {
                        wrong = Some(mistake);
                    }
                    to_weftd = None;
                }
            }
        }
    }
    report.seconds = begin.elapsed().as_secs_f64();
    match wrong {
        Some(mistake) => Err(mistakes(&name, &[mistake], 0, &report)),
        None => {
            let (batches, seconds) = (units::grouped(report.batches), report.seconds);
            let noun = if report.batches == 1 { "batch" } else { "batches" };
            Ok(Output::new(format!("{} in {seconds:.3} s ({batches} {noun})\n", report.text()), &report))
        }
    }
}

/// The input, whether lines are sent as they come, and its name for messages. A file is checked first, whole.
fn open(file: &Path) -> Result<(Box<dyn io::Read + Send>, bool, String), Failure> {
    if file == Path::new("-") {
        return Ok((Box::new(io::stdin()), true, "standard input".into()));
    }
    let name = file.display().to_string();
    let fail = |e: io::Error| Failure::Local(ApiError::invalid(format!("cannot read {name}: {e}")));
    let first = File::open(file).map_err(fail)?;
    // What is no file can be read but once.
    if !first.metadata().map_err(fail)?.is_file() {
        return Ok((Box::new(first), true, name));
    }
    let (found, more) = check(first, SHOWN);
    if !found.is_empty() {
        return Err(mistakes(&name, &found, more, &Report::default()));
    }
    Ok((Box::new(File::open(file).map_err(fail)?), false, name))
}

/// Tells whoever drives us that all lines up to this one are in force.
fn acknowledge(line: u64) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn so_far(report: &Report) -> String {
    match report.batches {
        0 => "nothing was changed".to_owned(),
        _ => format!("what came before it is in force: {}", report.text()),
    }
}

fn mistakes(name: &str, found: &[Mistake], more: usize, report: &Report) -> Failure {
    let mut lines: Vec<String> = found.iter().map(|m| format!("{name}:{}: {}", m.line, m.message)).collect();
    if more > 0 {
        lines.push(format!("... and {more} more"));
    }
    let hint = "a line is: add BD MAC vtep NAME | add BD MAC port NAME | del BD MAC";
    Failure::Local(ApiError::invalid(lines.join("\n")).hint(format!("{hint}\n{}", so_far(report))))
}

fn refused(name: &str, lines: &[u64], refusal: &FdbRefusal, report: &Report) -> Failure {
    let mut text = Vec::new();
    for mistake in &refusal.mistakes {
        match lines.get(mistake.entry) {
            Some(line) => text.push(format!("{name}:{line}: {}", mistake.message)),
            None => text.push(mistake.message.clone()),
        }
    }
    if refusal.mistakes.is_empty() {
        let (first, last) = (lines.first(), lines.last());
        let place = first.zip(last).map(|(a, b)| format!("{name}:{a}-{b}: ")).unwrap_or_default();
        text.push(format!("{place}{}", refusal.message));
    }
    if refusal.more > 0 {
        text.push(format!("... and {} more", refusal.more));
    }
    let gap = if refusal.hint.is_empty() { "" } else { "\n" };
    let hint = format!("{}{gap}{}", refusal.hint, so_far(report));
    Failure::Local(ApiError::new(refusal.kind, text.join("\n")).hint(hint))
}
