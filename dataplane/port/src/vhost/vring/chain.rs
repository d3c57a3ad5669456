//! The general form of a buffer: a chain of descriptors, or a table of them, over any number of memory regions.

use core::ptr::NonNull;

use arrayvec::ArrayVec;

use super::Vring;
use super::memory::Desc;

/// Descriptors, and pieces, that one frame may consist of. A driver uses a descriptor for each page and two for the headers.
pub(super) const MAX_PIECES: usize = 256;

/// A piece of a frame's buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) at: NonNull<u8>,
    pub(super) len: u32,
    /// Guest-physical address, for the dirty log.
    pub(super) address: u64,
}

/// Pieces in order.
pub(super) type Pieces = ArrayVec<Piece, MAX_PIECES>;

/// The guest's descriptors make no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl Vring {
    /// Appends the pieces of the chain that begins at descriptor `head`; returns how many bytes they hold.
    pub(super) fn walk(&self, head: u16, out: &mut Pieces) -> Result<u64, Malformed> {
        let first = self.desc(head).ok_or(Malformed)?;
        if first.is_indirect() {
            return self.walk_table(first, out);
        }
        self.follow(first, out, |n| self.desc(n))
    }

    /// A table of descriptors in the guest's memory (section 2.7.5.3): chained from its first one on.
    fn walk_table(&self, table: Desc, out: &mut Pieces) -> Result<u64, Malformed> {
        let entries = table.len / 16;
        if table.has_next() || entries == 0 || !table.len.is_multiple_of(16) {
            return Err(Malformed);
        }
        let entry = |n: u16| {
            let address = table.address.checked_add(16 * u64::from(n))?;
            if u32::from(n) >= entries {
                return None;
            }
            Desc::find(&self.memory, address)
        };
        let first = entry(0).ok_or(Malformed)?;
        self.follow(first, out, entry)
    }

    fn follow(
        &self,
        first: Desc,
        out: &mut Pieces,
        entry: impl Fn(u16) -> Option<Desc>,
    ) -> Result<u64, Malformed> {
        let (mut desc, mut bytes) = (first, 0);
        // Counted here, and not in pieces: a guest may make a circle of empty ones.
        for _ in 0..MAX_PIECES {
            if desc.is_indirect() {
                return Err(Malformed);
            }
            bytes += u64::from(desc.len);
            self.split(desc, out)?;
            if !desc.has_next() {
                return Ok(bytes);
            }
            desc = entry(desc.next).ok_or(Malformed)?;
        }
        Err(Malformed)
    }

    /// A buffer may reach over regions that follow one another at the guest and not here.
    fn split(&self, desc: Desc, out: &mut Pieces) -> Result<(), Malformed> {
        let (mut address, mut left) = (desc.address, desc.len);
        while left > 0 {
            let (at, here) = self.memory.piece(address).ok_or(Malformed)?;
            let len = left.min(here.min(u64::from(u32::MAX)) as u32);
            out.try_push(Piece { at, len, address }).map_err(|_| Malformed)?;
            left -= len;
            address = address.checked_add(len.into()).ok_or(Malformed)?;
        }
        Ok(())
    }
}

/// Takes the first `n` bytes from the pieces. False if they have no more than that.
pub(super) fn skip(pieces: &mut [Piece], mut n: u32) -> bool {
    for p in pieces {
        let cut = p.len.min(n);
        // SAFETY: within the piece, or at its end.
        p.at = unsafe { p.at.add(cut as usize) };
        p.len -= cut;
        p.address += u64::from(cut);
        n -= cut;
        if n == 0 && p.len > 0 {
            return true;
        }
    }
    false
}
