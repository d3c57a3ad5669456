//! The frames of the end-to-end benchmark.
//!
//! Inner frames are UDP over IPv4 from one sender to many receivers. Receiver number `n` (24 bits) has the MAC address
//! `02:10:00:n` and the address 10.128.0.0 + `n`, so that every frame of a flow says which one it is twice, and can be
//! checked without knowing what was sent when.
//!
//! The headers are put together here byte by byte, not by `weft-wire`: what checks weft must not be weft.

use weft_wire::Encap;

/// Bytes of the outer headers: Ethernet, IPv4, UDP, and VXLAN or GENEVE without options.
pub const OUTER: usize = 50;
/// Shortest inner frame: as much as Ethernet asks for with its FCS, so that none is as long as an ARP packet.
pub const MIN_FRAME: usize = 64;
/// Longest inner frame: the benchmark's devices have an MTU of 1500.
pub const MAX_FRAME: usize = 1514 - OUTER;
/// Most flows: a receiver's number has 24 bits, of which 22 are addresses in 10.128.0.0/9 with room to spare.
pub const MAX_FLOWS: u32 = 1 << 22;

/// The virtual network of every tunnel packet.
pub const VNI: u32 = 100;
/// The vSwitch in the underlay.
pub const SWITCH: Vtep = Vtep { mac: [2, 0xaa, 0, 0, 0, 1], ip: [192, 168, 50, 1] };
/// The remote VTEP, which the generator plays.
pub const PEER: Vtep = Vtep { mac: [2, 0xaa, 0, 0, 0, 2], ip: [192, 168, 50, 2] };

/// Stands where the UDP payload begins.
const MARK: [u8; 4] = *b"weft";
const MARK_AT: usize = 42;
/// Behind it: when the frame was sent, in ticks of the time stamp counter, first byte least; 0 if nobody wants to know.
const STAMP_AT: usize = MARK_AT + MARK.len();
/// The flow's part of the destination MAC address, and the two bytes before it.
const MAC_AT: usize = 2;
const IP_AT: usize = 14;
const LENGTH_AT: usize = IP_AT + 2;
const CHECKSUM_AT: usize = IP_AT + 10;
const DST_AT: usize = IP_AT + 16;
const UDP_AT: usize = IP_AT + 20;

/// A tunnel endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vtep {
    /// MAC address, first byte first on the wire.
    pub mac: [u8; 6],
    /// IPv4 address, first byte first on the wire.
    pub ip: [u8; 4],
}

/// How a frame is wrapped, and in which direction it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrap {
    /// The inner frame alone.
    Plain,
    /// In a tunnel packet from the remote VTEP to the vSwitch.
    ToSwitch(Encap),
    /// In a tunnel packet from the vSwitch to the remote VTEP.
    FromSwitch(Encap),
}

impl Wrap {
    /// Bytes in front of the inner frame.
    pub const fn outer_len(self) -> usize {
        match self {
            Wrap::Plain => 0,
            Wrap::ToSwitch(_) | Wrap::FromSwitch(_) => OUTER,
        }
    }
}

/// The sum that the internet checksum is the complement of, of a header whose length is even.
fn sum(header: &[u8]) -> u16 {
    let mut sum: u32 = header.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn ipv4_udp(out: &mut [u8], src: [u8; 4], dst: [u8; 4], ports: (u16, u16), df: bool) {
    let total = out.len() as u16;
    out[0] = 0x45;
    out[2..4].copy_from_slice(&total.to_be_bytes());
    out[6] = if df { 0x40 } else { 0 };
    out[8] = 64;
    out[9] = 17;
    out[12..16].copy_from_slice(&src);
    out[16..20].copy_from_slice(&dst);
    let checksum = !sum(&out[..20]);
    out[10..12].copy_from_slice(&checksum.to_be_bytes());
    out[20..22].copy_from_slice(&ports.0.to_be_bytes());
    out[22..24].copy_from_slice(&ports.1.to_be_bytes());
    out[24..26].copy_from_slice(&(total - 20).to_be_bytes());
}

/// The frame of flow `flow` with an inner length of `len` bytes (without FCS).
pub fn build(wrap: Wrap, flow: u32, len: usize) -> Vec<u8> {
    assert!((MIN_FRAME..=MAX_FRAME).contains(&len) && flow < MAX_FLOWS);
    let outer = wrap.outer_len();
    let mut frame = vec![0; outer + len];
    let [_, f0, f1, f2] = flow.to_be_bytes();
    let inner = &mut frame[outer..];
    inner[..6].copy_from_slice(&[2, 0x10, 0, f0, f1, f2]);
    inner[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    inner[12..14].copy_from_slice(&[8, 0]);
    ipv4_udp(&mut inner[IP_AT..], [10, 0, 0, 1], [10, 128 | f0, f1, f2], (1000, 2000), false);
    inner[MARK_AT..MARK_AT + 4].copy_from_slice(&MARK);

    let (from, to, encap) = match wrap {
        Wrap::Plain => return frame,
        Wrap::ToSwitch(encap) => (PEER, SWITCH, encap),
        Wrap::FromSwitch(encap) => (SWITCH, PEER, encap),
    };
    frame[..6].copy_from_slice(&to.mac);
    frame[6..12].copy_from_slice(&from.mac);
    frame[12..14].copy_from_slice(&[8, 0]);
    ipv4_udp(&mut frame[IP_AT..], from.ip, to.ip, (source_port(flow), port_of(encap)), true);
    let header = &mut frame[42..50];
    match encap {
        Encap::Vxlan => header[0] = 0x08,
        Encap::Geneve => header[2..4].copy_from_slice(&[0x65, 0x58]),
    }
    header[4..7].copy_from_slice(&VNI.to_be_bytes()[1..]);
    frame
}

fn port_of(encap: Encap) -> u16 {
    match encap {
        Encap::Vxlan => 4789,
        Encap::Geneve => 6081,
    }
}

/// Spreads flows over the dynamic ports, as a VTEP does.
fn source_port(flow: u32) -> u16 {
    0xc000 | (flow.wrapping_mul(2_654_435_761) >> 18) as u16
}

/// What tells one flow's frames from another's: written over a frame of any other flow, it makes it this flow's.
#[derive(Clone, Copy, Debug)]
pub struct Patch {
    mac: [u8; 4],
    dst: [u8; 4],
    /// Of the inner IPv4 header without the packet's length, so that one patch does for frames of all sizes.
    sum: u16,
    outer_port: [u8; 2],
}

impl Patch {
    /// The patch of flow `flow`.
    pub fn new(wrap: Wrap, flow: u32) -> Self {
        let mut frame = build(wrap, flow, MIN_FRAME);
        let (outer, inner) = frame.split_at_mut(wrap.outer_len());
        inner[LENGTH_AT..LENGTH_AT + 2].fill(0);
        inner[CHECKSUM_AT..CHECKSUM_AT + 2].fill(0);
        let bytes = |at: usize| [inner[at], inner[at + 1], inner[at + 2], inner[at + 3]];
        Self {
            mac: bytes(MAC_AT),
            dst: bytes(DST_AT),
            sum: sum(&inner[IP_AT..UDP_AT]),
            outer_port: if outer.is_empty() { [0; 2] } else { [outer[UDP_AT], outer[UDP_AT + 1]] },
        }
    }

    /// Makes a frame that was built by [`build`] this flow's; `OUTER_LEN` is the `outer_len` of its wrap. A frame that
    /// is too short is left alone.
    ///
    /// With the place known to the compiler this is three or four plain stores: more of them, to lines that the other
    /// core had last, fill the CPU's store buffer and cost as much as all the rest of sending.
    #[inline(always)]
    pub fn apply<const OUTER_LEN: usize>(&self, frame: &mut [u8]) {
        let packet = frame.len().wrapping_sub(OUTER_LEN + IP_AT) as u32;
        let Some(head) = frame.get_mut(..OUTER_LEN + MARK_AT) else { return };
        // Both have 16 bits, so one carry is all there can be.
        let sum = u32::from(self.sum) + packet;
        let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
        put(head, OUTER_LEN + MAC_AT, self.mac);
        put(head, OUTER_LEN + CHECKSUM_AT, checksum.to_be_bytes());
        put(head, OUTER_LEN + DST_AT, self.dst);
        if OUTER_LEN > 0 {
            put(head, UDP_AT, self.outer_port);
        }
    }
}

/// Where in a frame it stands when that was sent.
pub const fn stamp_at(wrap: Wrap) -> usize {
    wrap.outer_len() + STAMP_AT
}

/// Writes when the frame was sent, in ticks of the time stamp counter. A frame that is too short is left alone.
#[inline]
pub fn set_stamp(wrap: Wrap, frame: &mut [u8], ticks: u64) {
    let at = stamp_at(wrap);
    if frame.len() >= at + 8 {
        put(frame, at, ticks.to_le_bytes());
    }
}

/// When the frame was sent, or `None` if it holds no time.
#[inline]
pub fn stamp(wrap: Wrap, frame: &[u8]) -> Option<u64> {
    let ticks = u64::from_le_bytes(*frame.get(stamp_at(wrap)..)?.first_chunk()?);
    (ticks != 0).then_some(ticks)
}

#[inline(always)]
fn put<const N: usize>(frame: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(place) = frame[at..].first_chunk_mut::<N>() {
        *place = bytes;
    }
}

/// All flows' patches in random order: the order in which they are sent, over and over.
pub fn shuffled(wrap: Wrap, flows: u32) -> Vec<Patch> {
    let mut order: Vec<u32> = (0..flows).collect();
    // Fisher-Yates with a xorshift generator: the same order in every run.
    let mut x = 0x9e37_79b9_7f4a_7c15u64;
    for i in (1..order.len()).rev() {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        order.swap(i, (x % (i as u64 + 1)) as usize);
    }
    order.into_iter().map(|flow| Patch::new(wrap, flow)).collect()
}

/// Judges received frames.
#[derive(Clone, Debug)]
pub struct Check {
    wrap: Wrap,
    flows: u32,
    /// A frame of each size that may come.
    models: Vec<Vec<u8>>,
    /// Where the frame that should have come is put together.
    expected: Vec<u8>,
}

impl Check {
    /// - `wrap`: how the frames should be wrapped
    /// - `flows`: how many are sent
    /// - `sizes`: lengths of the inner frames that are sent
    pub fn new(wrap: Wrap, flows: u32, sizes: &[usize]) -> Self {
        let models = sizes.iter().map(|&len| build(wrap, 0, len)).collect();
        Self { wrap, flows, models, expected: Vec::with_capacity(OUTER + MAX_FRAME) }
    }

    /// Whether the frame is one that was sent, as it should arrive, byte for byte. Free is when it was sent. Of an
    /// outer header that the switch made, the source port may be any that is not assigned, as RFC 7348 leaves the hash
    /// to the sender: weft takes the dynamic ports, Open vSwitch those from 32768 on.
    pub fn is_good(&mut self, frame: &[u8]) -> bool {
        let outer = self.wrap.outer_len();
        let Some(model) = self.models.iter().find(|model| model.len() == frame.len()) else { return false };
        let [_, _, _, f0, f1, f2] = frame[outer..outer + 6] else { return false };
        let flow = u32::from_be_bytes([0, f0, f1, f2]);
        if flow >= self.flows {
            return false;
        }
        self.expected.clone_from(model);
        let patch = Patch::new(self.wrap, flow);
        match self.wrap {
            Wrap::Plain => patch.apply::<0>(&mut self.expected),
            Wrap::ToSwitch(_) | Wrap::FromSwitch(_) => patch.apply::<OUTER>(&mut self.expected),
        }
        if let Some(ticks) = stamp(self.wrap, frame) {
            set_stamp(self.wrap, &mut self.expected, ticks);
        }
        if let Wrap::FromSwitch(_) = self.wrap {
            let port = [frame[UDP_AT], frame[UDP_AT + 1]];
            if u16::from_be_bytes(port) < 0x8000 {
                return false;
            }
            self.expected[UDP_AT..UDP_AT + 2].copy_from_slice(&port);
        }
        frame == self.expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_wire::{LocalVtep, MacAddr, RxChecks, Underlay, classify_underlay};

    const WRAPS: [Wrap; 5] = [
        Wrap::Plain,
        Wrap::ToSwitch(Encap::Vxlan),
        Wrap::ToSwitch(Encap::Geneve),
        Wrap::FromSwitch(Encap::Vxlan),
        Wrap::FromSwitch(Encap::Geneve),
    ];

    #[test]
    fn a_patched_frame_is_the_flows_own_whatever_its_size() {
        for wrap in WRAPS {
            for len in [MIN_FRAME, 64, 570, MAX_FRAME] {
                for flow in [0, 1, 255, 256, 70_000, 999_999, MAX_FLOWS - 1] {
                    let mut frame = build(wrap, 1, len);
                    let patch = Patch::new(wrap, flow);
                    match wrap {
                        Wrap::Plain => patch.apply::<0>(&mut frame),
                        _ => patch.apply::<OUTER>(&mut frame),
                    }
                    assert_eq!(frame, build(wrap, flow, len), "{wrap:?} {flow} {len}");
                }
            }
        }
    }

    #[test]
    fn every_byte_that_is_wrong_is_noticed() {
        for wrap in WRAPS {
            let mut check = Check::new(wrap, 100, &[64, 570]);
            for len in [64, 570] {
                let good = build(wrap, 42, len);
                assert!(check.is_good(&good), "{wrap:?}");
                assert!(!check.is_good(&good[..good.len() - 1]));
                for at in 0..good.len() {
                    let mut bad = good.clone();
                    bad[at] ^= 1;
                    let inner = at.wrapping_sub(wrap.outer_len());
                    let free = matches!(wrap, Wrap::FromSwitch(_)) && (UDP_AT..UDP_AT + 2).contains(&at)
                        || (STAMP_AT..STAMP_AT + 8).contains(&inner);
                    assert_eq!(check.is_good(&bad), free, "{wrap:?}, byte {at} of {len}");
                }
            }
            assert!(!check.is_good(&build(wrap, 100, 64)), "a flow that is not sent");
            assert!(!check.is_good(&build(wrap, 42, 65)), "a size that is not sent");
            assert!(!check.is_good(&[]) && !check.is_good(&[0; 64]));
        }
    }

    #[test]
    fn a_frame_tells_when_it_was_sent() {
        for wrap in WRAPS {
            let mut frame = build(wrap, 3, MIN_FRAME);
            assert_eq!(stamp(wrap, &frame), None, "no time yet");
            set_stamp(wrap, &mut frame, 0x0102_0304_0506_0708);
            assert_eq!(stamp(wrap, &frame), Some(0x0102_0304_0506_0708));
            assert!(Check::new(wrap, 4, &[MIN_FRAME]).is_good(&frame));
            let mut short = frame[..wrap.outer_len() + STAMP_AT + 7].to_vec();
            set_stamp(wrap, &mut short, 1);
            assert_eq!(stamp(wrap, &short), None);
        }
    }

    #[test]
    fn weft_takes_the_tunnel_packets_for_what_they_are() {
        let vtep =
            LocalVtep { ip: SWITCH.ip.into(), mac: MacAddr(SWITCH.mac), vxlan_port: 4789, geneve_port: 6081 };
        for encap in [Encap::Vxlan, Encap::Geneve] {
            let frame = build(Wrap::ToSwitch(encap), 7, 64);
            match classify_underlay(&frame, frame.len(), &vtep, RxChecks::default()) {
                Ok(Underlay::Tunnel(t)) => {
                    assert_eq!((t.encap, t.vni.get(), t.src.octets()), (encap, VNI, PEER.ip));
                    assert_eq!((usize::from(t.inner_offset), t.outer_len as usize), (OUTER, frame.len()));
                }
                other => panic!("{encap}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_order_holds_every_flow_once() {
        let mut macs: Vec<[u8; 4]> = shuffled(Wrap::Plain, 1000).iter().map(|p| p.mac).collect();
        assert!(macs.windows(2).any(|w| w[0] > w[1]), "shuffled");
        macs.sort_unstable();
        macs.dedup();
        assert_eq!(macs.len(), 1000);
    }
}
