//! When entries were last used: an array of stamps beside the table, for those who age entries.
//!
//! Time is counted in intervals, of which the one that readers stamp with is [`Fdb`](super::Fdb)'s, advanced by the
//! writer. A reader that finds an entry, and is asked to, stores the interval in the entry's stamp, if it is
//! not there already: at most one relaxed store per entry and interval, however many packets there are.
//!
//! A stamp is a hint. It belongs to a place and not to a key, and nothing orders it with the entry's words: a reader
//! may stamp a place whose entry has just been moved or replaced. Then the entry that is there now looks
//! used, or the one that was moved looks unused, for one interval. So entries are to be removed
//! after two intervals without use at the earliest.

use super::entry::Entry;
use crate::{
    alloc::{OutOfMemory, ZeroedArray},
    sync::{AtomicU16, Ordering},
};

/// Written by readers and the writer; read by the writer, and by readers before they write.
#[derive(Default)]
pub(super) struct Stamp(AtomicU16);

// SAFETY: zero is what an atomic defaults to.
unsafe impl crate::alloc::ZeroIsDefault for Stamp {}

impl Stamp {
    pub(super) fn new(interval: u16) -> Self {
        Self(AtomicU16::new(interval))
    }

    /// Relaxed here and below: see the module.
    #[inline]
    pub(super) fn get(&self) -> u16 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn set(&self, interval: u16) {
        self.0.store(interval, Ordering::Relaxed);
    }

    /// Reader: the entry is in use.
    #[inline]
    pub(super) fn touch(&self, interval: u16) {
        // Most often it says so already, and reading takes no line from another core.
        if self.get() != interval {
            self.set(interval);
        }
    }
}

/// A stamp for every place of a table; or none, where nothing ages.
pub(super) struct Stamps(Option<ZeroedArray<Stamp>>);

impl Stamps {
    pub(super) fn try_new(places: usize, aging: bool) -> Result<Self, OutOfMemory> {
        Ok(Self(if aging { Some(ZeroedArray::try_new(places)?) } else { None }))
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |stamps| size_of_val(&**stamps))
    }

    /// The stamp of one of the table's entries, of which `first` is the first.
    #[inline]
    pub(super) fn of(&self, entry: &Entry, first: *const Entry) -> Option<&Stamp> {
        let offset = std::ptr::from_ref(entry).addr().wrapping_sub(first.addr());
        self.0.as_ref()?.get(offset / size_of::<Entry>())
    }
}
