//! How control gives queues to a worker and takes them back.
//!
//! A queue handle has one owner, as a Rust value: control moves it into a command, the worker moves it into its own
//! lists, and a removal moves it back. So a queue can't be polled by two threads, and a port can't be closed while a
//! worker still has one of its queues.
//!
//! The box that a command came in is sent back as the answer, so that the worker neither allocates nor frees.

use crate::forwarding::TxqId;
use rtrb::{Consumer, Producer, RingBuffer};
use std::time::{Duration, Instant};
use weft_port::{RxQueue, TxQueue};

/// A receive queue and the slot of its port.
pub struct RxBinding {
    /// The port's slot.
    pub slot: u16,
    /// Which life of the slot.
    pub generation: u16,
    /// The queue.
    pub queue: RxQueue,
}

/// A request to a worker. The vectors of a `Remove` come back filled.
pub enum Command {
    /// Poll these and send on those.
    Add {
        /// The port's generation, which packets for `tx` must carry.
        generation: u16,
        /// Receive queues.
        rx: Vec<RxBinding>,
        /// Transmit queues.
        tx: Vec<(TxqId, TxQueue)>,
    },
    /// Give back every queue of a slot; what is staged for them is dropped with `port-gone`.
    Remove {
        /// The port's slot.
        slot: u16,
        /// Filled by the worker; needs room for the port's queues.
        rx: Vec<RxBinding>,
        /// Filled by the worker; needs room for the port's queues.
        tx: Vec<(TxqId, TxQueue)>,
    },
    /// Nothing: the answer says that everything handed over before has been looked at.
    Fence,
}

/// The worker did not answer in time.
#[derive(Debug, thiserror::Error)]
#[error("worker {worker} did not answer within {waited:?}: it is stalled or was stopped")]
pub struct NoAnswer {
    /// Its number.
    pub worker: usize,
    /// How long was waited.
    pub waited: Duration,
}

/// A request under way: its number tells a late answer from the one that is waited for.
pub(super) struct Request {
    number: u64,
    pub(super) command: Command,
}

/// Control's end.
pub struct Mailbox {
    worker: usize,
    number: u64,
    to: Producer<Box<Request>>,
    from: Consumer<Box<Request>>,
}

/// The worker's end.
pub struct MailboxEnd {
    from: Consumer<Box<Request>>,
    to: Producer<Box<Request>>,
}

/// Makes a mailbox for one worker.
pub fn mailbox(worker: usize) -> (Mailbox, MailboxEnd) {
    // One request at a time is under way; a second place covers one that control gave up waiting for.
    let (to, from_control) = RingBuffer::new(2);
    let (to_control, from) = RingBuffer::new(4);
    (Mailbox { worker, number: 0, to, from }, MailboxEnd { from: from_control, to: to_control })
}

impl Mailbox {
    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// If the worker does not answer within `timeout`. A later answer is not taken for another request's: it is
    /// dropped, and the queues in it are closed.
    pub fn call(&mut self, command: Command, timeout: Duration) -> Result<Command, NoAnswer> {
        let started = Instant::now();
        let late = |worker| NoAnswer { worker, waited: started.elapsed() };
        self.number += 1;
        let number = self.number;
        self.to.push(Box::new(Request { number, command })).map_err(|_| late(self.worker))?;
        loop {
            while let Ok(answer) = self.from.pop() {
                if answer.number == number {
                    return Ok(answer.command);
                }
            }
            if started.elapsed() > timeout {
                return Err(late(self.worker));
            }
            std::thread::sleep(Duration::from_micros(20));
        }
    }
}

impl MailboxEnd {
    pub(super) fn is_empty(&self) -> bool {
        self.from.is_empty()
    }

    pub(super) fn take(&mut self) -> Option<Box<Request>> {
        self.from.pop().ok()
    }

    pub(super) fn answer(&mut self, r: Box<Request>) {
        // Control keeps at most two requests under way and the ring has four places, so there is room; were there
        // none, the queues in `r` would be closed with it, which is what control assumes of a lost answer.
        drop(self.to.push(r));
    }
}
