//! The overflow: entries that found no place in their two buckets, in linked chains.
//!
//! With a keyed hash a chain is all but always empty. It is there so that no insert fails while there is
//! memory, whatever the hashes.
//!
//! An entry that once is in a chain stays there until it is removed or the table is rebuilt: entries move
//! between buckets only. So a reader needs no counter to believe a miss in a chain. A node's key and
//! place never change; unlinking one leaves its own `next` as it is, so that a reader that stands on it
//! walks on to everything that was behind it and is still in the chain.

use std::{ptr, ptr::NonNull};

use super::{key::FdbKey, stamps::Stamp};
use crate::{
    alloc::{OutOfMemory, try_box},
    sync::{AtomicPtr, AtomicU64, Ordering},
};

pub(super) struct Node {
    pub(super) key: FdbKey,
    /// Written by the writer, read by everyone; 32 bits of it are used.
    value: AtomicU64,
    /// When it was last used, if that is kept.
    pub(super) stamp: Stamp,
    /// Written by the writer, read by everyone. Null at the end.
    next: AtomicPtr<Node>,
}

impl Node {
    // Acquire and release on values: what a value leads to was published before it.

    pub(super) fn value(&self) -> u32 {
        self.value.load(Ordering::Acquire) as u32
    }

    pub(super) fn update(&self, value: u32) -> u32 {
        let old = self.value.load(Ordering::Relaxed) as u32;
        self.value.store(value.into(), Ordering::Release);
        old
    }
}

/// Head of a chain. Whoever walks it is the writer, or a reader that is online in the domain to which the
/// writer retires unlinked nodes: that is the condition under which a `&Chain` may exist.
pub(super) struct Chain(AtomicPtr<Node>);

impl Chain {
    pub(super) fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Node> {
        let mut link = &self.0;
        std::iter::from_fn(move || {
            // Acquire pairs with the release store in `push`: who sees a node sees its key and next.
            let node = link.load(Ordering::Acquire);
            // SAFETY: null, or from Box::into_raw in `push`; freed only by the table's drop or a grace
            // period after `unlink`, and whoever walks holds both back (see `Chain`).
            let node = unsafe { node.as_ref() }?;
            link = &node.next;
            Some(node)
        })
    }

    pub(super) fn find(&self, key: FdbKey) -> Option<&Node> {
        self.iter().find(|node| node.key == key)
    }

    /// Writer: adds an entry at the front.
    pub(super) fn push(&self, key: FdbKey, value: u32, interval: u16) -> Result<(), OutOfMemory> {
        let next = self.0.load(Ordering::Relaxed);
        let node = try_box(Node {
            key,
            value: AtomicU64::new(value.into()),
            stamp: Stamp::new(interval),
            next: AtomicPtr::new(next),
        })?;
        // Release pairs with the acquire load in `iter`.
        self.0.store(Box::into_raw(node), Ordering::Release);
        Ok(())
    }

    /// Writer: takes out the entries that `which` picks, and hands each to `retire`, for good: it must keep it
    /// from being freed before a grace period. They come from `Box::into_raw`.
    pub(super) fn unlink(&self, mut which: impl FnMut(&Node) -> bool, mut retire: impl FnMut(NonNull<Node>)) {
        let mut link = &self.0;
        while let Some(node) = NonNull::new(link.load(Ordering::Relaxed)) {
            // SAFETY: linked, so not freed; only the writer unlinks.
            let seen = unsafe { node.as_ref() };
            if which(seen) {
                // Release pairs with the acquire load in `iter`: the next node is seen whole also by who
                // comes to it by this link. The node's own `next` stays for those who stand on it.
                link.store(seen.next.load(Ordering::Relaxed), Ordering::Release);
                // Unlinked just now, once, and never used here again (`link` is the link before it).
                retire(node);
            } else {
                link = &seen.next;
            }
        }
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        // Nobody else is left: a table is dropped unpublished or after a grace period.
        let mut node = self.0.swap(ptr::null_mut(), Ordering::Acquire);
        while !node.is_null() {
            // SAFETY: from Box::into_raw in `push`, and still linked, so nobody else has freed it.
            let owned = unsafe { Box::from_raw(node) };
            node = owned.next.swap(ptr::null_mut(), Ordering::Acquire);
        }
    }
}
