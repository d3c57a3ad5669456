//! What DPDK's callbacks write and the queues read.

use std::cell::UnsafeCell;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::presence::{Inside, Presence};
use super::vring::{Dialect, Vring};

/// What happened at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VhostEvent {
    /// A guest's driver is ready.
    Connected,
    /// The guest left, crashed, or reset its device. It may come back.
    Disconnected,
    /// A ring was enabled or disabled: its number at the guest (even: the guest receives, odd: it sends; pair n has
    /// rings 2n and 2n+1) and whether it is enabled now.
    QueueEnabled(u16, bool),
}

/// What the owner of a port does at its events.
///
/// Both are called on DPDK's one thread for all guests (or in [`super::VhostPort::close`], on the caller's). A
/// panic in them ends the process.
pub trait VhostHooks: Send + Sync {
    /// Called when a guest has left and no queue of this port is inside a call any more. Returns when no worker
    /// holds anything that it derived from the guest. Bounded: other guests wait meanwhile.
    fn wait_grace_period(&self);

    /// Called at each event. Must not block: DPDK holds the guest's ring locks for [`VhostEvent::QueueEnabled`], on
    /// which workers spin.
    fn event(&self, event: VhostEvent);
}

/// State of one ring that both sides look at. Written by callbacks, read by the ring's owner.
#[derive(Debug, Default)]
struct Ring {
    enabled: AtomicBool,
    /// Raised whenever the ring may have been set up anew.
    epoch: AtomicU32,
    /// How often librte_vhost may still be asked for a packet that it wants to send for the guest. Written by callbacks, and by the
    /// owner; one that is lost costs a try.
    announce: AtomicU32,
    /// The ring itself, unless librte_vhost serves it. Its owner's while inside with the door open, the callbacks' otherwise.
    vring: UnsafeCell<Option<Vring>>,
}

// SAFETY: all but the last member are atomics. That one has one user at a time: the ring's owner between `enter` and the end of its
// guard, or, while the door is shut and `Presence::wait_for` has returned, the thread that holds the doorkeeper's lock.
unsafe impl Sync for Ring {}

/// Tries at [`Ring::announce`]: milliseconds of polling.
const ANNOUNCE_TRIES: u32 = 100_000;

/// What the owner of a ring may use while its guard lives.
pub(super) struct Entered<'a> {
    /// The device's id at librte_vhost.
    pub(super) vid: i32,
    /// The ring, or `None` if librte_vhost is to be called for it.
    pub(super) vring: Option<&'a mut Vring>,
    pub(super) inside: Inside<'a>,
}

/// State of one port. Read by the owners of its queues at every burst, written at events only.
pub(super) struct Shared {
    pub(super) path: PathBuf,
    pub(super) hooks: Arc<dyn VhostHooks>,
    /// The device of the guest that is connected and ready, or -1.
    vid: AtomicI32,
    /// The same for the owners of queues; -1 also while a message is under way that may change rings or memory.
    door: AtomicI32,
    /// The device's rings are served by weft. Written while the door is shut.
    native: AtomicBool,
    /// Feature word that was negotiated with it.
    features: AtomicU64,
    /// The rings that the port has, in the guest's order.
    rings: Box<[Ring]>,
    /// Number of rings that the guest has enabled beyond those.
    unserved: AtomicU32,
    presence: Presence,
    /// For [`Shared::with_device`], whose slot has one user at a time.
    control: Mutex<()>,
    /// Held while a callback changes who may use the rings: librte_vhost runs them on its own thread, and on the one that closes the
    /// port. Owners of queues never take it.
    doorkeeper: Mutex<()>,
    /// Every connection at the socket, for callbacks only. There may be two when a guest restarts quickly.
    connections: Mutex<Vec<Connection>>,
}

/// One connection and the rings that it has enabled, ready or not.
struct Connection {
    vid: i32,
    enabled: Vec<bool>,
    /// Its memory is mapped: a message about it has been handled, and since then none has failed.
    mapped: bool,
    /// A packet that announces the guest was asked for, perhaps before its rings were there; until they are told.
    announce: bool,
}

/// What a message of the front-end is about, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    /// The guest's memory: until it has been handled, it is not known what is mapped.
    Memory,
    /// An announcement of the guest is asked for (after its migration).
    Announce,
    /// A ring is to rest.
    Disable(u16),
    /// Whatever else; it may move rings.
    Other,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "vhost-user port {} (device {})", self.path.display(), self.vid.load(Ordering::Relaxed))
    }
}

impl Shared {
    pub(super) fn new(path: PathBuf, queue_pairs: u16, hooks: Arc<dyn VhostHooks>) -> Self {
        let rings = usize::from(queue_pairs) * 2;
        Self {
            path,
            hooks,
            vid: AtomicI32::new(-1),
            door: AtomicI32::new(-1),
            native: AtomicBool::new(false),
            features: AtomicU64::new(0),
            rings: (0..rings).map(|_| Ring::default()).collect(),
            unserved: AtomicU32::new(0),
            // One slot for each ring's owner, and the last one for control.
            presence: Presence::new(rings + 1),
            control: Mutex::new(()),
            doorkeeper: Mutex::new(()),
            connections: Mutex::new(Vec::new()),
        }
    }

    // ---- queue owners

    /// The device and the ring while the returned guard lives, if there is a guest that has this ring enabled.
    ///
    /// # Safety
    /// The caller owns the ring's queue, and no guard of an earlier call lives.
    #[inline(always)]
    pub(super) unsafe fn enter(&self, ring: u16) -> Option<Entered<'_>> {
        // A first look without the barrier: nothing is used before the second one below.
        if self.door.load(Ordering::Relaxed) < 0 || !self.ready(ring) {
            return None;
        }
        let inside = self.presence.enter(usize::from(ring));
        // Acquire: pairs with the Release in `open`, so that device and rings are set up for us.
        let vid = self.door.load(Ordering::Acquire);
        if vid < 0 {
            return None;
        }
        // Relaxed: written before the door was opened.
        if !self.native.load(Ordering::Relaxed) {
            return Some(Entered { vid, vring: None, inside });
        }
        // SAFETY: we are inside and the door is open, so nobody else uses it; the caller has no other reference to it.
        let vring = unsafe { (*self.rings[usize::from(ring)].vring.get()).as_mut() }?;
        Some(Entered { vid, vring: Some(vring), inside })
    }

    /// Whether librte_vhost is to be asked for a packet of its own to send by this ring. It may have to be asked more than once, as it
    /// gives nothing while it handles a message.
    #[inline(always)]
    pub(super) fn is_announcing(&self, ring: u16) -> bool {
        // Relaxed: a hint; librte_vhost knows.
        self.rings[usize::from(ring)].announce.load(Ordering::Relaxed) != 0
    }

    /// It was asked.
    #[cold]
    pub(super) fn announced(&self, ring: u16, came: bool) {
        let tries = &self.rings[usize::from(ring)].announce;
        let left = if came { 0 } else { tries.load(Ordering::Relaxed).saturating_sub(1) };
        tries.store(left, Ordering::Relaxed);
    }

    /// A hint: true when a guest is there and has this ring enabled.
    #[inline(always)]
    pub(super) fn ready(&self, ring: u16) -> bool {
        self.vid.load(Ordering::Relaxed) >= 0 && self.rings[usize::from(ring)].enabled.load(Ordering::Relaxed)
    }

    /// Changes whenever the ring may have been set up anew.
    #[inline(always)]
    pub(super) fn epoch(&self, ring: u16) -> u32 {
        // Acquire: pairs with the Release in `set_ring`.
        self.rings[usize::from(ring)].epoch.load(Ordering::Acquire)
    }

    // ---- control

    /// Calls `f` with the device's id, if a guest is connected; the device does not go away meanwhile.
    pub(super) fn with_device<R>(&self, f: impl FnOnce(i32) -> R) -> Option<R> {
        let _one = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let _inside = self.presence.enter(self.rings.len());
        let vid = self.vid.load(Ordering::Acquire);
        (vid >= 0).then(|| f(vid))
    }

    pub(super) fn features(&self) -> u64 {
        self.features.load(Ordering::Relaxed)
    }

    pub(super) fn rings(&self) -> u16 {
        self.rings.len() as u16
    }

    pub(super) fn unserved(&self) -> u32 {
        self.unserved.load(Ordering::Relaxed)
    }

    // ---- callbacks: DPDK's thread for messages, or the one that closes the port

    fn connections(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn connected(&self, vid: i32) {
        let mut connections = self.connections();
        connections.retain(|c| c.vid != vid);
        connections.push(Connection { vid, enabled: Vec::new(), mapped: false, announce: false });
    }

    pub(super) fn disconnected(&self, vid: i32) {
        self.connections().retain(|c| c.vid != vid);
    }

    fn keep_door(&self) -> MutexGuard<'_, ()> {
        self.doorkeeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a ready device the port's. False when another guest has the port.
    pub(super) fn publish(&self, vid: i32, features: u64) -> bool {
        let _alone = self.keep_door();
        let current = self.vid.load(Ordering::Relaxed);
        if current >= 0 && current != vid {
            return false;
        }
        {
            let connections = self.connections();
            let enabled = connections.iter().find(|c| c.vid == vid).map_or(&[][..], |c| &c.enabled);
            for (i, _) in self.rings.iter().enumerate() {
                self.set_ring(i, enabled.get(i).copied().unwrap_or(false));
            }
            self.count_unserved(enabled);
        }
        self.features.store(features, Ordering::Relaxed);
        // Release: pairs with the Acquire in `with_device`.
        self.vid.store(vid, Ordering::Release);
        self.open(vid, features);
        true
    }

    /// Sets the rings up as librte_vhost has them now, and lets their owners in. The door is shut.
    fn open(&self, vid: i32, features: u64) {
        let dialect = Dialect::of(features);
        let (mapped, announce) = {
            let mut connections = self.connections();
            let connection = connections.iter_mut().find(|c| c.vid == vid);
            connection.map_or((false, false), |c| (c.mapped, std::mem::take(&mut c.announce)))
        };
        if announce && let Some(first) = self.rings.get(1) {
            first.announce.store(ANNOUNCE_TRIES, Ordering::Relaxed);
        }
        self.native.store(dialect.is_some(), Ordering::Relaxed);
        for (i, ring) in self.rings.iter().enumerate() {
            // SAFETY: the door is shut and nobody inside, and the doorkeeper's lock is held, so this is the only use. The device exists
            // in its callbacks, its memory is mapped, and before librte_vhost changes rings or memory the door is shut again.
            unsafe {
                *ring.vring.get() = dialect.filter(|_| mapped).and_then(|d| Vring::of(vid, i as u16, d));
            }
        }
        // Release: pairs with the Acquire in `enter`; device and rings are seen as set up by whoever sees the id.
        self.door.store(vid, Ordering::Release);
    }

    /// Shuts the door and waits until no owner is inside. Owners that serve their rings themselves leave soon, whatever locks
    /// librte_vhost holds here: they take none. Then tells librte_vhost how far the rings were served.
    fn shut(&self) {
        // SeqCst, as `Presence` asks for.
        self.door.store(-1, Ordering::SeqCst);
        self.presence.wait_for(0..self.rings.len());
        for ring in &self.rings {
            // SAFETY: the door is shut and nobody inside, and the doorkeeper's lock is held, so this is the only use; the device exists.
            unsafe {
                if let Some(mut v) = (*ring.vring.get()).take() {
                    v.hand_back();
                }
            }
        }
    }

    /// A message of the front-end is about to be handled. It may change rings and memory of a device; where librte_vhost serves the
    /// rings, its locks are for that.
    pub(super) fn message_begins(&self, vid: i32, message: Message) {
        let _alone = self.keep_door();
        if self.door.load(Ordering::Relaxed) == vid && self.native.load(Ordering::Relaxed) {
            self.shut();
        }
        if message == Message::Memory {
            self.connection(vid, |c| c.mapped = false);
        }
    }

    /// A message was handled without an error.
    pub(super) fn message_ends(&self, vid: i32, message: Message, features: Option<u64>) {
        let _alone = self.keep_door();
        self.connection(vid, |c| {
            c.mapped |= message == Message::Memory;
            c.announce |= message == Message::Announce;
        });
        if self.vid.load(Ordering::Relaxed) != vid || !self.native.load(Ordering::Relaxed) {
            return;
        }
        // librte_vhost tells it later, when the front-end already knows.
        if let Message::Disable(ring) = message
            && let Some(ring) = self.rings.get(usize::from(ring))
        {
            ring.enabled.store(false, Ordering::Relaxed);
        }
        if self.door.load(Ordering::Relaxed) < 0 {
            self.open(vid, features.unwrap_or(self.features()));
        }
    }

    fn connection(&self, vid: i32, change: impl FnOnce(&mut Connection)) {
        if let Some(c) = self.connections().iter_mut().find(|c| c.vid == vid) {
            change(c);
        }
    }

    /// Takes the device from the port and waits until nobody uses it. False if it was not the port's.
    pub(super) fn unpublish(&self, vid: i32) -> bool {
        let _alone = self.keep_door();
        if self.vid.compare_exchange(vid, -1, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return false;
        }
        self.shut();
        self.presence.wait_for(self.rings.len()..self.rings.len() + 1);
        for ring in &self.rings {
            ring.enabled.store(false, Ordering::Relaxed);
            ring.announce.store(0, Ordering::Relaxed);
        }
        self.features.store(0, Ordering::Relaxed);
        self.unserved.store(0, Ordering::Relaxed);
        true
    }

    /// Notes a ring's state. True if the port's guest is meant and the port has the ring.
    pub(super) fn ring_changed(&self, vid: i32, ring: u16, enabled: bool) -> bool {
        let ring = usize::from(ring);
        let mut connections = self.connections();
        let Some(connection) = connections.iter_mut().find(|c| c.vid == vid) else { return false };
        if connection.enabled.len() <= ring {
            connection.enabled.resize(ring + 1, false);
        }
        connection.enabled[ring] = enabled;
        if self.vid.load(Ordering::Relaxed) != vid {
            return false;
        }
        self.count_unserved(&connection.enabled);
        if ring < self.rings.len() {
            self.set_ring(ring, enabled);
        }
        ring < self.rings.len()
    }

    pub(super) fn features_changed(&self, vid: i32, features: u64) {
        if self.vid.load(Ordering::Relaxed) == vid {
            self.features.store(features, Ordering::Relaxed);
        }
    }

    fn set_ring(&self, ring: usize, enabled: bool) {
        let ring = &self.rings[ring];
        // The epoch first: an owner that sees the ring enabled also sees that it is new (Release/Acquire on epoch
        // is enough as a late look only delays the owner's set-up by a burst).
        ring.epoch.fetch_add(1, Ordering::Release);
        ring.enabled.store(enabled, Ordering::Relaxed);
    }

    fn count_unserved(&self, enabled: &[bool]) {
        let n = enabled.iter().skip(self.rings.len()).filter(|e| **e).count();
        self.unserved.store(n as u32, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NoHooks;

    impl VhostHooks for NoHooks {
        fn wait_grace_period(&self) {}

        fn event(&self, _: VhostEvent) {}
    }

    /// What is known of a connection after its messages; of each, whether it was handled without an error.
    fn after(messages: &[(Message, bool)]) -> (bool, bool) {
        let shared = Shared::new("/x".into(), 1, Arc::new(NoHooks));
        shared.connected(5);
        for (message, handled) in messages {
            shared.message_begins(5, *message);
            if *handled {
                shared.message_ends(5, *message, None);
            }
        }
        let connections = shared.connections();
        (connections[0].mapped, connections[0].announce)
    }

    #[test]
    fn memory_counts_as_mapped_only_after_a_message_about_it_succeeded() {
        assert_eq!(after(&[(Message::Other, true)]), (false, false));
        assert_eq!(after(&[(Message::Memory, true), (Message::Other, true)]), (true, false));
        assert_eq!(
            after(&[(Message::Memory, true), (Message::Memory, false), (Message::Other, true)]),
            (false, false)
        );
    }

    #[test]
    fn an_announcement_waits_for_the_rings() {
        assert_eq!(
            after(&[(Message::Announce, true), (Message::Other, true), (Message::Memory, true)]),
            (true, true)
        );
    }
}
