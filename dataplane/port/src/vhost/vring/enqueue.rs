//! To the guest: packets become what its receive ring's buffers hold.

use core::mem::MaybeUninit;
use core::ptr::NonNull;

use dpdk_sys as sys;
use sys::mbuf as raw;

use super::chain::{Piece, Pieces};
use super::memory::copy;
use super::{BATCH, Vring};
use crate::mbuf::Mbuf;

/// A buffer that takes its packet whole.
#[derive(Clone, Copy)]
struct Simple {
    to: NonNull<u8>,
    from: *const u8,
    /// Bytes of the frame.
    len: u32,
    head: u16,
}

/// The buffers of a batch's first packets.
struct Found {
    buffers: [MaybeUninit<Simple>; BATCH],
    n: usize,
}

impl Found {
    #[inline(always)]
    fn buffers(&self) -> &[Simple] {
        // SAFETY: `buffers` has written the first `n`, which is no more than BATCH.
        unsafe { core::slice::from_raw_parts(self.buffers.as_ptr().cast(), self.n) }
    }
}

/// How the next packet fared that needed more than one simple buffer.
enum Fate {
    Sent,
    /// The guest has no buffer for it now.
    NoRoom,
    /// The buffer made no sense and was passed over: try the next one.
    Skipped,
}

impl Vring {
    /// Copies packets into the guest's buffers, as many as it has any for; returns how many.
    #[inline]
    pub(in crate::vhost) fn enqueue(&mut self, pkts: &[Mbuf]) -> usize {
        let mut sent = 0;
        // A guest can make buffers that make no sense as fast as they are passed over.
        let mut patience = BATCH;
        while sent < pkts.len() {
            let n = usize::from(self.available()).min(pkts.len() - sent).min(BATCH);
            if n == 0 {
                break;
            }
            let batch = &pkts[sent..sent + n];
            let done = if self.dialect.log { 0 } else { self.enqueue_simple(batch) };
            sent += done;
            if done < n {
                match self.enqueue_any(&pkts[sent]) {
                    Fate::Sent => sent += 1,
                    Fate::Skipped if patience > 0 => patience -= 1,
                    Fate::Skipped => break,
                    Fate::NoRoom => break,
                }
            }
        }
        sent
    }

    /// The first packets of the batch, as long as each lies in one segment and fits one buffer.
    #[inline(always)]
    fn enqueue_simple(&mut self, batch: &[Mbuf]) -> usize {
        let header = usize::from(self.dialect.header);
        let found = self.buffers(batch);
        for (i, b) in found.buffers().iter().enumerate() {
            // SAFETY: `buffers` has checked that header and frame fit the buffer, which is in the guest's memory, and that the frame
            // is in the packet's first segment, which is borrowed.
            unsafe {
                self.write_header(b.to, 1);
                copy(b.from, b.to.as_ptr().add(header), b.len as usize);
            }
            self.write_used(i as u16, b.head, b.len + header as u32);
        }
        let n = found.n as u16;
        if n > 0 {
            self.publish(n, n);
        }
        found.n
    }

    /// Reads the buffers' descriptors and asks for the lines that will be written.
    #[inline(always)]
    fn buffers(&self, batch: &[Mbuf]) -> Found {
        let header = u32::from(self.dialect.header);
        let mut heads = [0u16; BATCH];
        let heads = &mut heads[..batch.len()];
        for (i, head) in heads.iter_mut().enumerate() {
            *head = self.chain_head(i as u16);
            raw::prefetch(self.desc_at(*head).cast());
        }
        let mut found = Found { buffers: [const { MaybeUninit::uninit() }; BATCH], n: 0 };
        for ((head, m), place) in heads.iter().zip(batch).zip(&mut found.buffers) {
            let data = m.data();
            let len = data.len() as u32;
            let Some(desc) = self.desc(*head).filter(|d| d.is_simple() && header + len <= d.len) else {
                break;
            };
            if m.nb_segs() != 1 {
                break;
            }
            let Some(to) = self.memory.at(desc.address, header + len) else { break };
            // The header's line is mostly as it should be, and stays where it is.
            raw::prefetch(to.as_ptr().cast_const().cast());
            let body = to.as_ptr().wrapping_add(header as usize);
            raw::prefetch_to_write(body.cast_const().cast());
            if len > 64 {
                raw::prefetch_to_write(body.wrapping_add(64).cast_const().cast());
            }
            place.write(Simple { to, from: data.as_ptr(), len, head: *head });
            found.n += 1;
        }
        found
    }

    /// Writes `struct virtio_net_hdr` (section 5.1.6): nothing to do for the guest, and in how many buffers the frame lies. Nothing is
    /// written if it stands there already: then the line need not come over from the guest's core.
    ///
    /// # Safety
    /// As many bytes as the dialect's header has can be written at `to`.
    #[inline(always)]
    unsafe fn write_header(&self, to: NonNull<u8>, buffers: u16) {
        // SAFETY: the caller's promise: 10 or 12 bytes. What is read decides on nothing but whether to write.
        unsafe {
            let first = to.cast::<u64>();
            if first.read_unaligned() != 0 {
                first.write_unaligned(0);
            }
            if self.dialect.header == 12 {
                let last = to.add(8).cast::<u32>();
                let wanted = u32::from(buffers.to_le()) << 16;
                if last.read_unaligned() != wanted {
                    last.write_unaligned(wanted);
                }
            } else {
                let last = to.add(8).cast::<u16>();
                if last.read_unaligned() != 0 {
                    last.write_unaligned(0);
                }
            }
        }
    }

    /// One packet of any form into buffers of any form.
    #[cold]
    fn enqueue_any(&mut self, m: &Mbuf) -> Fate {
        let header = u32::from(self.dialect.header);
        let wanted = u64::from(header) + u64::from(m.pkt_len());
        let available = self.available();
        let most = if self.dialect.mergeable { available } else { available.min(1) };
        let mut pieces = Pieces::new();
        // Chains that the packet takes up, and how many bytes each has room for.
        let mut chains = [(0u16, 0u32); BATCH];
        let (mut n, mut room) = (0u16, 0u64);
        while room < wanted {
            if n == most || usize::from(n) == BATCH {
                return Fate::NoRoom;
            }
            let head = self.chain_head(n);
            let Ok(bytes) = self.walk(head, &mut pieces) else {
                return self.pass_over();
            };
            chains[usize::from(n)] = (head, bytes.min(u32::MAX.into()) as u32);
            room += bytes;
            n += 1;
        }
        let mut out = Scatter { pieces: &pieces, at: 0, offset: 0, ring: self };
        let mut head = [0u8; 12];
        head[10..].copy_from_slice(&n.to_le_bytes());
        out.write(&head[..header as usize]);
        m.segments().for_each(|s| out.write(s));
        let mut left = wanted.min(u32::MAX.into()) as u32;
        for (i, (head, bytes)) in chains.iter().take(n.into()).enumerate() {
            let here = left.min(*bytes);
            self.write_used(i as u16, *head, here);
            left -= here;
        }
        self.publish(n, n);
        Fate::Sent
    }

    /// Gives the next chain back empty: it, or one that would be needed with it, makes no sense. That is between the guest and its
    /// buffers; no frame is lost.
    fn pass_over(&mut self) -> Fate {
        let head = self.chain_head(0);
        // Of a number that is none there is no chain to give back.
        let used = u16::from(head <= self.mask);
        if used == 1 {
            self.write_used(0, head, 0);
        }
        self.publish(1, used);
        Fate::Skipped
    }
}

/// Writes bytes one after another into pieces.
struct Scatter<'a> {
    pieces: &'a [Piece],
    at: usize,
    offset: u32,
    ring: &'a Vring,
}

impl Scatter<'_> {
    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some(p) = self.pieces.get(self.at) else { return };
            let here = ((p.len - self.offset) as usize).min(bytes.len());
            // SAFETY: within the piece, which is in the guest's memory and so apart from any packet's.
            unsafe {
                core::ptr::copy_nonoverlapping(bytes.as_ptr(), p.at.as_ptr().add(self.offset as usize), here)
            };
            if self.ring.dialect.log {
                self.ring.log_write(p.address + u64::from(self.offset), here as u32);
            }
            bytes = &bytes[here..];
            self.offset += here as u32;
            if self.offset == p.len {
                (self.at, self.offset) = (self.at + 1, 0);
            }
        }
    }
}
