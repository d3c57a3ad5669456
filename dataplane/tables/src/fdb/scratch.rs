//! Room on the stack for one value a key of a burst, not cleared beforehand, as it is about to be written.

use std::mem::MaybeUninit;

use super::MAX_BURST;

/// Room for [`MAX_BURST`] values.
#[repr(align(64))]
pub struct Scratch<T>([MaybeUninit<T>; MAX_BURST]);

impl<T: Copy> Scratch<T> {
    /// Nothing in it yet.
    #[inline]
    pub const fn new() -> Self {
        Self([const { MaybeUninit::uninit() }; MAX_BURST])
    }

    /// Takes over what there is room for; returns that.
    #[inline]
    pub fn fill(&mut self, values: impl IntoIterator<Item = T>) -> &[T] {
        let mut count = 0;
        for (place, value) in self.0.iter_mut().zip(values) {
            place.write(value);
            count += 1;
        }
        // SAFETY: written by the loop.
        unsafe { self.written(count) }
    }

    /// Where the values go, one after the other; aligned to 64 bytes.
    #[inline]
    pub(super) fn as_mut_ptr(&mut self) -> *mut T {
        self.0.as_mut_ptr().cast()
    }

    /// The first `count` values.
    ///
    /// # Safety
    /// They have been written, and `count` is at most [`MAX_BURST`].
    #[inline]
    pub(super) unsafe fn written(&self, count: usize) -> &[T] {
        debug_assert!(count <= MAX_BURST);
        // SAFETY: so many values are in the array and, says the caller, have been written.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), count) }
    }
}

impl<T: Copy> Default for Scratch<T> {
    fn default() -> Self {
        Self::new()
    }
}
