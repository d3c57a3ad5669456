//! The stream of FDB batches: what has arrived is taken together to a thread that may block, batch by batch.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::proto::{ApplyFdbRequest, ApplyFdbResponse};
use super::{ApiError, Backend, FdbApplied, FdbBatch, FdbRefusal, convert};

/// Answers of one stream.
pub(super) type Answers = ReceiverStream<Result<ApplyFdbResponse, Status>>;

/// Answers that may wait for a client that does not take them, before its batches wait, too.
const UNREAD: usize = 64;
/// Batches that go to the blocking thread together: a thread's waking costs as much as several single changes.
const TOGETHER: usize = 256;

/// Applies the batches of a stream until it ends or one is refused.
pub(super) fn serve(backend: Arc<dyn Backend>, mut requests: Streaming<ApplyFdbRequest>) -> Answers {
    let (answers, stream) = mpsc::channel(UNREAD);
    tokio::spawn(async move {
        while let Some(arrived) = arrived(&mut requests).await {
            let backend = Arc::clone(&backend);
            let work = tokio::task::spawn_blocking(move || apply(&*backend, arrived)).await;
            let Ok(done) = work else {
                // A panic of the backend in builds that unwind, or the runtime going down.
                let error =
                    ApiError::internal("the batch was not carried out to its end").hint("see weftd's log");
                let _ = answers.send(Err(error.into())).await;
                return;
            };
            for result in done {
                let last = !matches!(result, Ok(Ok(_)));
                // A client that is gone hears nothing, and sends nothing.
                if answers.send(result.map(convert::write_fdb_result)).await.is_err() || last {
                    return;
                }
            }
        }
    });
    ReceiverStream::new(stream)
}

/// All messages that are there, once there is one: at most [`TOGETHER`], with one full batch's entries or somewhat more.
async fn arrived(requests: &mut Streaming<ApplyFdbRequest>) -> Option<Vec<Result<ApplyFdbRequest, Status>>> {
    let mut messages = Vec::new();
    let mut bytes = 0;
    std::future::poll_fn(|context| {
        while messages.len() < TOGETHER && bytes < 6 * FdbBatch::MOST {
            match Pin::new(&mut *requests).poll_next(context) {
                Poll::Ready(Some(message)) => {
                    bytes += message.iter().flat_map(|m| &m.runs).map(|run| run.macs.len()).sum::<usize>();
                    messages.push(message);
                }
                Poll::Ready(None) => break,
                Poll::Pending if messages.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(())
    })
    .await;
    (!messages.is_empty()).then_some(messages)
}

/// What becomes of each batch, up to the first that is refused.
fn apply(
    backend: &dyn Backend,
    messages: Vec<Result<ApplyFdbRequest, Status>>,
) -> Vec<Result<Result<FdbApplied, FdbRefusal>, Status>> {
    let mut done = Vec::with_capacity(messages.len());
    for message in messages {
        let result = message.map(|m| convert::read_fdb_batch(m).and_then(|batch| backend.apply_fdb(&batch)));
        let go_on = matches!(result, Ok(Ok(_)));
        done.push(result);
        if !go_on {
            break;
        }
    }
    done
}
