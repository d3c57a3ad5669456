//! Frames from a local port: which bridge domain, and is it a frame that a bridge forwards at all?

use crate::MAX_FRAME;
use crate::drop::DropReason;
use crate::path::{Lane, RxId, Scratch, View};
use weft_port::{Burst, Mbuf};
use weft_tables::fdb::FdbKey;
use weft_wire::MacAddr;

/// Bytes of an Ethernet header.
const ETH: usize = 14;
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
    let mut gone = 0u64;
    for (i, (m, key)) in burst.iter_mut().zip(&mut work.keys).enumerate() {
        match one(m) {
            Ok(mac) => *key = FdbKey::new(bd.network, mac.to_u64()),
            Err(reason) => {
                lane.counters.dropped(slot, reason, 1);
                gone |= 1 << i;
            }
        }
    }
    work.bds.iter_mut().zip(burst.iter()).for_each(|(b, _)| *b = at);
    if gone != 0 {
        work.remove(burst, gone, |_, m| drop(m));
    }
}

/// Where a frame goes, if anywhere.
#[inline(always)]
fn one(m: &mut Mbuf) -> Result<MacAddr, DropReason> {
    if m.pkt_len() > MAX_FRAME {
        return Err(DropReason::ExceedsMaxFrame);
    }
    if usize::from(m.data_len()) < HEADERS && m.nb_segs() > 1 && !m.linearize() {
        return Err(DropReason::NotLinear);
    }
    destination(m.data())
}

/// The destination MAC of a frame that may be forwarded.
#[inline(always)]
pub(crate) fn destination(frame: &[u8]) -> Result<MacAddr, DropReason> {
    let Some(header) = frame.first_chunk::<ETH>() else { return Err(DropReason::Runt) };
    let [d0, d1, d2, d3, d4, d5, s0, ..] = *header;
    if s0 & 1 != 0 {
        return Err(DropReason::SourceMulticast);
    }
    let mac = MacAddr([d0, d1, d2, d3, d4, d5]);
    if mac.is_link_local_group() { Err(DropReason::ReservedMulticast) } else { Ok(mac) }
}
