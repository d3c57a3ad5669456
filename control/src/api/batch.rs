//! Batches of changes of forwarding entries.

use weft_wire::MacAddr;

use super::{ApiError, ErrorKind};
use crate::model::{FdbEntry, FdbTarget};
use crate::status::FdbStatus;

/// Forwarding entries, one after the other, so that nobody has to hold millions of them.
pub type FdbList = Box<dyn Iterator<Item = FdbStatus> + Send>;

/// What identifies a forwarding entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FdbKey {
    /// Name of the bridge domain.
    pub bd: String,
    /// Destination address.
    pub mac: MacAddr,
}

/// Changes that are made together or not at all. An *entry* of a batch is one address of one run; they are numbered from
/// 0 over all runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FdbBatch {
    /// In the order in which they were asked for: the last change of an address counts.
    pub runs: Vec<FdbRun>,
}

/// The same change of many addresses of one bridge domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FdbRun {
    /// Name of the bridge domain.
    pub bd: String,
    /// What is to become of the entries.
    pub op: FdbOp,
    /// Their destination addresses.
    pub macs: Vec<MacAddr>,
}

/// What is to become of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FdbOp {
    /// It leads there, whether there was one before or not.
    Set(FdbTarget),
    /// It leads there; that there is one already is a mistake.
    Add(FdbTarget),
    /// There is none, whether there was one before or not.
    Discard,
    /// There is none; that there was none before is a mistake.
    Remove,
}

impl FdbBatch {
    /// Most entries of one batch in a stream.
    pub const MOST: usize = 1 << 16;

    /// Entries in it.
    pub fn len(&self) -> usize {
        self.runs.iter().map(|run| run.macs.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends an entry.
    pub fn push(&mut self, bd: &str, op: FdbOp, mac: MacAddr) {
        match self.runs.last_mut() {
            Some(run) if run.bd == bd && run.op == op => run.macs.push(mac),
            _ => self.runs.push(FdbRun { bd: bd.to_owned(), op, macs: vec![mac] }),
        }
    }

    /// New entries, of which none may be there yet.
    pub fn adding(entries: Vec<FdbEntry>) -> Self {
        let mut batch = Self::default();
        entries.into_iter().for_each(|e| batch.push(&e.bd, FdbOp::Add(e.target), e.mac));
        batch
    }

    /// Entries that are to go, and must be there.
    pub fn removing(keys: &[FdbKey]) -> Self {
        let mut batch = Self::default();
        keys.iter().for_each(|key| batch.push(&key.bd, FdbOp::Remove, key.mac));
        batch
    }
}

/// What a batch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FdbApplied {
    /// Entries that were not there before.
    pub added: u64,
    /// Entries that lead elsewhere now.
    pub replaced: u64,
    /// Entries that are gone.
    pub removed: u64,
    /// Entries that were as they should be, or had another change later in the batch.
    pub unchanged: u64,
}

/// Why a batch was refused. Nothing of it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FdbRefusal {
    /// Of the first mistake.
    pub kind: ErrorKind,
    /// What is wrong with which entry; of consecutive ones with the same mistake the first one.
    pub mistakes: Vec<FdbMistake>,
    /// Further mistakes that are not listed.
    pub more: usize,
    /// What is wrong with the batch as a whole, if no entry is to blame.
    pub message: String,
    /// What to do; may be empty.
    pub hint: String,
}

impl Default for FdbRefusal {
    fn default() -> Self {
        FdbRefusal {
            kind: ErrorKind::Invalid,
            mistakes: Vec::new(),
            more: 0,
            message: String::new(),
            hint: String::new(),
        }
    }
}

/// One mistake in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FdbMistake {
    /// Number of the entry in the batch, from 0.
    pub entry: usize,
    /// What is wrong.
    pub message: String,
}

impl FdbRefusal {
    /// An error that no entry is to blame for.
    pub fn whole(error: ApiError) -> Self {
        FdbRefusal { kind: error.kind, message: error.message, hint: error.hint, ..Self::default() }
    }
}

impl From<FdbRefusal> for ApiError {
    fn from(refusal: FdbRefusal) -> ApiError {
        let mut lines: Vec<String> = refusal.mistakes.into_iter().map(|m| m.message).collect();
        if !refusal.message.is_empty() {
            lines.push(refusal.message);
        }
        if refusal.more > 0 {
            lines.push(format!("... and {} more", refusal.more));
        }
        ApiError::new(refusal.kind, lines.join("\n")).hint(refusal.hint)
    }
}
