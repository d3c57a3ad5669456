//! From the guest: what its transmit ring holds becomes packets.

use core::mem::MaybeUninit;

use dpdk_sys as sys;
use sys::mbuf as raw;
use sys::rte_mbuf;

use super::chain::{Malformed, Pieces, skip};
use super::memory::copy;
use super::{BATCH, Vring};
use crate::burst::Burst;
use crate::mbuf::Mbuf;
use crate::mempool::Mempool;

/// Longest frame that is taken from a guest, in bytes: longer than any that is forwarded, so that those are counted as too long.
const MAX_FRAME: u64 = 65_535;

/// A frame that lies in one buffer.
#[derive(Clone, Copy)]
struct Simple {
    from: *const u8,
    /// Zero: it is not as simple as that.
    len: u16,
    head: u16,
}

/// What is known of a batch of frames.
struct Found {
    frames: [MaybeUninit<Simple>; BATCH],
    n: usize,
    all_simple: bool,
}

impl Found {
    #[inline(always)]
    fn frames(&self) -> &[Simple] {
        // SAFETY: `frames` has written the first `n`, which is no more than BATCH.
        unsafe { core::slice::from_raw_parts(self.frames.as_ptr().cast(), self.n) }
    }
}

impl Vring {
    /// Appends up to `max` packets to `out`, as far as there is room; returns how many. They are copies, in one segment or, where
    /// they do not fit one, chained, without metadata.
    #[inline]
    pub(in crate::vhost) fn dequeue(&mut self, pool: &Mempool, out: &mut Burst, max: usize) -> usize {
        let n = usize::from(self.available()).min(max).min(out.remaining_capacity()).min(BATCH);
        if n == 0 {
            self.settle();
            return 0;
        }
        let found = self.frames(n, pool.segment_room());
        let before = out.len();
        // SAFETY: room for n pointers behind the vector's last; n is what it has room for.
        let room = unsafe { out.as_mut_ptr().add(before).cast::<*mut rte_mbuf>() };
        // SAFETY: as above.
        if !found.all_simple || !unsafe { pool.take(room, n) } {
            return self.dequeue_any(&found, pool, out);
        }
        for (i, f) in found.frames().iter().enumerate() {
            // SAFETY: the pool has written n pointers to mbufs that are ours; `frames` has checked where the frame is, and
            // that it fits.
            unsafe { fill(room.add(i).read(), f.from, f.len) };
            self.write_used(i as u16, f.head, 0);
        }
        // SAFETY: as many valid packets were written.
        unsafe { out.set_len(before + n) };
        self.publish(n as u16, n as u16);
        n
    }

    /// Reads the next chains' first descriptors and asks for the frames.
    #[inline(always)]
    fn frames(&self, n: usize, room: u16) -> Found {
        let header = u32::from(self.dialect.header);
        let mut heads = [0u16; BATCH];
        let heads = &mut heads[..n];
        for (i, head) in heads.iter_mut().enumerate() {
            *head = self.chain_head(i as u16);
            raw::prefetch(self.desc_at(*head).cast());
        }
        let mut found = Found { frames: [const { MaybeUninit::uninit() }; BATCH], n, all_simple: true };
        for (head, frame) in heads.iter().zip(&mut found.frames) {
            let simple = self.desc(*head).and_then(|d| {
                // Of a buffer that is no longer than the header the length is huge, or 0.
                let len = d.len.wrapping_sub(header);
                if !d.is_simple() || len > u32::from(room) || len == 0 {
                    return None;
                }
                let at = self.memory.at(d.address, d.len)?;
                // SAFETY: the header is shorter than the buffer.
                Some((unsafe { at.as_ptr().add(header as usize) }.cast_const(), len as u16))
            });
            let (from, len) = simple.unwrap_or((core::ptr::null(), 0));
            raw::prefetch(from.cast());
            if len > 64 {
                raw::prefetch(from.wrapping_add(64).cast());
            }
            found.all_simple &= len != 0;
            frame.write(Simple { from, len, head: *head });
        }
        found
    }

    /// The same for whatever the guest has made available, and where buffers are scarce.
    #[cold]
    fn dequeue_any(&mut self, found: &Found, pool: &Mempool, out: &mut Burst) -> usize {
        let before = out.len();
        let (mut taken, mut used) = (0, 0);
        for f in found.frames() {
            // The guest keeps what there is no buffer for.
            let Some(m) = pool.alloc() else { break };
            taken += 1;
            if f.len != 0 {
                // SAFETY: `frames` has checked where the frame is, and that it fits; the mbuf is ours.
                unsafe { fill(m.as_ptr(), f.from, f.len) };
                out.push(m);
            } else {
                match self.gather(f.head, m, pool) {
                    Ok(m) => out.push(m),
                    Err(Lost::Malformed) => self.losses.bad_descriptor += 1,
                    Err(Lost::NoMbuf) => self.losses.no_mbuf += 1,
                }
            }
            // Of a number that is none there is no chain to give back.
            if f.head <= self.mask {
                self.write_used(used, f.head, 0);
                used += 1;
            }
        }
        self.publish(taken, used);
        out.len() - before
    }

    /// A frame in any number of pieces. `m` is a fresh mbuf to begin with.
    fn gather(&self, head: u16, mut m: Mbuf, pool: &Mempool) -> Result<Mbuf, Lost> {
        let mut pieces = Pieces::new();
        let header = u32::from(self.dialect.header);
        let bytes = self.walk(head, &mut pieces)?;
        if bytes > MAX_FRAME + u64::from(header) || !skip(&mut pieces, header) {
            return Err(Lost::Malformed);
        }
        let mut packet: Option<Mbuf> = None;
        for p in &pieces {
            let (mut from, mut left) = (p.at.as_ptr().cast_const(), p.len as usize);
            while left > 0 {
                let here = left.min(usize::from(m.tailroom()));
                if here == 0 {
                    let full = core::mem::replace(&mut m, pool.alloc().ok_or(Lost::NoMbuf)?);
                    add(&mut packet, full)?;
                    continue;
                }
                // SAFETY: within the piece, and within the mbuf's room behind its data.
                unsafe { append(&mut m, from, here) };
                from = from.wrapping_add(here);
                left -= here;
            }
        }
        add(&mut packet, m)?;
        packet.ok_or(Lost::Malformed)
    }
}

/// Why a frame did not become a packet.
enum Lost {
    Malformed,
    NoMbuf,
}

impl From<Malformed> for Lost {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// Makes `segment` the end of the packet.
fn add(packet: &mut Option<Mbuf>, segment: Mbuf) -> Result<(), Lost> {
    let Some(p) = packet else {
        *packet = Some(segment);
        return Ok(());
    };
    if p.chain(segment) { Ok(()) } else { Err(Lost::Malformed) }
}

/// Makes a buffer that comes from its pool a packet of `len` bytes: writes all of the mbuf's first line that the path reads.
///
/// # Safety
/// `len` bytes can be read at `from` and fit behind the mbuf's headroom; the mbuf is ours alone.
#[inline(always)]
unsafe fn fill(m: *mut rte_mbuf, from: *const u8, len: u16) {
    // SAFETY: the caller's promise.
    unsafe {
        raw::renew(m, sys::RTE_PKTMBUF_HEADROOM as u16, len);
        copy(from, raw::buf_addr(m).add(sys::RTE_PKTMBUF_HEADROOM as usize), len.into());
    }
}

/// # Safety
/// `len` bytes can be read at `from` and fit behind the data of `m`, which has one segment.
unsafe fn append(m: &mut Mbuf, from: *const u8, len: usize) {
    let m = m.as_ptr();
    // SAFETY: the caller's promise.
    unsafe {
        let end = usize::from(raw::data_off(m)) + usize::from(raw::data_len(m));
        core::ptr::copy_nonoverlapping(from, raw::buf_addr(m).add(end), len);
        raw::set_data_len(m, raw::data_len(m) + len as u16);
        raw::set_pkt_len(m, raw::pkt_len(m) + len as u32);
    }
}
