//! Frames from a local port: which bridge domain, and is it a frame that a bridge forwards at all?

use crate::MAX_FRAME;
use crate::drop::DropReason;
use crate::path::{Lane, RxId, Scratch, View};
use weft_port::Burst;
use weft_tables::fdb::FdbKey;
use weft_wire::MacAddr;

/// Bytes of an Ethernet header.
const ETH: usize = 14;
/// Longest header run that a later stage reads: Ethernet, two VLAN tags, IPv6, and the L4 ports.
const HEADERS: usize = 14 + 8 + 40 + 4;

/// Moves the admissible frames of `burst` into `out` with their bridge domain and FDB key.
///
/// `from.generation` is the life of the slot that the queue belongs to: a queue whose port is being replaced or moved must
/// not send under whatever the published tables say of its slot.
pub(crate) fn admit(v: View<'_>, lane: &mut Lane, from: RxId, burst: &mut Burst, out: &mut Scratch) {
    let slot = from.slot;
    let port = v.tables.port(slot).filter(|p| p.generation == from.generation);
    let Some((at, bd)) = port.and_then(|p| Some((p.bd, v.tables.bds.get(p.bd as usize)?))) else {
        lane.counters.dropped(slot, DropReason::PortGone, burst.len() as u64);
        return weft_port::free_burst(burst);
    };
    for m in burst.iter() {
        m.prefetch();
    }
    for mut m in burst.drain(..) {
        if m.pkt_len() > MAX_FRAME {
            lane.counters.dropped(slot, DropReason::ExceedsMaxFrame, 1);
            continue;
        }
        if usize::from(m.data_len()) < HEADERS && m.nb_segs() > 1 && !m.linearize() {
            lane.counters.dropped(slot, DropReason::NotLinear, 1);
            continue;
        }
        match destination(m.data()) {
            Ok(mac) => out.push(m, at, FdbKey::new(bd.network, mac.to_u64())),
            Err(reason) => lane.counters.dropped(slot, reason, 1),
        }
    }
}

/// The destination MAC of a frame that may be forwarded.
#[inline]
pub(crate) fn destination(frame: &[u8]) -> Result<MacAddr, DropReason> {
    let Some(header) = frame.first_chunk::<ETH>() else { return Err(DropReason::Runt) };
    let [d0, d1, d2, d3, d4, d5, s0, ..] = *header;
    if s0 & 1 != 0 {
        return Err(DropReason::SourceMulticast);
    }
    let mac = MacAddr([d0, d1, d2, d3, d4, d5]);
    if mac.is_link_local_group() { Err(DropReason::ReservedMulticast) } else { Ok(mac) }
}
