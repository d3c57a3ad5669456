//! DPDK's own hash table, as a peer to measure the forwarding table against: the switch does not use it, and only
//! the benchmarks turn the `hash` feature on.
//!
//! The table is made with `RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF`, the one of its modes that promises what the
//! forwarding table promises: lookups take no lock while one thread changes the table. Everything but that is left
//! at rte_hash's defaults, the hash function too. Lookups are a call of `rte_hash_lookup_bulk_data` and nothing else.

use core::ffi::{c_int, c_void};
use core::fmt;
use core::ptr::{self, NonNull};
use std::ffi::CString;
use std::sync::Arc;

use crate::bindings as sys;

/// Bytes of a key.
pub const KEY_LEN: usize = 12;

/// Most keys in one call of [`RteHash::lookup_bulk`].
pub const LOOKUP_MAX: usize = sys::RTE_HASH_LOOKUP_BULK_MAX as usize;

/// A key as rte_hash compares it.
pub type Key = [u8; KEY_LEN];

/// The readers' side of a table. It lives as long as the last handle to it.
pub struct RteHash {
    raw: NonNull<sys::rte_hash>,
}

// SAFETY: nothing in an rte_hash belongs to a thread; memory and locks are DPDK's, for all threads.
unsafe impl Send for RteHash {}
// SAFETY: with RW_CONCURRENCY_LF any number of threads may look up (and count) while one thread changes the table.
// There is only one `RteHashWriter`, and what changes the table takes it by `&mut`.
unsafe impl Sync for RteHash {}

/// The only handle by which a table can be changed.
pub struct RteHashWriter {
    hash: Arc<RteHash>,
}

/// The place of a deleted key. rte_hash does not use it again before [`RteHashWriter::free`] gives it back.
#[derive(Debug)]
#[must_use = "the place is lost to the table unless it is given back"]
pub struct Position(i32);

/// What DPDK did not do, with its errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashError {
    /// The function.
    pub call: &'static str,
    /// Why, as a positive errno.
    pub errno: c_int,
}

impl fmt::Display for HashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: errno {}", self.call, self.errno)
    }
}

impl std::error::Error for HashError {}

fn check(call: &'static str, ret: c_int) -> Result<c_int, HashError> {
    if ret < 0 { Err(HashError { call, errno: -ret }) } else { Ok(ret) }
}

/// EAL keeps a list of all tables, which is there once EAL has started.
fn eal_runs() -> bool {
    // SAFETY: compares names in a static array, which is all zero until EAL fills it in.
    unsafe { !sys::rte_eal_tailq_lookup(c"RTE_HASH".as_ptr()).is_null() }
}

impl RteHash {
    /// A table for `entries` keys: it does not grow. `name` must be new and shorter than 27 bytes.
    ///
    /// # Panics
    /// If EAL has not been started, or the name has a zero byte.
    pub fn create(name: &str, entries: u32) -> Result<(RteHashWriter, Arc<RteHash>), HashError> {
        assert!(eal_runs(), "start EAL before making an rte_hash");
        let name = CString::new(name).expect("a name without zero bytes");
        let parameters = sys::rte_hash_parameters {
            name: name.as_ptr(),
            entries,
            key_len: KEY_LEN as u32,
            hash_func: None,
            socket_id: -1, // SOCKET_ID_ANY
            extra_flag: sys::RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF as u8,
            ..Default::default()
        };
        // SAFETY: EAL runs; the parameters are complete, and copied, the name too.
        let raw = unsafe { sys::rte_hash_create(&parameters) };
        let Some(raw) = NonNull::new(raw) else {
            // SAFETY: reads a variable of this thread.
            let errno = unsafe { sys::weft_rte_errno() };
            return Err(HashError { call: "rte_hash_create", errno });
        };
        let hash = Arc::new(Self { raw });
        Ok((RteHashWriter { hash: Arc::clone(&hash) }, hash))
    }

    /// Looks up to [`LOOKUP_MAX`] keys up. Bit *i* of the result says that key *i* is there; its data is then in
    /// `data[i]`, which is left alone otherwise. That the caller has the keys as references is what rte_hash asks
    /// for: pointers to keys.
    ///
    /// # Panics
    /// If there are more keys than that, or no place for their data.
    #[inline]
    pub fn lookup_bulk(&self, keys: &[&Key], data: &mut [u64]) -> u64 {
        const { assert!(size_of::<&Key>() == size_of::<*const c_void>()) };
        const { assert!(size_of::<u64>() == size_of::<*mut c_void>()) };
        assert!(keys.len() <= LOOKUP_MAX && keys.len() <= data.len());
        let mut hits = 0;
        // SAFETY: a reference to an array is a plain pointer to KEY_LEN readable bytes; as many of them are read, and
        // at most as many pointer-sized words written, as there are keys. (With no keys it does nothing: -EINVAL.)
        unsafe {
            sys::rte_hash_lookup_bulk_data(
                self.raw.as_ptr(),
                keys.as_ptr().cast_mut().cast::<*const c_void>(),
                keys.len() as u32,
                &mut hits,
                data.as_mut_ptr().cast::<*mut c_void>(),
            );
        }
        hits
    }

    /// Keys in the table. Deleted ones count until their positions are given back.
    pub fn count(&self) -> usize {
        // SAFETY: the table lives.
        unsafe { sys::rte_hash_count(self.raw.as_ptr()) }.max(0) as usize
    }
}

impl Drop for RteHash {
    fn drop(&mut self) {
        // SAFETY: the last handle: nobody looks up, and nobody changes anything.
        unsafe { sys::rte_hash_free(self.raw.as_ptr()) };
    }
}

impl RteHashWriter {
    /// Adds a key, or changes its data. `ENOSPC`: no place was found, full or not.
    pub fn add(&mut self, key: &Key, data: u64) -> Result<(), HashError> {
        // SAFETY: the table lives, this is its only writer, and the key is copied. The data is never followed.
        let ret = unsafe {
            sys::rte_hash_add_key_data(
                self.hash.raw.as_ptr(),
                key.as_ptr().cast::<c_void>(),
                ptr::without_provenance_mut(data as usize),
            )
        };
        check("rte_hash_add_key_data", ret).map(drop)
    }

    /// Takes a key out. `ENOENT`: it was not there.
    pub fn delete(&mut self, key: &Key) -> Result<Position, HashError> {
        // SAFETY: the table lives, this is its only writer, and the key is only read.
        let ret = unsafe { sys::rte_hash_del_key(self.hash.raw.as_ptr(), key.as_ptr().cast::<c_void>()) };
        check("rte_hash_del_key", ret).map(Position)
    }

    /// Gives a deleted key's place back. For the caller to do once no lookup is under way that began before the
    /// deletion; a lookup that still compares the old key may otherwise compare half of a new one and answer
    /// wrongly. (No worse: rte_hash reads and writes its own memory only.)
    pub fn free(&mut self, position: Position) -> Result<(), HashError> {
        // SAFETY: the table lives, this is its only writer; a position that is out of range is refused.
        let ret = unsafe { sys::rte_hash_free_key_with_position(self.hash.raw.as_ptr(), position.0) };
        check("rte_hash_free_key_with_position", ret).map(drop)
    }

    /// The readers' side.
    pub fn hash(&self) -> &Arc<RteHash> {
        &self.hash
    }
}

impl fmt::Debug for RteHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RteHash").field("count", &self.count()).finish_non_exhaustive()
    }
}

impl fmt::Debug for RteHashWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RteHashWriter").field("hash", &self.hash).finish()
    }
}
