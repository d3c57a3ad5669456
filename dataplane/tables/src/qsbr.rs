//! Quiescent-state based reclamation: when may memory be freed that a reader may still be looking at?
//!
//! # The contract
//!
//! A *reader* (a worker) registers with a [`Domain`] and, while it is *online*, may hold references to
//! anything published in that domain. Once per turn of its loop, when it holds none, it says so:
//! [`Reader::quiescent`]. Before it sleeps or blocks it goes [`offline`](Reader::offline), so that nobody
//! waits for it. The *control side* first unpublishes something (swaps a pointer, unlinks a node), then
//! [retires](Domain::retire) it; it is freed after a *grace period*: when every reader that was online at
//! that moment has been quiescent or offline since. A reader pays one load per turn, and one store
//! to a cache line of its own in those turns in which the control side has done something.
//!
//! The borrow checker enforces the readers' half: loading borrows the reader shared, `quiescent`,
//! `online` and `offline` borrow it mutably, so no reference lives across them.
//!
//! # The protocol, and why it is right
//!
//! There is a global `epoch`, written by the control side only, which counts retirements. Each reader has
//! a word `seen`, written by that reader only: 0 while offline, else a value that `epoch` had at its last
//! quiescent state. Retiring moves `epoch` to a new value `due` and tags the item with it. The item is
//! freed when every reader's `seen` is 0 or at least `due`.
//!
//! Let U be the store that unpublished the item, and R any reader. To show: when the item is freed, R
//! holds no reference to it, can get none, and everything R did with it happened before.
//!
//! 1. *R cannot get a reference after it has seen `due`.* U is before the release store of `due` to
//!    `epoch` (both under or before the control lock); `quiescent` and `online` load `epoch` with acquire.
//!    So when R stores `seen >= due`, U happened before, and R's later loads find what U left.
//! 2. *What R did before is over.* R's accesses are sequenced before its release store of the new `seen`
//!    (in `quiescent`, `offline` and `online` alike), which the freeing side's acquire load of `seen` reads.
//!    `online` needs release too: the freeing side may miss the 0 of a short absence and read only the
//!    value after it.
//! 3. *A reader that comes online is not overlooked.* The freeing side may read R's 0 while R is just
//!    storing its first `seen` and goes on to load pointers. R's order is: store `seen`, fence SeqCst, load the
//!    pointer; the freeing side's: U, fence SeqCst, load `seen`. The two fences are ordered one way or the
//!    other. If R's is first, the freeing side reads R's `seen` (or a later value) and not the old 0. If
//!    the freeing side's is first, R's pointer load finds what U left. This is the one place where a store
//!    must not pass a later load, and so the only full fence; it is paid on going online, never per loop.
//!    `quiescent` needs none: while it is on its way into memory the freeing side reads an older, smaller
//!    `seen`, which only makes it wait.
//!
//! A reader that reads an outdated `epoch` reports a smaller number than it could, which also only delays.
//!
//! Nothing but freeing waits for a reader. One that never reports (a stalled worker) lets retired memory
//! pile up: [`Domain::pending`] shows how much and since when, [`Domain::stalled`] names the reader and its
//! time, and those who make much garbage bound it
//! (see [`FdbConfig::retired_limit`](crate::fdb::FdbConfig::retired_limit)).
//!
//! The protocol runs under loom in `tests/loom_qsbr.rs`.

use std::{
    cell::Cell,
    collections::VecDeque,
    marker::PhantomData,
    ptr::NonNull,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::sync::{AtomicU64, CachePadded, Deadline, Mutex, MutexGuard, Ordering, fence, lock, pause};
pub use crate::{
    published::Published,
    slots::{SlotTable, SlotView},
};

/// A reader's `seen` while it is offline (or while nobody has the slot).
const OFFLINE: u64 = 0;

/// First and longest sleep between two looks at the readers while waiting for a grace period.
const FIRST_NAP: Duration = Duration::from_micros(20);
const LONGEST_NAP: Duration = Duration::from_millis(1);

/// How long [`Domain::retire`] waits, when there is no memory to queue an item, before it leaks it.
const LAST_RESORT_WAIT: Duration = Duration::from_millis(100);

/// A set of readers, and the memory that waits for them.
pub struct Domain {
    /// Written by the control side under `control`; read by every reader once per loop.
    epoch: CachePadded<AtomicU64>,
    /// One line per reader. Written by that reader only; read by the control side.
    seen: Box<[CachePadded<AtomicU64>]>,
    /// The control side's books. No reader takes this lock but to register and unregister.
    control: Mutex<Control>,
}

struct Control {
    /// Who has which slot of `Domain::seen`.
    registered: Vec<Option<Registered>>,
    /// In the order of `due`.
    limbo: VecDeque<Retired>,
    /// Sum over `limbo`.
    bytes: usize,
}

struct Registered {
    name: String,
    /// Set while the reader is known to be behind the epoch.
    lag: Option<Lag>,
}

/// The reader's `seen`, and when the epoch first moved past it.
#[derive(Clone, Copy)]
struct Lag {
    seen: u64,
    since: Instant,
}

struct Retired {
    due: u64,
    since: Instant,
    bytes: usize,
    item: Item,
}

/// Something from `Box::into_raw`, freed when this is dropped. Not a Box meanwhile: readers may be looking at it, and
/// to hand on a Box is to claim that nobody does.
struct Item(NonNull<dyn Send>);

// SAFETY: owns what it leads to, which is Send.
unsafe impl Send for Item {}

impl Drop for Item {
    fn drop(&mut self) {
        // SAFETY: from Box::into_raw, and ours alone by now: dropped after the grace period, or with the domain,
        // which no reader outlives.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// Why a reader could not be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// Every place is taken.
    #[error("cannot register reader {name:?}: all {max} places are taken")]
    Full {
        /// Who asked.
        name: String,
        /// The `max_readers` the domain was made with.
        max: usize,
    },
}

/// A grace period did not end in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no grace period within {waited:?}: still waiting for {}", names.join(", "))]
pub struct Stalled {
    /// The readers that had not reported when the time was up.
    pub names: Vec<String>,
    /// How long was waited.
    pub waited: Duration,
}

/// A reader that is online and has not reported for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StalledReader {
    /// The name it registered with.
    pub name: String,
    /// How long it has been known to be behind.
    pub since: Duration,
}

/// Memory that waits for readers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pending {
    /// Retired items that are not freed yet.
    pub items: usize,
    /// Their size, as far as those who retired them told.
    pub bytes_hint: usize,
    /// How long the oldest of them has waited; zero if there is none.
    pub oldest: Duration,
}

impl Domain {
    /// A domain with room for `max_readers` registered readers at a time.
    pub fn new(max_readers: usize) -> Arc<Domain> {
        Arc::new(Domain {
            epoch: CachePadded(AtomicU64::new(OFFLINE + 1)),
            seen: (0..max_readers).map(|_| CachePadded(AtomicU64::new(OFFLINE))).collect(),
            control: Mutex::new(Control {
                registered: (0..max_readers).map(|_| None).collect(),
                limbo: VecDeque::new(),
                bytes: 0,
            }),
        })
    }

    /// Makes a reader, offline at first. `name` is what [`Domain::stalled`] will call it.
    pub fn register(self: &Arc<Self>, name: &str) -> Result<Reader, RegisterError> {
        let mut control = self.lock();
        let Some(index) = control.registered.iter().position(Option::is_none) else {
            return Err(RegisterError::Full { name: name.to_owned(), max: self.seen.len() });
        };
        control.registered[index] = Some(Registered { name: name.to_owned(), lag: None });
        Ok(Reader { domain: Arc::clone(self), index, last: OFFLINE, not_sync: PhantomData })
    }

    /// Frees `item` once every reader that is online now has been quiescent. The caller must have
    /// unpublished it before; this call does not wait (but it frees what is due from earlier calls).
    pub fn retire(&self, item: Box<dyn Send>) {
        let bytes = size_of_val(&*item);
        self.retire_sized(item, bytes);
    }

    /// As [`Domain::retire`], for an item that owns more memory than its own size: `bytes` in all.
    pub fn retire_sized(&self, item: Box<dyn Send>, bytes: usize) {
        // SAFETY: a Box is its owner's, and comes from where Box::into_raw takes it.
        unsafe { self.retire_raw(NonNull::from(Box::leak(item)), bytes) }
    }

    /// As [`Domain::retire_sized`], for an item at which readers may be looking, so that it can't be a Box any more.
    ///
    /// # Safety
    /// The pointer comes from `Box::into_raw`, and is handed over for good.
    pub(crate) unsafe fn retire_raw(&self, item: NonNull<dyn Send>, bytes: usize) {
        let item = Item(item);
        let mut control = self.lock();
        if control.limbo.try_reserve(1).is_err() {
            // Not even a queue entry can be had. Freeing it here and now needs a grace period first;
            // if a stalled reader denies that too, a leak is the only safe way on.
            drop(control);
            if self.synchronize(LAST_RESORT_WAIT).is_err() {
                std::mem::forget(item);
            }
            return;
        }
        let since = Instant::now();
        let due = self.advance(&mut control, since);
        control.limbo.push_back(Retired { due, since, bytes, item });
        control.bytes += bytes;
        drop(control);
        self.collect();
    }

    /// Frees what readers can no longer hold. Returns how many items that were.
    pub fn collect(&self) -> usize {
        let mut freed = 0;
        let Some(up_to) = self.freeable() else { return 0 };
        // One at a time, and outside the lock: an item's drop may itself retire something.
        while let Some(item) = self.take_due(up_to) {
            drop(item);
            freed += 1;
        }
        freed
    }

    /// Items due up to here may be freed; nothing if none waits.
    fn freeable(&self) -> Option<u64> {
        let control = self.lock();
        if control.limbo.is_empty() {
            return None;
        }
        // What is retired after this look is none of its business: a reader that was offline now may
        // have come online by then. So with nobody online, the limit is the epoch and not infinity.
        Some(self.oldest_seen().min(self.epoch.load(Ordering::Relaxed)))
    }

    fn take_due(&self, up_to: u64) -> Option<Item> {
        let mut control = self.lock();
        if control.limbo.front()?.due > up_to {
            return None;
        }
        let Retired { bytes, item, .. } = control.limbo.pop_front()?;
        control.bytes -= bytes;
        Some(item)
    }

    /// How much memory waits for readers.
    pub fn pending(&self) -> Pending {
        let control = self.lock();
        Pending {
            items: control.limbo.len(),
            bytes_hint: control.bytes,
            oldest: control.limbo.front().map_or(Duration::ZERO, |first| first.since.elapsed()),
        }
    }

    /// Waits for a grace period: until every reader that is online now has been quiescent or offline.
    /// Sleeps in between, from 20 microseconds up to a millisecond. A thread must not call this while a
    /// reader of its own is online: it would wait for itself.
    pub fn synchronize(&self, timeout: Duration) -> Result<(), Stalled> {
        let due = self.advance(&mut self.lock(), Instant::now());
        let deadline = Deadline::after(timeout);
        let mut nap = FIRST_NAP;
        while self.oldest_seen() < due {
            let left = deadline.left();
            if left.is_zero() {
                let names = self.behind(due);
                // Whoever was late may have reported between the two looks.
                if names.is_empty() {
                    break;
                }
                return Err(Stalled { names, waited: deadline.waited() });
            }
            pause(nap.min(left));
            nap = (nap * 2).min(LONGEST_NAP);
        }
        self.collect();
        Ok(())
    }

    /// The online readers that have not reported a quiescent state for longer than this, by name.
    ///
    /// A reader's time runs from when the control side first had something new for it to see; each call
    /// gives it something, so a monitor that calls this every now and then finds a stalled reader within
    /// two calls, also when nothing is waiting to be freed.
    pub fn stalled(&self, longer_than: Duration) -> Vec<StalledReader> {
        let mut control = self.lock();
        let now = Instant::now();
        self.advance(&mut control, now);
        (control.registered.iter().flatten())
            .filter_map(|reader| {
                let since = now.saturating_duration_since(reader.lag?.since);
                (since > longer_than).then(|| StalledReader { name: reader.name.clone(), since })
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Control> {
        lock(&self.control)
    }

    /// Starts a grace period: it is over when every `seen` is offline or at least the returned value.
    fn advance(&self, control: &mut Control, now: Instant) -> u64 {
        // Only written under the lock, which the caller holds.
        let due = self.epoch.load(Ordering::Relaxed) + 1;
        // Release pairs with the acquire loads in `quiescent` and `online`: essay, step 1.
        self.epoch.store(due, Ordering::Release);
        for (registered, seen) in control.registered.iter_mut().zip(&self.seen) {
            let Some(registered) = registered else { continue };
            // Only for the books: nothing is freed by what is read here.
            let seen = seen.load(Ordering::Relaxed);
            registered.lag = match registered.lag {
                _ if seen == OFFLINE || seen >= due => None,
                Some(lag) if lag.seen == seen => Some(lag),
                _ => Some(Lag { seen, since: now }),
            };
        }
        due
    }

    /// The smallest epoch among the online readers' reports; `u64::MAX` if none is online.
    fn oldest_seen(&self) -> u64 {
        // Pairs with the fence in `online`: essay, step 3.
        fence(Ordering::SeqCst);
        (self.seen.iter())
            // Acquire pairs with the readers' release stores of `seen`: essay, step 2.
            .map(|seen| seen.load(Ordering::Acquire))
            .filter(|&seen| seen != OFFLINE)
            .min()
            .unwrap_or(u64::MAX)
    }

    fn behind(&self, due: u64) -> Vec<String> {
        let control = self.lock();
        (control.registered.iter().zip(&self.seen))
            .filter(|(_, seen)| (OFFLINE + 1..due).contains(&seen.load(Ordering::Relaxed)))
            .filter_map(|(registered, _)| Some(registered.as_ref()?.name.clone()))
            .collect()
    }
}

impl std::fmt::Debug for Domain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Domain").field("max_readers", &self.seen.len()).finish_non_exhaustive()
    }
}

/// One thread's right to look at what a [`Domain`] protects. May be moved to another thread, not shared.
/// Dropping it unregisters it.
#[derive(Debug)]
pub struct Reader {
    domain: Arc<Domain>,
    /// Our slot of `Domain::seen`.
    index: usize,
    /// What we last stored there.
    last: u64,
    not_sync: PhantomData<Cell<()>>,
}

impl Reader {
    /// From now on the control side waits for this reader. No effect if it is online already.
    pub fn online(&mut self) {
        if self.is_online() {
            return;
        }
        // Acquire pairs with the release store in `advance`: essay, step 1.
        self.last = self.domain.epoch.load(Ordering::Acquire);
        // Release: what we did before an earlier `offline` is over, for whoever reads only this: step 2.
        self.slot().store(self.last, Ordering::Release);
        // Pairs with the fence in `oldest_seen`: our report is seen, or we see what was unpublished: step 3.
        fence(Ordering::SeqCst);
    }

    /// Nobody waits for this reader from now on: before it sleeps, blocks or ends.
    pub fn offline(&mut self) {
        self.last = OFFLINE;
        // Release pairs with the acquire in `oldest_seen`: essay, step 2.
        self.slot().store(OFFLINE, Ordering::Release);
    }

    /// Reports that this reader holds nothing: once per turn of the loop. No effect while offline.
    #[inline]
    pub fn quiescent(&mut self) {
        // Acquire pairs with the release store in `advance`: essay, step 1. (A plain load on x86.)
        let epoch = self.domain.epoch.load(Ordering::Acquire);
        if epoch != self.last && self.is_online() {
            self.last = epoch;
            // Release pairs with the acquire in `oldest_seen`: essay, step 2.
            self.slot().store(epoch, Ordering::Release);
        }
    }

    /// Whether the control side waits for this reader.
    #[inline]
    pub fn is_online(&self) -> bool {
        self.last != OFFLINE
    }

    /// The domain this reader belongs to.
    pub fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    /// # Panics
    /// Unless this reader keeps what `domain` protects from being freed.
    #[inline]
    pub(crate) fn assert_protects(&self, domain: &Arc<Domain>) {
        assert!(
            Arc::ptr_eq(&self.domain, domain) && self.is_online(),
            "a reader must be online, and of the domain of what it reads"
        );
    }

    fn slot(&self) -> &AtomicU64 {
        &self.domain.seen[self.index]
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.offline();
        self.domain.lock().registered[self.index] = None;
    }
}
