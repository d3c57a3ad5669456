//! Batches of changes of forwarding entries.

use weft_wire::MacAddr;

use crate::api::service::{code_of, kind_of};
use crate::api::{ErrorKind, FdbApplied, FdbBatch, FdbMistake, FdbOp, FdbRefusal, FdbRun, proto};
use crate::model::FdbTarget;

/// Bytes of a MAC address.
const MAC: usize = 6;

pub(in crate::api) fn write_fdb_batch(batch: FdbBatch) -> proto::ApplyFdbRequest {
    use proto::fdb_run::Change;
    let run = |run: FdbRun| proto::FdbRun {
        bd: run.bd,
        change: Some(match run.op {
            FdbOp::Set(FdbTarget::Port(name)) | FdbOp::Add(FdbTarget::Port(name)) => Change::Port(name),
            FdbOp::Set(FdbTarget::Vtep(name)) | FdbOp::Add(FdbTarget::Vtep(name)) => Change::Vtep(name),
            FdbOp::Discard | FdbOp::Remove => Change::Remove(true),
        }),
        macs: run.macs.iter().flat_map(|mac| mac.0).collect(),
    };
    proto::ApplyFdbRequest { runs: batch.runs.into_iter().map(run).collect() }
}

pub(in crate::api) fn read_fdb_batch(request: proto::ApplyFdbRequest) -> Result<FdbBatch, FdbRefusal> {
    use proto::fdb_run::Change;
    let wrong = |entry, message: String| FdbRefusal {
        mistakes: vec![FdbMistake { entry, message }],
        ..FdbRefusal::default()
    };
    let mut batch = FdbBatch::default();
    let mut first = 0;
    for run in request.runs {
        let op = match run.change {
            Some(Change::Port(name)) => FdbOp::Set(FdbTarget::Port(name)),
            Some(Change::Vtep(name)) => FdbOp::Set(FdbTarget::Vtep(name)),
            Some(Change::Remove(_)) => FdbOp::Discard,
            None => return Err(wrong(first, "the run says neither port nor vtep nor remove".into())),
        };
        let (macs, rest) = run.macs.as_chunks::<MAC>();
        first += macs.len();
        if !rest.is_empty() {
            let message = format!("macs has {} bytes: six for each address", run.macs.len());
            return Err(wrong(first, message));
        }
        if first > FdbBatch::MOST {
            let message = format!("a batch has at most {} addresses", FdbBatch::MOST);
            return Err(FdbRefusal { message, hint: "send several batches".into(), ..FdbRefusal::default() });
        }
        batch.runs.push(FdbRun { bd: run.bd, op, macs: macs.iter().map(|mac| MacAddr(*mac)).collect() });
    }
    Ok(batch)
}

pub(in crate::api) fn write_fdb_result(result: Result<FdbApplied, FdbRefusal>) -> proto::ApplyFdbResponse {
    match result {
        Ok(FdbApplied { added, replaced, removed, unchanged }) => {
            proto::ApplyFdbResponse { added, replaced, removed, unchanged, refused: None }
        }
        Err(refusal) => {
            let mistake = |m: FdbMistake| proto::FdbMistake { entry: m.entry as u32, message: m.message };
            let refused = proto::FdbRefusal {
                code: code_of(refusal.kind) as u32,
                mistakes: refusal.mistakes.into_iter().map(mistake).collect(),
                more: refusal.more as u64,
                message: refusal.message,
                hint: refusal.hint,
            };
            proto::ApplyFdbResponse { refused: Some(refused), ..Default::default() }
        }
    }
}

pub(in crate::api) fn read_fdb_result(answer: proto::ApplyFdbResponse) -> Result<FdbApplied, FdbRefusal> {
    let proto::ApplyFdbResponse { added, replaced, removed, unchanged, refused } = answer;
    let Some(r) = refused else { return Ok(FdbApplied { added, replaced, removed, unchanged }) };
    let mistake = |m: proto::FdbMistake| FdbMistake { entry: m.entry as usize, message: m.message };
    Err(FdbRefusal {
        kind: kind_of(tonic::Code::from_i32(r.code as i32)).unwrap_or(ErrorKind::Internal),
        mistakes: r.mistakes.into_iter().map(mistake).collect(),
        more: r.more as usize,
        message: r.message,
        hint: r.hint,
    })
}
