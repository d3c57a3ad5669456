//! Values with stable ids, each replaced on its own: next hops, ports.

use std::{
    marker::PhantomData,
    ptr::{self, NonNull},
    sync::Arc,
};

use crate::{
    qsbr::{Domain, Reader},
    sync::{AtomicPtr, Mutex, Ordering, lock},
};

/// A fixed array of optional values. Changing one touches one pointer and leaves the others alone, so
/// that a million forwarding entries can lead to a next hop whose header changes.
///
/// Replaced values are freed after a grace period (see [`crate::qsbr`]). An id may only be given to
/// something else once nothing leads to it any more: that is the caller's part, typically a removal
/// from the forwarding table followed by [`Domain::synchronize`].
pub struct SlotTable<T: Send + Sync + 'static> {
    domain: Arc<Domain>,
    /// Written under `control`; read by every reader. Null, or from `Box::into_raw`.
    slots: Box<[AtomicPtr<T>]>,
    /// Serialises the control side.
    control: Mutex<()>,
    owns: PhantomData<Box<T>>,
}

impl<T: Send + Sync + 'static> SlotTable<T> {
    /// An empty table with ids 0 to `capacity` - 1.
    pub fn new(domain: &Arc<Domain>, capacity: usize) -> Self {
        Self {
            domain: Arc::clone(domain),
            slots: (0..capacity).map(|_| AtomicPtr::new(ptr::null_mut())).collect(),
            control: Mutex::new(()),
            owns: PhantomData,
        }
    }

    /// How many ids there are.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// The value with this id, or nothing if there is none or the id is out of range. It stays valid
    /// until the reader's next quiescent state.
    ///
    /// # Panics
    /// If the reader belongs to another domain or is offline.
    #[inline]
    pub fn get<'r>(&self, id: u32, reader: &'r Reader) -> Option<&'r T> {
        reader.assert_protects(&self.domain);
        // SAFETY: the reader is online in this table's domain for as long as 'r borrows it.
        unsafe { self.fetch(id) }
    }

    /// The table as seen by one reader, whose domain is checked once: for a whole burst of lookups.
    ///
    /// # Panics
    /// If the reader belongs to another domain or is offline.
    #[inline]
    pub fn view<'r>(&'r self, reader: &'r Reader) -> SlotView<'r, T> {
        reader.assert_protects(&self.domain);
        SlotView { table: self, reader: PhantomData }
    }

    /// # Safety
    /// A reader of this table's domain is online and shared-borrowed for 'r.
    #[inline]
    unsafe fn fetch<'r>(&self, id: u32) -> Option<&'r T> {
        // Acquire pairs with the release half of the swap in `set`.
        let value = self.slots.get(id as usize)?.load(Ordering::Acquire);
        // SAFETY: null or from Box::into_raw; what it leads to is retired to the domain only after it
        // was unpublished, and the online reader holds the grace period back while 'r lasts.
        unsafe { value.as_ref() }
    }

    /// Sets or clears a slot. The old value is freed after a grace period; this call does not wait.
    ///
    /// # Panics
    /// If `id` is not below the capacity.
    pub fn set(&self, id: u32, value: Option<T>) {
        let slot = &self.slots[id as usize];
        let new = value.map_or(ptr::null_mut(), |value| Box::into_raw(Box::new(value)));
        let old = {
            let _control = lock(&self.control);
            // Release pairs with the acquire in `fetch`; acquire makes the old value's contents ours.
            slot.swap(new, Ordering::AcqRel)
        };
        self.retire(old);
    }

    /// Shows a slot to a thread of the control side, which need not be a reader. Changes wait until
    /// `look` returns, so `look` must not change this table itself.
    pub fn with<R>(&self, id: u32, look: impl FnOnce(Option<&T>) -> R) -> R {
        let _control = lock(&self.control);
        let value = self.slots.get(id as usize).map_or(ptr::null_mut(), |slot| slot.load(Ordering::Acquire));
        // SAFETY: null or from Box::into_raw; `control` keeps it published.
        look(unsafe { value.as_ref() })
    }

    fn retire(&self, old: *mut T) {
        if let Some(old) = NonNull::new(old) {
            // SAFETY: from Box::into_raw, and unpublished by the swap that returned it to us alone.
            unsafe { self.domain.retire_raw(old, size_of::<T>()) };
        }
    }
}

impl<T: Send + Sync + 'static> Drop for SlotTable<T> {
    fn drop(&mut self) {
        // A result of `get` may outlive the table: its lifetime is the reader's borrow.
        for slot in &self.slots {
            self.retire(slot.swap(ptr::null_mut(), Ordering::AcqRel));
        }
    }
}

/// A [`SlotTable`] in one reader's hands; see [`SlotTable::view`].
pub struct SlotView<'r, T: Send + Sync + 'static> {
    table: &'r SlotTable<T>,
    /// Keeps the reader borrowed, hence online and before its next quiescent state.
    reader: PhantomData<&'r Reader>,
}

impl<'r, T: Send + Sync + 'static> SlotView<'r, T> {
    /// As [`SlotTable::get`].
    #[inline]
    pub fn get(&self, id: u32) -> Option<&'r T> {
        // SAFETY: `view` checked the reader and 'r keeps it borrowed.
        unsafe { self.table.fetch(id) }
    }
}

impl<T: Send + Sync + 'static> Clone for SlotView<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Send + Sync + 'static> Copy for SlotView<'_, T> {}
