//! One entry: 16 bytes in two atomic words, read whole although each word is read on its own.
//!
//! ```text
//! word A   63 MAC (48 bits) 16 | 15 network id, low 15 bits 1 | 1 0
//! word B   63 network id, high 9 bits 55 | 54 value (32) 23 | 22 version (21) 2 | valid 1 | 0 0
//! ```
//!
//! The lowest bit of A is set in every key: an A of zero, as in an empty entry, is no key's. That of B never is: no
//! B is taken for a key's A, where all words of a bucket are compared with that.
//!
//! The writer changes an entry in one of three ways, each ending in (or being) one store of B:
//!
//! * *fill* an entry whose B is invalid: A := key; B := key, value, version + 1, valid.
//! * *clear* it: B := not valid, same version; then A := 0.
//! * *update*: B := new value, all else the same.
//!
//! So A changes only while B is invalid, and each A belongs to one version. A reader reads B, then A, then
//! B again. If both B are valid with equal version, that A is the one of this version:
//!
//! * A is not older: B (acquire) was read from a fill or a later update, released after A was stored.
//! * A is not newer: had it read the 0 of the clear, or the A of a later fill, then that store (release)
//!   with this load (acquire) would make the clear of B before it visible, and the second B would be invalid or
//!   of a later version.
//!
//! A version must therefore never come back under a reader's eyes. It does not: an entry whose 21 bits
//! are used up is *worn*. It is not filled any more until the table is rebuilt, which makes fresh ones.
//! That takes two million fills of one and the same entry, so the loss is nothing.
//!
//! Bursts of lookups do without the second reading of B: see "A burst" in the parent module.

use super::key::FdbKey;
use crate::sync::{AtomicU64, Ordering};

pub(super) const VALID: u64 = 2;
const VERSION_SHIFT: u32 = 2;
const VALUE_SHIFT: u32 = 23;
pub(super) const NETWORK_HIGH_SHIFT: u32 = 55;
/// The bits of B that are part of the key, and the valid bit.
pub(super) const IDENTITY: u64 = 0x1ff << NETWORK_HIGH_SHIFT | VALID;
const VALUE: u64 = (u32::MAX as u64) << VALUE_SHIFT;
const VERSION: u64 = ((1 << (VALUE_SHIFT - VERSION_SHIFT)) - 1) << VERSION_SHIFT;

/// The version of a worn entry.
#[cfg(test)]
pub(super) const LAST_VERSION: u64 = VERSION >> VERSION_SHIFT;

/// Written by the writer, read by everyone.
#[derive(Default)]
#[repr(C, align(16))]
pub(super) struct Entry {
    a: AtomicU64,
    b: AtomicU64,
}

/// What the writer needs to know of an entry.
#[derive(Clone, Copy)]
pub(super) enum State {
    Free,
    /// Invalid, and never to be filled again.
    Worn,
    Full(FdbKey, u32),
}

impl Entry {
    /// Whether it is worth while to look closer: whether A is the key's. Relaxed, as neither answer proves
    /// anything yet.
    #[inline]
    pub(super) fn may_hold(&self, key: FdbKey) -> bool {
        self.a.load(Ordering::Relaxed) == key.a
    }

    /// The value, and whether B is the key's. To be believed only together with A, and if no entry was
    /// filled again meanwhile: see "A burst" in the parent module.
    #[inline]
    pub(super) fn glance(&self, key: FdbKey) -> (u32, bool) {
        // Acquire pairs with the release of B in `fill` and `update`: what the value leads to was published before.
        let b = self.b.load(Ordering::Acquire);
        ((b >> VALUE_SHIFT) as u32, (b ^ key.b) & IDENTITY == 0)
    }

    /// The value, if the entry holds `key` at some moment during the call.
    #[inline]
    pub(super) fn confirm(&self, key: FdbKey) -> Option<u32> {
        // Acquire pairs with the release of B in `fill` (A is not older), and in `clear` (who sees an
        // entry displaced sees its copy).
        let mut before = self.b.load(Ordering::Acquire);
        loop {
            if (before ^ key.b) & IDENTITY != 0 {
                return None;
            }
            // Acquire pairs with the release of A in `fill`: A is not newer.
            if self.a.load(Ordering::Acquire) != key.a {
                return None;
            }
            let after = self.b.load(Ordering::Acquire);
            // A value that was updated in between is no matter: both are of this key.
            if (before ^ after) & !VALUE == 0 {
                return Some((after >> VALUE_SHIFT) as u32);
            }
            // Cleared, and perhaps filled again: look again. Each turn means that the writer got on.
            before = after;
        }
    }

    // The rest is the writer's. Its own loads are relaxed: it is alone.

    pub(super) fn state(&self) -> State {
        let b = self.b.load(Ordering::Relaxed);
        if b & VALID != 0 {
            let key = FdbKey { a: self.a.load(Ordering::Relaxed), b: b & IDENTITY };
            State::Full(key, (b >> VALUE_SHIFT) as u32)
        } else if b & VERSION == VERSION {
            State::Worn
        } else {
            State::Free
        }
    }

    /// The key and the value, or what is left of them in an entry that holds nothing.
    pub(super) fn contents(&self) -> (FdbKey, u32) {
        let b = self.b.load(Ordering::Relaxed);
        let key = FdbKey { a: self.a.load(Ordering::Relaxed), b: b & IDENTITY };
        (key, (b >> VALUE_SHIFT) as u32)
    }

    pub(super) fn is_full(&self) -> bool {
        self.b.load(Ordering::Relaxed) & VALID != 0
    }

    pub(super) fn is_free(&self) -> bool {
        let b = self.b.load(Ordering::Relaxed);
        b & VALID == 0 && b & VERSION != VERSION
    }

    /// Whether the entry, if cleared, could be filled again.
    pub(super) fn is_reusable(&self) -> bool {
        self.b.load(Ordering::Relaxed) & VERSION != VERSION
    }

    pub(super) fn value(&self) -> u32 {
        (self.b.load(Ordering::Relaxed) >> VALUE_SHIFT) as u32
    }

    /// Whether the writer finds this key here.
    pub(super) fn holds(&self, key: FdbKey) -> bool {
        (self.b.load(Ordering::Relaxed) ^ key.b) & IDENTITY == 0 && self.a.load(Ordering::Relaxed) == key.a
    }

    /// Whether the entry has been filled before.
    pub(super) fn is_used(&self) -> bool {
        self.b.load(Ordering::Relaxed) & VERSION != 0
    }

    /// Fills a free entry.
    pub(super) fn fill(&self, key: FdbKey, value: u32) {
        debug_assert!(self.is_free());
        let version = (self.b.load(Ordering::Relaxed) & VERSION) + (1 << VERSION_SHIFT);
        // Release pairs with the acquire load of A in `confirm`: who sees this A sees the clear before it.
        self.a.store(key.a, Ordering::Release);
        // Release pairs with the acquire loads of B in `confirm`: who sees this B sees A.
        self.b.store(key.b | (value as u64) << VALUE_SHIFT | version, Ordering::Release);
    }

    /// Empties a full entry.
    pub(super) fn clear(&self) {
        let b = self.b.load(Ordering::Relaxed);
        debug_assert!(b & VALID != 0);
        // Release pairs with the acquire loads of B in `confirm` and with the acquire fence before a
        // miss is believed: who misses a displaced key here sees its copy and the counter's new value.
        self.b.store(b & VERSION, Ordering::Release);
        // Release: as in `fill`. Who has seen the next filling counted can't read the old A any more.
        self.a.store(0, Ordering::Release);
    }

    /// Gives a full entry a new value; returns the old one.
    pub(super) fn update(&self, value: u32) -> u32 {
        let b = self.b.load(Ordering::Relaxed);
        // Release pairs with the acquire loads of B: what the value leads to was published before.
        self.b.store(b & !VALUE | (value as u64) << VALUE_SHIFT, Ordering::Release);
        (b >> VALUE_SHIFT) as u32
    }

    /// For tests: as if the entry had been filled `version` times.
    #[cfg(test)]
    pub(super) fn age(&self, version: u64) {
        self.b.store(version << VERSION_SHIFT, Ordering::Release);
    }
}
