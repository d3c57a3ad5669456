//! One value that readers follow and the control side replaces as a whole.

use std::{marker::PhantomData, ptr::NonNull, sync::Arc};

use crate::{
    qsbr::{Domain, Reader},
    sync::{AtomicPtr, Mutex, Ordering, lock},
};

/// A value of type `T` behind a pointer that is swapped atomically; replaced values are freed once no
/// reader can hold them any more (see [`crate::qsbr`]).
///
/// ```
/// use weft_tables::{Published, qsbr::Domain};
/// let domain = Domain::new(4);
/// let config = Published::new(&domain, 1);
/// let mut reader = domain.register("worker 0").unwrap();
/// reader.online();
/// assert_eq!(*config.load(&reader), 1);
/// config.swap(2);
/// reader.quiescent();
/// assert_eq!(*config.load(&reader), 2);
/// ```
///
/// What was loaded cannot outlive a quiescent state, because reporting one borrows the reader mutably:
///
/// ```compile_fail,E0502
/// use weft_tables::{Published, qsbr::Domain};
/// let domain = Domain::new(4);
/// let config = Published::new(&domain, 1);
/// let mut reader = domain.register("worker 0").unwrap();
/// reader.online();
/// let held = config.load(&reader);
/// reader.quiescent();
/// println!("{held}");
/// ```
pub struct Published<T: Send + Sync + 'static> {
    domain: Arc<Domain>,
    /// Written by whoever calls `swap`, under `control`; read by every reader. Never null while `self`
    /// lives; comes from `Box::into_raw`.
    current: AtomicPtr<T>,
    /// Serialises the control side, so that `with_current` may look without being a reader.
    control: Mutex<()>,
    /// We own a T: auto traits follow it.
    owns: PhantomData<Box<T>>,
}

impl<T: Send + Sync + 'static> Published<T> {
    /// Publishes `value` to the readers of `domain`.
    pub fn new(domain: &Arc<Domain>, value: T) -> Self {
        Self::from_box(domain, Box::new(value))
    }

    /// As [`Published::new`], for a value that is boxed already.
    pub fn from_box(domain: &Arc<Domain>, value: Box<T>) -> Self {
        Self {
            domain: Arc::clone(domain),
            current: AtomicPtr::new(Box::into_raw(value)),
            control: Mutex::new(()),
            owns: PhantomData,
        }
    }

    /// The value as it is now. It stays valid until the reader reports its next quiescent state.
    ///
    /// # Panics
    /// If the reader belongs to another domain or is offline: nothing would wait for it.
    #[inline]
    pub fn load<'r>(&self, reader: &'r Reader) -> &'r T {
        reader.assert_protects(&self.domain);
        // Acquire pairs with the release half of the swap in `swap_box`: who sees the pointer sees the
        // value it leads to.
        let current = self.current.load(Ordering::Acquire);
        // SAFETY: the pointer came from Box::into_raw and is only retired to `domain` after it was
        // unpublished. The reader is online in that domain, so the value is freed no sooner than the
        // reader's next quiescent state, offline or drop, each of which needs the reader free of the
        // shared borrow 'r.
        unsafe { &*current }
    }

    /// Replaces the value. The old one is freed after a grace period; this call does not wait for it.
    pub fn swap(&self, value: T) {
        self.swap_box(Box::new(value));
    }

    /// As [`Published::swap`], for a value that is boxed already: allocates nothing for the value.
    pub fn swap_box(&self, value: Box<T>) {
        let bytes = size_of::<T>();
        self.swap_sized(value, bytes);
    }

    /// As [`Published::swap_box`], counting the old value as `old_bytes` of memory that waits: for one that owns more
    /// than its own size.
    pub fn swap_sized(&self, value: Box<T>, old_bytes: usize) {
        let old = {
            let _control = lock(&self.control);
            // Release pairs with the acquire in `load`; acquire makes the old value's contents ours.
            self.current.swap(Box::into_raw(value), Ordering::AcqRel)
        };
        self.retire(old, old_bytes);
    }

    fn retire(&self, old: *mut T, bytes: usize) {
        let Some(old) = NonNull::new(old) else { return };
        // SAFETY: from Box::into_raw, and the swap that returned it made us its only owner: no other can have
        // returned it. Readers that still hold it are what retiring waits for.
        unsafe { self.domain.retire_raw(old, bytes) };
    }

    /// Shows the value to a thread of the control side, which need not be a reader. Swaps wait until
    /// `look` returns, so `look` must not swap this same value itself.
    pub fn with_current<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        let _control = lock(&self.control);
        // SAFETY: `control` keeps the value published, so it is not even retired.
        look(unsafe { &*self.current.load(Ordering::Acquire) })
    }

    /// The value, for the one thread that swaps it.
    ///
    /// # Safety
    /// Until the reference is gone, nobody may swap the value or drop `self`.
    pub(crate) unsafe fn peek<'a>(&self) -> &'a T {
        // SAFETY: the caller keeps the value published.
        unsafe { &*self.current.load(Ordering::Acquire) }
    }

    /// The domain whose readers may load the value.
    pub fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }
}

impl<T: Send + Sync + 'static> Drop for Published<T> {
    fn drop(&mut self) {
        // A load's result lives as long as its reader's borrow, not as long as `self`: retire here too.
        let last = self.current.swap(std::ptr::null_mut(), Ordering::AcqRel);
        self.retire(last, size_of::<T>());
    }
}

impl<T: Send + Sync + std::fmt::Debug + 'static> std::fmt::Debug for Published<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.with_current(|value| f.debug_tuple("Published").field(value).finish())
    }
}
