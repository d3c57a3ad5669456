//! Bursts of frames of all kinds through the path, with what must come of each said frame by frame: that packets travel
//! in runs, and most by short cuts, must not show.

use super::*;
use crate::drop::DropReason;
use crate::forwarding::{Bd, NextHopId, PortEntry, TxRoute, TxqId, Uplink, VtepNextHop, VtepSet};
use crate::timing::StageClock;
use crate::tx::handoff_mesh;
use crate::underlay::punt;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use weft_port::{DEFAULT_DATA_ROOM, Eal, EalConfig, EthConfig, EthDev, Mempool, RxQueue, TxQueue};
use weft_tables::fdb::{Fdb, FdbConfig};
use weft_tables::qsbr::Domain;
use weft_tables::{Published, SlotTable};
use weft_wire::{Dscp, Encap, LocalVtep, MacAddr, Template, TemplateParams, Vni};

const NETWORK: u32 = 7;
const UP: u16 = 0;
const VM0: u16 = 1;
const VM1: u16 = 2;
const UP_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const TO_VTEP: [u8; 6] = [2, 0, 0, 0, 1, 1];
const TO_VM1: [u8; 6] = [2, 0, 0, 0, 1, 2];
const TO_VM0: [u8; 6] = [2, 0, 0, 0, 1, 3];
const NO_VTEP: [u8; 6] = [2, 0, 0, 0, 1, 4];

/// A frame, how its packet is made, and where it comes in.
#[derive(Clone, Debug)]
struct Input {
    frame: Vec<u8>,
    /// Bytes in the first of two buffers; 0: all in one.
    cut: usize,
    headroom: bool,
}

fn template(may_fragment: bool) -> Template {
    Template::new(&TemplateParams {
        encap: Encap::Vxlan,
        src_mac: MacAddr(UP_MAC),
        dst_mac: MacAddr([2, 0, 0, 0, 0, 2]),
        src_ip: [10, 0, 0, 1].into(),
        dst_ip: [10, 0, 0, 2].into(),
        dst_port: 4789,
        ttl: 64,
        df: !may_fragment,
        dscp: if may_fragment { Dscp::Inherit } else { Dscp::Fixed(10) },
    })
}

fn frames() -> impl Strategy<Value = Input> {
    let dst = prop_oneof![
        8 => Just(TO_VTEP), 4 => Just(TO_VM1), 1 => Just(TO_VM0), 1 => Just(NO_VTEP),
        1 => Just([1, 0x80, 0xc2, 0, 0, 3]),
    ];
    let kind = prop_oneof![
        6 => Just(vec![8, 0, 0x45]), 1 => Just(vec![0x81, 0, 0, 5, 8, 0, 0x45]), 1 => Just(vec![0x86, 0xdd, 0x60]),
        1 => Just(vec![8, 0, 0x46]),
    ];
    let len = prop_oneof![6 => 34..100usize, 1 => 0..20usize, 1 => 1400..1600usize];
    let body = (any::<[u8; 8]>(), prop_oneof![Just(6u8), Just(17), Just(1)], any::<bool>());
    (dst, kind, len, body, 0..20u8, prop_oneof![4 => Just(0usize), 1 => 1..90usize], 0..8u8).prop_map(
        |(dst, kind, len, (bytes, protocol, fragment), group, cut, headroom)| {
            let mut frame = dst.to_vec();
            frame.extend([if group == 0 { 3 } else { 2 }, 0, 0, 0, 9, 9]);
            frame.extend(kind);
            let ip = frame.len() - 1;
            frame.extend((frame.len()..200.max(len)).map(|i| (i as u8) ^ bytes[i % 8]));
            frame[ip + 6] = if fragment { 0x20 } else { 0x40 };
            (frame[ip + 7], frame[ip + 9]) = (0, protocol);
            frame.truncate(len);
            Input { cut: if cut < frame.len() { cut } else { 0 }, frame, headroom: headroom != 0 }
        },
    )
}

/// What becomes of a frame from VM 0: the bytes that leave by a slot, or why it is dropped.
fn expected(
    frame: &[u8],
    t: &Template,
    next_id: &mut u16,
    may_fragment: bool,
) -> Result<(u16, Vec<u8>), DropReason> {
    if frame.len() < 14 {
        return Err(DropReason::Runt);
    }
    if frame[6] & 1 == 1 {
        return Err(DropReason::SourceMulticast);
    }
    let dst: [u8; 6] = std::array::from_fn(|i| frame[i]);
    match dst {
        TO_VM1 if frame.len() > 1514 => Err(DropReason::ExceedsPortMtu),
        TO_VM1 => Ok((VM1, frame.to_vec())),
        TO_VM0 => Err(DropReason::SamePort),
        NO_VTEP => Err(DropReason::NextHopGone),
        TO_VTEP if frame[12..14] == [0x81, 0] => Err(DropReason::InnerVlan),
        TO_VTEP if frame.len() + Template::LEN > 1550 => Err(DropReason::ExceedsUnderlayMtu),
        TO_VTEP => {
            let mut out = vec![0; Template::LEN];
            if may_fragment {
                *next_id = next_id.wrapping_add(1);
            }
            let vni = Vni::new(77).expect("24 bits");
            let id = if may_fragment { *next_id } else { 0 };
            assert!(t.write_with_id(&mut out, frame.len() as u16, vni, &weft_wire::inspect(frame), id));
            out.extend(frame);
            Ok((UP, out))
        }
        _ => Err(DropReason::ReservedMulticast),
    }
}

fn packet(pool: &Mempool, input: &Input) -> Mbuf {
    let (first, second) = input.frame.split_at(if input.cut == 0 { input.frame.len() } else { input.cut });
    let mut m = pool.alloc().expect("mbuf");
    if !input.headroom {
        // The frame begins where the headroom did.
        let room = m.headroom();
        assert!(m.prepend(room.into()).is_some() && m.trim_to(0) && m.headroom() == 0);
    }
    assert!(m.append(first));
    if !second.is_empty() {
        assert!(m.chain(pool.alloc_copy(second).expect("mbuf")));
    }
    m
}

struct Bed {
    lane: Lane,
    reader: Reader,
    fwd: Forwarding,
    back: [(u16, RxQueue); 2],
}

fn open(eal: &Eal, pool: &Mempool, device: &str) -> (EthDev, RxQueue, TxQueue) {
    let config = EthConfig {
        device: device.into(),
        rx_queues: 1,
        tx_queues: 1,
        rx_desc: 0,
        tx_desc: 0,
        mtu: 1500,
        promiscuous: false,
        rx_checksums: true,
        free_early: true,
        pool: pool.clone(),
    };
    let (dev, mut rx, mut tx) = EthDev::open(eal, &config).expect("DPDK's ring device");
    (dev, rx.remove(0), tx.remove(0))
}

fn tables() -> Tables {
    let port = |slot, max_frame| {
        let mut route = TxRoute::default();
        route.queues.push(TxqId::new(slot, 0));
        Some(PortEntry { generation: 1, bd: 0, max_frame, routes: vec![route] })
    };
    let mut vtep_set = VtepSet::default();
    vtep_set.insert(0);
    let bd = Bd {
        network: NETWORK,
        vni: Vni::new(77),
        keep_inner_vlan: false,
        members: vec![VM0, VM1],
        vteps: vec![0],
        vtep_set,
    };
    let local =
        LocalVtep { ip: [10, 0, 0, 1].into(), mac: MacAddr(UP_MAC), vxlan_port: 4789, geneve_port: 6081 };
    Tables {
        ports: vec![port(UP, 1550), port(VM0, 1514), port(VM1, 1514)],
        bds: vec![bd],
        vnis: [(77, 0)].into_iter().collect(),
        vteps: [([10, 0, 0, 2].into(), 0)].into_iter().collect(),
        uplink: Some(Uplink { slot: UP, local, max_frame: 1550 }),
        ..Tables::default()
    }
}

impl Bed {
    fn run(&mut self, from: u16, burst: &mut Burst) {
        self.lane.tx.now += 1;
        let v = View {
            fwd: &self.fwd,
            tables: self.fwd.tables.load(&self.reader),
            reader: &self.reader,
            worker: 0,
        };
        run(v, &mut self.lane, &mut Scratch::default(), RxId { slot: from, generation: 1 }, burst);
        assert!(burst.is_empty());
        assert_eq!(self.lane.tx.flush(&self.lane.counters), 0, "the rings have room");
    }

    fn take(&mut self) -> [Vec<Vec<u8>>; 2] {
        std::array::from_fn(|i| {
            let (mut burst, mut frames) = (Burst::new(), Vec::new());
            while self.back[i].1.rx_burst(&mut burst, 32) > 0 {
                frames.extend(burst.drain(..).map(|m| m.segments().flatten().copied().collect()));
            }
            frames
        })
    }

    fn drops(&self, slot: u16) -> Vec<u64> {
        self.lane.counters.port(slot).drops.iter().map(|d| d.get()).collect()
    }
}

fn check(bed: &mut Bed, pool: &Mempool, inputs: &[Input], may_fragment: bool) -> Result<(), TestCaseError> {
    let t = template(may_fragment);
    bed.fwd
        .vteps
        .set(0, Some(VtepNextHop { ip: [10, 0, 0, 2].into(), template: Some(t), may_fragment, vxlan: true }));
    let mut id = bed.lane.ip_id;
    let (mut leave, mut drops) = ([Vec::new(), Vec::new()], bed.drops(VM0));
    for input in inputs {
        match expected(&input.frame, &t, &mut id, may_fragment) {
            Ok((slot, frame)) => leave[usize::from(slot == VM1)].push(frame),
            Err(reason) => drops[reason as usize] += 1,
        }
    }
    let before = |slot| {
        let p = bed.lane.counters.port(slot);
        (p.rx_packets.get(), p.rx_bytes.get(), p.tx_packets.get(), p.tx_bytes.get())
    };
    let (rx, up, vm) = (before(VM0), before(UP), before(VM1));
    let mut burst: Burst = inputs.iter().map(|i| packet(pool, i)).collect();
    bed.run(VM0, &mut burst);
    prop_assert_eq!(bed.drops(VM0), drops);
    let bytes = |frames: &[Vec<u8>]| frames.iter().map(|f| f.len() as u64).sum::<u64>();
    for (slot, before, frames) in [(UP, up, &leave[0]), (VM1, vm, &leave[1])] {
        let p = bed.lane.counters.port(slot);
        let sent = (p.tx_packets.get() - before.2, p.tx_bytes.get() - before.3);
        prop_assert_eq!(sent, (frames.len() as u64, bytes(frames)));
    }
    let p = bed.lane.counters.port(VM0);
    let all: u64 = inputs.iter().map(|i| i.frame.len() as u64).sum();
    prop_assert_eq!((p.rx_packets.get() - rx.0, p.rx_bytes.get() - rx.1), (inputs.len() as u64, all));
    prop_assert_eq!(&bed.take(), &leave);

    // What went into the tunnel comes back as VM 0's would: to a local port, without its outer headers.
    let returned: Vec<Vec<u8>> = leave[0].iter().map(|f| come_back(f)).collect();
    let mut burst: Burst = returned.iter().map(|f| pool.alloc_copy(f).expect("mbuf")).collect();
    bed.run(UP, &mut burst);
    let inner: Vec<Vec<u8>> = returned.iter().map(|f| f[Template::LEN..].to_vec()).collect();
    prop_assert_eq!(&bed.take(), &[Vec::new(), inner]);
    prop_assert_eq!(pool.in_use(), 0, "packets leaked");
    Ok(())
}

/// The same tunnel packet as the remote VTEP would send it, for VM 1.
fn come_back(sent: &[u8]) -> Vec<u8> {
    let mut f = sent.to_vec();
    f[0..6].copy_from_slice(&UP_MAC);
    // Swapped addresses have the same sum.
    f[26..30].copy_from_slice(&[10, 0, 0, 2]);
    f[30..34].copy_from_slice(&[10, 0, 0, 1]);
    // No mark of congestion, which not all inner frames could carry on.
    let tos = f[15];
    f[15] &= !3;
    let sum = u16::from_be_bytes([f[24], f[25]]);
    let sum = weft_wire::checksum::update(sum, u16::from(tos), u16::from(f[15]));
    f[24..26].copy_from_slice(&sum.to_be_bytes());
    f[50..56].copy_from_slice(&TO_VM1);
    f
}

#[test]
fn every_frame_of_a_burst_gets_what_it_would_get_alone() {
    let eal = Eal::init(&EalConfig {
        file_prefix: format!("weft-test-path-{}", std::process::id()),
        memory_mb: 64,
        huge: false,
        ..EalConfig::default()
    })
    .expect("EAL");
    let pool = Mempool::new(&eal, "path", 511, 0, DEFAULT_DATA_ROOM, -1).expect("pool");
    let (_up, up_rx, up_tx) = open(&eal, &pool, "net_ring0");
    let (_vm, vm_rx, vm_tx) = open(&eal, &pool, "net_ring1");
    let domain = Domain::new(1);
    let (mut writer, fdb) = Fdb::new(&domain, FdbConfig::default());
    let mac = |m: [u8; 6]| FdbKey::new(NETWORK, MacAddr(m).to_u64());
    let hops = [
        (mac(TO_VTEP), NextHopId::vtep(0).raw()),
        (mac(NO_VTEP), NextHopId::vtep(1).raw()),
        (mac(TO_VM1), NextHopId::port(VM1, 1).raw()),
        (mac(TO_VM0), NextHopId::port(VM0, 1).raw()),
    ];
    writer.insert_all(&hops).expect("memory");
    let fwd = Forwarding {
        tables: Arc::new(Published::new(&domain, tables())),
        fdb,
        vteps: Arc::new(SlotTable::new(&domain, 2)),
    };
    let mut reader = domain.register("test").expect("reader");
    reader.online();
    let (punt, _inject, _agent) = punt::rings();
    let mut tx = TxSet::new(handoff_mesh(1).remove(0).to, weft_port::tsc_hz());
    tx.add(TxqId::new(UP, 0), 1, up_tx);
    tx.add(TxqId::new(VM1, 0), 1, vm_tx);
    let lane = Lane {
        tx,
        counters: Arc::new(ThreadCounters::default()),
        punt,
        ip_id: 65_530,
        replicas_left: 0,
        clock: StageClock::new(false),
    };
    let bed = Bed { lane, reader, fwd, back: [(UP, up_rx), (VM1, vm_rx)] };
    let bed = std::cell::RefCell::new(bed);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(500) });
    let inputs = (proptest::collection::vec(frames(), 1..=32), any::<bool>());
    let run = |(inputs, may_fragment): (Vec<Input>, bool)| {
        let mut bed = bed.borrow_mut();
        let done = check(&mut bed, &pool, &inputs, may_fragment);
        bed.reader.quiescent();
        done
    };
    runner.run(&inputs, run).unwrap_or_else(|e| panic!("{e}"));
}
