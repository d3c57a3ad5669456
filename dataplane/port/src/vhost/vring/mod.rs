//! A guest's split virtqueue (Virtual I/O Device specification 1.2, section 2.7), served here and not by librte_vhost.
//!
//! librte_vhost keeps the control path: sockets, messages, memory mappings, features. Between two of its messages
//! ([`super::shared`] says how that is known) it tells where rings and memory are, and a [`Vring`] takes packets
//! ([`dequeue`](Vring::dequeue)) and gives them ([`enqueue`](Vring::enqueue)). What that gains over `rte_vhost_dequeue_burst` and
//! `rte_vhost_enqueue_burst`: no lock, no barrier in each burst ([`bell`]), all descriptors of a burst read
//! together, and then all its frames, so that their cache lines come over from the guest's core at the same time; mbufs written once.
//!
//! The common case is a frame in one buffer, described by one descriptor. Everything else (chains, tables of descriptors, buffers
//! over several memory regions, mergeable buffers, migration's dirty log) takes the general way in the same files.
//!
//! # A hostile guest
//!
//! It may write anything into rings and memory at any time. Each index, address and length is read once and checked before it is used;
//! ring positions are masked. A descriptor that makes no sense costs its frame, which is counted ([`Losses`]).
//!
//! # Who owns a `Vring`
//!
//! The owner of the queue while it is inside a call ([`super::presence`]), DPDK's thread for messages otherwise.

mod bell;
mod chain;
mod dequeue;
mod enqueue;
mod memory;
#[cfg(test)]
mod tests;

use core::mem::offset_of;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, Ordering, fence};

use dpdk_sys as sys;

use super::features;
use bell::Bell;
use memory::{Desc, Memory};

/// Most packets that one step takes from or gives to a ring: what fits a burst.
const BATCH: usize = 64;

/// The guest need not say when it makes buffers available: the ring is polled.
const NO_NOTIFY: u16 = 1;

/// Frames that a guest meant to send and that did not become packets, since last asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// Its descriptors made no sense: outside of its memory, an endless chain, no or too much data.
    pub bad_descriptor: u32,
    /// There were no buffers for a frame that needs several.
    pub no_mbuf: u32,
}

impl Losses {
    /// Whether there were any.
    #[inline(always)]
    pub fn any(self) -> bool {
        self.bad_descriptor | self.no_mbuf != 0
    }
}

/// The head of the available and of the used ring, which have the same form.
#[repr(C)]
struct Head {
    flags: AtomicU16,
    index: AtomicU16,
}

/// An entry of the used ring: which chain, and how many bytes were written to it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Used {
    id: u32,
    len: u32,
}

const _: () = assert!(size_of::<Head>() == 4 && offset_of!(Head, index) == 2 && size_of::<Used>() == 8);

/// How a device's rings are to be read, negotiated once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dialect {
    /// Bytes of the header in front of each frame (`struct virtio_net_hdr`).
    header: u8,
    /// A frame may be spread over several buffers of the ring.
    mergeable: bool,
    by_index: bool,
    /// The guest is being migrated: what is written to its memory is to be logged.
    log: bool,
}

impl Dialect {
    /// By the negotiated feature word; `None` for rings that librte_vhost has to serve.
    pub(super) fn of(word: u64) -> Option<Self> {
        if word & (features::RING_PACKED | features::IOMMU_PLATFORM) != 0 {
            return None;
        }
        Some(Self {
            header: if word & (features::MRG_RXBUF | features::VERSION_1) != 0 { 12 } else { 10 },
            mergeable: word & features::MRG_RXBUF != 0,
            by_index: word & features::RING_EVENT_IDX != 0,
            log: word & features::LOG_ALL != 0,
        })
    }
}

/// One ring.
#[derive(Debug)]
pub(super) struct Vring {
    desc: NonNull<u64>,
    avail: NonNull<u16>,
    used: NonNull<u16>,
    /// Number of descriptors less one.
    mask: u16,
    /// The next entry of the available ring to take.
    next_avail: u16,
    /// The next entry of the used ring to write.
    next_used: u16,
    dialect: Dialect,
    bell: Bell,
    memory: Memory,
    device: i32,
    ring: u16,
    losses: Losses,
}

// SAFETY: the pointers lead to memory that the process shares with a guest, bound to no thread.
unsafe impl Send for Vring {}

impl Vring {
    /// The ring `ring` of a device, or `None` if the guest has not set it up or set it up wrongly (not aligned, or beyond its memory).
    ///
    /// # Safety
    /// The device exists, and librte_vhost does not change its rings and memory during this call. The result may be used until it does.
    pub(super) unsafe fn of(vid: i32, ring: u16, dialect: Dialect) -> Option<Self> {
        // SAFETY: plain numbers and pointers, to be filled in.
        let mut vring: sys::rte_vhost_vring = unsafe { core::mem::zeroed() };
        let (mut avail, mut used) = (0, 0);
        // SAFETY: the device exists; the calls check the ring's number.
        let known = unsafe {
            sys::rte_vhost_get_vhost_vring(vid, ring, &mut vring) == 0
                && sys::rte_vhost_get_vring_base(vid, ring, &mut avail, &mut used) == 0
        };
        if !known {
            return None;
        }
        // SAFETY: the device exists; the caller keeps to the table's lifetime.
        let memory = unsafe { Memory::of(vid) };
        // SAFETY: `new` makes sure that the areas are in the memory, which stays as long as the caller says.
        let mut this = unsafe {
            // The union's only other member is the same pointer to packed descriptors.
            let areas = (
                vring.__bindgen_anon_1.desc.cast(),
                vring.__bindgen_anon_2.avail.cast(),
                vring.__bindgen_anon_3.used.cast(),
            );
            Self::new(areas, vring.size, dialect, vring.callfd, memory)?
        };
        (this.next_avail, this.next_used) = (avail, used);
        (this.device, this.ring) = (vid, ring);
        this.be_polled();
        Some(this)
    }

    /// A ring whose three areas (descriptors, available, used) are given. `None` if they are not in `memory`, as long as `size` asks
    /// for: librte_vhost knows where they begin, but size and features may have changed since it looked where they end.
    ///
    /// # Safety
    /// `memory` stays where it is as long as the result is used.
    unsafe fn new(
        areas: (*mut u64, *mut u16, *mut u16),
        size: u16,
        dialect: Dialect,
        call: i32,
        memory: Memory,
    ) -> Option<Self> {
        let (desc, avail, used) = (NonNull::new(areas.0)?, NonNull::new(areas.1)?, NonNull::new(areas.2)?);
        let aligned =
            desc.addr().get() % 16 == 0 && avail.addr().get() % 2 == 0 && used.addr().get() % 4 == 0;
        // Section 2.7: a power of two, up to 32,768. Positions are masked.
        if !aligned || !size.is_power_of_two() {
            return None;
        }
        // Section 2.7: with the two words at the rings' ends that are for notification by index.
        let (n, ends) = (usize::from(size), if dialect.by_index { 2 } else { 0 });
        let whole = memory.holds(desc.cast(), 16 * n)
            && memory.holds(avail.cast(), 4 + 2 * n + ends)
            && memory.holds(used.cast(), 4 + 8 * n + ends);
        if !whole {
            return None;
        }
        Some(Self {
            desc,
            avail,
            used,
            mask: size - 1,
            next_avail: 0,
            next_used: 0,
            dialect,
            bell: Bell::new(call, dialect.by_index),
            memory,
            device: -1,
            ring: 0,
            losses: Losses::default(),
        })
    }

    /// Tells the guest not to kick. With notification by index it kicks once in 65,536 times at most.
    fn be_polled(&mut self) {
        if !self.dialect.by_index {
            self.used_head().flags.store(NO_NOTIFY, Ordering::Relaxed);
        }
    }

    /// Has librte_vhost know how far the ring was served, for the front-end's question and for whoever serves it next. A guest that is
    /// owed a look gets it.
    ///
    /// # Safety
    /// The device that the ring was made of exists.
    pub(super) unsafe fn hand_back(&mut self) {
        self.settle();
        // SAFETY: the device exists.
        unsafe { sys::rte_vhost_set_vring_base(self.device, self.ring, self.next_avail, self.next_used) };
    }

    /// Takes a packet that librte_vhost wants to send for the guest (the RARP that announces it after its migration), without
    /// a look at the ring. The pointer is null if there is none after all.
    ///
    /// # Safety
    /// The device exists; `pool` is a live pool.
    #[cold]
    pub(super) unsafe fn announcement(&mut self, pool: *mut sys::rte_mempool) -> *mut sys::rte_mbuf {
        let mut m = core::ptr::null_mut();
        // SAFETY: the device exists. Asked for one packet, librte_vhost gives its own first, and takes none of the ring then;
        // should it take one, it did so from where we are, and we go on from where it is.
        unsafe {
            self.hand_back();
            if sys::rte_vhost_dequeue_burst(self.device, self.ring, pool, &mut m, 1) != 1 {
                m = core::ptr::null_mut();
            }
            sys::rte_vhost_get_vring_base(self.device, self.ring, &mut self.next_avail, &mut self.next_used);
        }
        m
    }

    /// What was lost since this was last asked.
    #[inline(always)]
    pub(super) fn take_losses(&mut self) -> Losses {
        core::mem::take(&mut self.losses)
    }

    /// Has another look at whether the guest wants to be interrupted: see [`bell`].
    #[inline(always)]
    pub(super) fn settle(&mut self) {
        if self.bell.is_owed() {
            self.settle_now();
        }
    }

    #[inline(always)]
    pub(super) fn is_owed(&self) -> bool {
        self.bell.is_owed()
    }

    fn settle_now(&mut self) {
        let (flags, event) = self.wishes();
        // SAFETY: as in `wishes`.
        let (flags, event) = unsafe { (flags.as_ref(), event.as_ref()) };
        self.bell.settle(self.next_used, flags, event);
    }

    // ---- the three areas

    #[inline(always)]
    fn head(&self, area: NonNull<u16>) -> &Head {
        // SAFETY: each of the two areas begins with it; atomics, as the guest reads and writes them, too.
        unsafe { area.cast::<Head>().as_ref() }
    }

    #[inline(always)]
    fn used_head(&self) -> &Head {
        self.head(self.used)
    }

    /// The guest's words on interrupts: flags, and the index that it waits for (the flags again where that is not negotiated, as
    /// the ring is then not known to go on for so long).
    #[inline(always)]
    fn wishes(&self) -> (NonNull<AtomicU16>, NonNull<AtomicU16>) {
        let flags = NonNull::from(&self.head(self.avail).flags);
        if !self.dialect.by_index {
            return (flags, flags);
        }
        // SAFETY: behind the last entry of the available ring (section 2.7.6), which is as long in this dialect.
        (flags, unsafe { self.avail.add(2 + usize::from(self.mask) + 1) }.cast())
    }

    /// Entries that the guest has made available and that were not taken. A guest that claims more than the ring has is held to that.
    #[inline(always)]
    fn available(&self) -> u16 {
        // Acquire: pairs with the driver's barrier before it raises the index; entries and descriptors are written by then.
        let index = self.head(self.avail).index.load(Ordering::Acquire);
        index.wrapping_sub(self.next_avail).min(self.mask + 1)
    }

    /// The chain's first descriptor in the available ring's entry `offset` from the next one on. May be any number.
    #[inline(always)]
    fn chain_head(&self, offset: u16) -> u16 {
        let at = 2 + usize::from(self.next_avail.wrapping_add(offset) & self.mask);
        // SAFETY: masked, so within the area.
        unsafe { self.avail.add(at).cast::<AtomicU16>().as_ref() }.load(Ordering::Relaxed)
    }

    /// Where descriptor `n` is, for a prefetch: any number will do.
    #[inline(always)]
    fn desc_at(&self, n: u16) -> *const u8 {
        self.desc.as_ptr().wrapping_add(2 * usize::from(n)).cast()
    }

    /// Descriptor `n` of the ring's table, if it has as many.
    #[inline(always)]
    fn desc(&self, n: u16) -> Option<Desc> {
        // SAFETY: within the table, which is aligned.
        (n <= self.mask).then(|| unsafe { Desc::load(self.desc.add(2 * usize::from(n))) })
    }

    /// Writes the used ring's entry `offset` from the next one on. The guest does not look at it before [`Vring::publish`].
    #[inline(always)]
    fn write_used(&mut self, offset: u16, id: u16, len: u32) {
        let at = usize::from(self.next_used.wrapping_add(offset) & self.mask);
        // SAFETY: masked, so within the area, where entries begin behind the head and are aligned to 4.
        unsafe { self.used.add(2).cast::<Used>().add(at).write(Used { id: id.into(), len }) };
    }

    /// Lets the guest have `used` entries that were written, `taken` entries of the available ring being done with.
    #[inline(always)]
    fn publish(&mut self, taken: u16, used: u16) {
        self.next_avail = self.next_avail.wrapping_add(taken);
        if used == 0 {
            return;
        }
        let first = self.next_used;
        self.next_used = first.wrapping_add(used);
        // Release: pairs with the driver's read barrier behind its look at the index; entries and frames are there by then.
        fence(Ordering::Release);
        self.used_head().index.store(self.next_used, Ordering::Release);
        if self.dialect.log {
            self.log_used(first, used);
        }
        let (flags, event) = self.wishes();
        // SAFETY: as in `wishes`.
        let (flags, event) = unsafe { (flags.as_ref(), event.as_ref()) };
        self.bell.published(self.next_used, flags, event);
    }

    // ---- migration

    /// Notes that the guest's memory was written to.
    #[cold]
    fn log_write(&self, address: u64, len: u32) {
        // SAFETY: the device exists as long as we are inside; the call checks the address.
        unsafe { sys::rte_vhost_log_write(self.device, address, len.into()) };
    }

    /// Notes `n` entries of the used ring from `first` on, and its index, after they were written: a page that is copied in between is
    /// copied once more.
    #[cold]
    fn log_used(&self, first: u16, n: u16) {
        for i in 0..n {
            let at = 4 + 8 * u64::from(first.wrapping_add(i) & self.mask);
            // SAFETY: as above.
            unsafe { sys::rte_vhost_log_used_vring(self.device, self.ring, at, 8) };
        }
        // SAFETY: as above; flags and index.
        unsafe { sys::rte_vhost_log_used_vring(self.device, self.ring, 0, 4) };
    }
}
