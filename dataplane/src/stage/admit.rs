//! Frames from a local port: which bridge domain, and is it a frame that a bridge forwards at all?

use crate::MAX_FRAME;
use crate::drop::DropReason;
use crate::path::{Lane, RxId, Scratch, View};
use weft_port::{Burst, Mbuf};
use weft_tables::fdb::FdbKey;
use weft_wire::MacAddr;

/// Bytes of an Ethernet header.
const ETH: usize = 14;
/// The I/G bit of the source address, the 7th byte, in a word of 8 bytes.
const SOURCE_IS_GROUP: u64 = 1 << 8;
/// Longest header run that a later stage reads: Ethernet, two VLAN tags, IPv6, and the L4 ports.
const HEADERS: usize = 14 + 8 + 40 + 4;

/// Leaves the admissible frames in `burst`, and their bridge domain and FDB keys in `work`.
///
/// `from.generation` is the life of the slot that the queue belongs to: a queue whose port is being replaced or moved must
/// not send under whatever the published tables say of its slot.
pub(crate) fn admit(v: View<'_>, lane: &mut Lane, from: RxId, burst: &mut Burst, work: &mut Scratch) {
    let slot = from.slot;
    let port = v.tables.port(slot).filter(|p| p.generation == from.generation);
    let Some((at, bd)) = port.and_then(|p| Some((p.bd, v.tables.bds.get(p.bd as usize)?))) else {
        lane.counters.dropped(slot, DropReason::PortGone, burst.len() as u64);
        return weft_port::free_burst(burst);
    };
    let network = FdbKey::new(bd.network, 0);
    let mut gone = 0u64;
    for (i, (m, key)) in burst.iter_mut().zip(&mut work.keys).enumerate() {
        match one(m) {
            Ok(mac) => *key = network.with_mac(mac),
            Err(reason) => gone |= refused(lane, slot, reason) << i,
        }
    }
    work.bds.iter_mut().zip(burst.iter()).for_each(|(b, _)| *b = at);
    if gone != 0 {
        work.remove(burst, gone, |_, m| drop(m));
    }
}

/// Counts a packet that goes no further; a bit for it.
#[cold]
pub(crate) fn refused(lane: &mut Lane, slot: u16, reason: DropReason) -> u64 {
    lane.counters.dropped(slot, reason, 1);
    1
}

/// The destination MAC as a number, if the frame may be forwarded.
#[inline(always)]
fn one(m: &mut Mbuf) -> Result<u64, DropReason> {
    if m.pkt_len() > MAX_FRAME {
        return Err(DropReason::ExceedsMaxFrame);
    }
    if usize::from(m.data_len()) < HEADERS && m.nb_segs() > 1 && !linearize(m) {
        return Err(DropReason::NotLinear);
    }
    destination(m.data())
}

/// Chains are rare.
#[cold]
fn linearize(m: &mut Mbuf) -> bool {
    m.linearize()
}

/// The destination MAC of a frame that may be forwarded, as [`weft_wire::MacAddr::to_u64`] has it.
#[inline(always)]
pub(crate) fn destination(frame: &[u8]) -> Result<u64, DropReason> {
    // Both addresses begin in the first 8 bytes: one load.
    let (Some(_), Some(word)) = (frame.first_chunk::<ETH>(), frame.first_chunk::<8>()) else {
        return Err(DropReason::Runt);
    };
    let word = u64::from_be_bytes(*word);
    let mac = word >> 16;
    if word & SOURCE_IS_GROUP != 0 {
        Err(DropReason::SourceMulticast)
    } else if MacAddr::from_u64(mac).is_link_local_group() {
        Err(DropReason::ReservedMulticast)
    } else {
        Ok(mac)
    }
}
