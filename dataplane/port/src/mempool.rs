//! Pools of mbufs.

use std::ptr::NonNull;
use std::sync::Arc;

use dpdk_sys as sys;

use crate::burst::Burst;
use crate::eal::Eal;
use crate::error::PortError;
use crate::ffi;
use crate::mbuf::Mbuf;

/// Bytes in front of a fresh mbuf's data (`RTE_PKTMBUF_HEADROOM`): room for outer headers.
pub const HEADROOM: u16 = sys::RTE_PKTMBUF_HEADROOM as u16;

/// Room in each mbuf that suits MTU 1500 to 1900: headroom and 2048 bytes of data.
pub const DEFAULT_DATA_ROOM: u16 = sys::RTE_MBUF_DEFAULT_BUF_SIZE as u16;

/// A pool of mbufs. Clones are handles on the same pool; any thread may use it, registered ones through a cache
/// of their own.
///
/// When the last handle goes, the memory is given back if every mbuf is home by then, and stays with the process
/// otherwise: an [`Mbuf`] in flight never points to freed memory.
#[derive(Debug, Clone)]
pub struct Mempool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    raw: NonNull<sys::rte_mempool>,
    name: String,
    count: u32,
    data_room: u16,
}

// SAFETY: rte_mempool is multi-producer multi-consumer; its per-lcore caches belong to threads by their lcore id.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Mempool {
    /// Makes a pool (`rte_pktmbuf_pool_create`).
    ///
    /// - `count`: mbufs in it; 2^n - 1 wastes no memory
    /// - `cache`: mbufs that each worker may keep aside, 0 to 512, at most two thirds of `count`
    /// - `data_room`: bytes in each mbuf for headroom and data; see [`DEFAULT_DATA_ROOM`]
    /// - `numa`: NUMA node, or -1 for any
    pub fn new(
        _eal: &Eal,
        name: &str,
        count: u32,
        cache: u32,
        data_room: u16,
        numa: i32,
    ) -> Result<Self, PortError> {
        if data_room <= HEADROOM {
            return Err(PortError::Invalid {
                what: format!("mbuf pool '{name}': data_room {data_room}"),
                why: format!("it must be more than the headroom of {HEADROOM} bytes"),
            });
        }
        let c_name = ffi::c_string("mbuf pool's name", name)?;
        let socket = if numa < 0 { sys::WEFT_SOCKET_ID_ANY } else { numa };
        // SAFETY: EAL runs, as the token says; the name is a C string that DPDK copies.
        let raw =
            unsafe { sys::rte_pktmbuf_pool_create(c_name.as_ptr(), count, cache, 0, data_room, socket) };
        let Some(raw) = NonNull::new(raw) else {
            let errno = ffi::rte_errno();
            return Err(PortError::Mempool {
                name: name.to_owned(),
                count,
                // The mbuf, its place in the ring and the allocator's header.
                bytes: u64::from(count) * (u64::from(data_room) + sys::WEFT_MBUF_SIZE as u64 + 72),
                reason: ffi::strerror(errno),
                hint: match errno {
                    libc::ENOMEM => "reserve more hugepages on that NUMA node, or lower the number of mbufs",
                    libc::ENOSPC => {
                        "DPDK holds no more memory zones, of which a pool needs three: use fewer ports"
                    }
                    libc::EEXIST => "a pool of that name exists, use another name",
                    libc::EINVAL => "cache must be 0 to 512 and at most two thirds of the number of mbufs",
                    libc::ENAMETOOLONG => "use a shorter name, of at most 25 characters",
                    _ => "see DPDK's own lines above",
                },
            });
        };
        Ok(Self(Arc::new(Inner { raw, name: name.to_owned(), count, data_room })))
    }

    /// The pool's name at DPDK.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Mbufs in the pool, in use or not.
    pub fn size(&self) -> u32 {
        self.0.count
    }

    /// Bytes in each mbuf for headroom and data.
    pub fn data_room(&self) -> u16 {
        self.0.data_room
    }

    /// Bytes of data that one fresh mbuf holds behind its headroom.
    pub fn segment_room(&self) -> u16 {
        self.0.data_room - HEADROOM
    }

    /// Mbufs at home, caches included. Walks every cache: for statistics, not for the packet path.
    pub fn available(&self) -> u32 {
        // SAFETY: the pool lives as long as the handle.
        unsafe { sys::rte_mempool_avail_count(self.0.raw.as_ptr()) }
    }

    /// Mbufs in somebody's hands: in flight, in a queue, in a device's ring. Costs as much as [`Mempool::available`].
    pub fn in_use(&self) -> u32 {
        self.0.in_use()
    }

    /// A fresh empty mbuf, or `None` when the pool is exhausted.
    #[inline]
    pub fn alloc(&self) -> Option<Mbuf> {
        // SAFETY: the pool lives as long as the handle; what it returns is ours alone.
        unsafe { Mbuf::from_raw(sys::weft_mbuf_alloc(self.0.raw.as_ptr())) }
    }

    /// Appends `n` fresh empty mbufs to `out` (`rte_pktmbuf_alloc_bulk`), which costs less than one by one. False, with
    /// nothing changed, when the pool does not have as many or `out` has no room for them.
    #[inline]
    #[must_use]
    pub fn alloc_bulk(&self, out: &mut Burst, n: usize) -> bool {
        if n > out.remaining_capacity() {
            return false;
        }
        let len = out.len();
        // SAFETY: the pool lives as long as the handle. There is room for `n` pointers behind the `len` that the vector
        // holds; DPDK fills all of them or returns an error, and what it returns is ours alone.
        unsafe {
            let room = out.as_mut_ptr().add(len).cast::<*mut sys::rte_mbuf>();
            if sys::weft_mbuf_alloc_bulk(self.0.raw.as_ptr(), room, n as u32) != 0 {
                return false;
            }
            out.set_len(len + n);
        }
        true
    }

    /// `n` mbufs as the pool keeps them, whose metadata is yet to be written (`rte_mempool_get_bulk`). False, with nothing taken, if there
    /// are fewer.
    ///
    /// # Safety
    /// `n` pointers can be written at `at`. If true, these are ours alone.
    #[inline(always)]
    pub(crate) unsafe fn take(&self, at: *mut *mut sys::rte_mbuf, n: usize) -> bool {
        // SAFETY: the pool lives as long as the handle; the caller's promise.
        unsafe { sys::weft_mbuf_raw_bulk(self.0.raw.as_ptr(), at, n as u32) == 0 }
    }

    /// A packet that holds `bytes`, chained if they do not fit one mbuf. `None` when the pool is exhausted.
    pub fn alloc_copy(&self, bytes: &[u8]) -> Option<Mbuf> {
        let mut head = self.alloc()?;
        let mut chunks = bytes.chunks(usize::from(self.segment_room()));
        if let Some(first) = chunks.next()
            && !head.append(first)
        {
            return None;
        }
        for chunk in chunks {
            let mut segment = self.alloc()?;
            if !segment.append(chunk) || !head.chain(segment) {
                return None;
            }
        }
        Some(head)
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::rte_mempool {
        self.0.raw.as_ptr()
    }
}

impl Inner {
    fn in_use(&self) -> u32 {
        // SAFETY: the pool lives as long as this.
        unsafe { sys::rte_mempool_in_use_count(self.raw.as_ptr()) }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.in_use() != 0 {
            return;
        }
        // The counts rise a moment before the last put has stored its pointer: let it finish.
        std::thread::sleep(std::time::Duration::from_millis(5));
        // SAFETY: no handle is left, so nothing new can be taken, and every mbuf is home: nobody points into it.
        unsafe { sys::rte_mempool_free(self.raw.as_ptr()) }
    }
}
