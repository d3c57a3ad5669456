//! A worker's packet path between a source and a sink that cost next to nothing: for measuring the path alone.
//!
//! The sink is DPDK's ring device, which keeps what is sent to it and gives it back: the transmit side is the real one, with
//! a driver that stores pointers. The source is [`Bed::prepare`], which takes packets back from the ring and makes them the
//! next frames. It is called outside of what is measured, which begins with bursts that have been received and ends
//! when the ring has the packets.
//!
//! What that leaves out: a NIC's or a guest's ring and copies. And packets lie in caches of the core that handles them, as it
//! has just written their bytes: what it costs to get a line from a device or another core is not in the figures.

use crate::frames::{Check, OUTER, PEER, Patch, SWITCH, VNI, Wrap, build, shuffled};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use weft_dataplane::bench::{BareWorker, Source, Work};
use weft_dataplane::forwarding::{Bd, Forwarding, NextHopId, PortEntry, Tables, TxRoute, TxqId};
use weft_dataplane::forwarding::{Uplink, VtepNextHop, VtepSet};
use weft_dataplane::{MAX_FRAME, UPLINK};
use weft_port::{BURST, Burst, DEFAULT_DATA_ROOM, Eal, EthConfig, EthDev, Mempool, RxQueue};
use weft_tables::fdb::{Fdb, FdbConfig, FdbKey, FdbWriter, Seed};
use weft_tables::qsbr::Domain;
use weft_tables::{Published, SlotTable};
use weft_wire::{Dscp, Encap, LocalVtep, MacAddr, Template, TemplateParams, Vni};

/// Bursts that are prepared and measured at once: as many packets as a transmit stage holds, so that no stage sends before
/// it is told to.
pub const BATCH: usize = 4;
/// Packets in circulation. More than a batch, as they are in a switch.
const PACKETS: u32 = 512;

const NETWORK: u32 = 1;
const GENERATION: u16 = 1;
const VTEP: u16 = 0;
const VM0: u16 = 1;
const VM1: u16 = 2;

/// The way that packets take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From a VM into a tunnel.
    Encap(Encap),
    /// From a tunnel to a VM.
    Decap(Encap),
    /// From a VM to another.
    L2,
}

impl Way {
    /// All of them.
    pub const ALL: [Way; 5] = [
        Way::Encap(Encap::Vxlan),
        Way::Encap(Encap::Geneve),
        Way::Decap(Encap::Vxlan),
        Way::Decap(Encap::Geneve),
        Way::L2,
    ];

    fn wraps(self) -> (Wrap, Wrap) {
        match self {
            Way::Encap(e) => (Wrap::Plain, Wrap::FromSwitch(e)),
            Way::Decap(e) => (Wrap::ToSwitch(e), Wrap::Plain),
            Way::L2 => (Wrap::Plain, Wrap::Plain),
        }
    }

    /// The slot that packets come from, and the one that they leave by.
    fn slots(self) -> (u16, u16) {
        match self {
            Way::Encap(_) => (VM0, UPLINK),
            Way::Decap(_) => (UPLINK, VM0),
            Way::L2 => (VM0, VM1),
        }
    }

    fn hop(self) -> NextHopId {
        match self {
            Way::Encap(_) => NextHopId::vtep(VTEP),
            Way::Decap(_) => NextHopId::port(VM0, GENERATION),
            Way::L2 => NextHopId::port(VM1, GENERATION),
        }
    }
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Way::Encap(e) => write!(f, "encap-{e}"),
            Way::Decap(e) => write!(f, "decap-{e}"),
            Way::L2 => write!(f, "l2"),
        }
    }
}

/// A worker, its tables, and packets in circulation.
pub struct Bed {
    /// The worker.
    pub worker: BareWorker,
    /// Where the packets come from.
    pub source: Source,
    way: Way,
    check: Check,
    frame: Vec<u8>,
    patches: Vec<Patch>,
    next: usize,
    back: RxQueue,
    // The tables stay as long as their writer.
    _fdb: FdbWriter,
    _ring: EthDev,
    _pool: Mempool,
}

impl Bed {
    /// A bed for packets of one kind: frames of `size` bytes (inner ones, without FCS) to `flows` MAC addresses in random
    /// order, which are all the FDB holds. Tables and order are the same in every run. Sends one batch and looks at
    /// every byte of what comes out.
    ///
    /// # Panics
    /// If DPDK lacks memory or its ring driver, or if a packet does not come out as it should.
    pub fn new(eal: &Eal, way: Way, flows: u32, size: usize) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let pool =
            Mempool::new(eal, &format!("bed{number}"), PACKETS, 0, DEFAULT_DATA_ROOM, -1).expect("pool");
        let config = EthConfig {
            device: format!("net_ring{number}"),
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
        let (ring, mut rx, mut tx) = EthDev::open(eal, &config).expect("DPDK's ring device");

        let (wrap, out) = way.wraps();
        let frame = build(wrap, 0, size);
        let mut send = tx.remove(0);
        let mut burst = Burst::new();
        for _ in 0..PACKETS {
            burst.push(pool.alloc_copy(&frame).expect("mbuf"));
            assert_eq!(send.tx_burst(&mut burst), 1, "room in the ring");
        }

        let (from, to) = way.slots();
        let domain = Domain::new(1);
        let seed = Some(Seed::fixed(1));
        let (mut writer, fdb) = Fdb::new(&domain, FdbConfig { seed, ..FdbConfig::default() });
        let entries: Vec<(FdbKey, u32)> = (0..flows)
            .map(|f| (FdbKey::new(NETWORK, 0x0210_0000_0000 | u64::from(f)), way.hop().raw()))
            .collect();
        writer.insert_all(&entries).expect("memory");
        let fwd = Forwarding {
            tables: Arc::new(Published::new(&domain, tables(to))),
            fdb,
            vteps: Arc::new(SlotTable::new(&domain, 1)),
        };
        if let Way::Encap(encap) = way {
            fwd.vteps.set(VTEP.into(), Some(next_hop(encap)));
        }
        let mut worker = BareWorker::new(fwd, domain.register("bench").expect("first reader"));
        worker.add(TxqId::new(to, 0), GENERATION, send);

        let mut bed = Self {
            worker,
            source: Source { slot: from, generation: GENERATION },
            way,
            check: Check::new(out, flows, &[size]),
            frame,
            patches: shuffled(wrap, flows),
            next: 0,
            back: rx.remove(0),
            _fdb: writer,
            _ring: ring,
            _pool: pool,
        };
        bed.look();
        bed
    }

    /// Takes packets back from the ring and makes them the next frames, in as many bursts of 32 as there are.
    ///
    /// # Panics
    /// If packets are missing, because a burst before was not sent whole.
    pub fn prepare(&mut self, bursts: &mut [Burst]) {
        for burst in bursts {
            self.take_back(burst);
            self.refresh(burst);
        }
    }

    fn take_back(&mut self, burst: &mut Burst) {
        burst.clear();
        let n = self.back.rx_burst(burst, BURST);
        assert_eq!(n, BURST, "{}: packets are missing; dropped: {}", self.way, self.drops());
    }

    fn refresh(&mut self, burst: &mut Burst) {
        for m in burst.iter_mut() {
            let (is, wanted) = (m.pkt_len() as usize, self.frame.len());
            assert!(if is > wanted { m.adj(is - wanted) } else { m.prepend(wanted - is).is_some() });
            let bytes = m.data_mut().expect("nobody else's");
            bytes.copy_from_slice(&self.frame);
            let patch = &self.patches[self.next];
            match self.way {
                Way::Decap(_) => patch.apply::<OUTER>(bytes),
                _ => patch.apply::<0>(bytes),
            }
            self.next = if self.next + 1 == self.patches.len() { 0 } else { self.next + 1 };
        }
    }

    /// A round of the worker for each burst: the path and the flush.
    #[inline]
    pub fn rounds(&mut self, bursts: &mut [Burst]) {
        for burst in bursts {
            self.worker.round(self.source, burst);
        }
    }

    /// Makes packets that a stage has changed the next frames, and sends them.
    pub fn resend(&mut self, bursts: &mut [Burst]) {
        for burst in bursts {
            self.refresh(burst);
            self.worker.round(self.source, burst);
        }
    }

    /// The first stage of each burst.
    #[inline]
    pub fn enter(&mut self, bursts: &mut [Burst], work: &mut [Work]) {
        for (burst, work) in bursts.iter_mut().zip(work) {
            match self.way {
                Way::Decap(_) => self.worker.decap(burst, work),
                _ => self.worker.admit(self.source, burst, work),
            }
        }
    }

    /// What was dropped so far, by reason.
    pub fn drops(&self) -> String {
        let drops = self.worker.drops(self.source.slot);
        drops.iter().map(|(reason, n)| format!("{n} {} ", reason.name())).collect()
    }

    /// Sends the whole circulation, so that its packets have all been through the path, and looks at the first burst.
    fn look(&mut self) {
        let mut bursts: [Burst; PACKETS as usize / BURST] = Default::default();
        self.prepare(&mut bursts);
        self.rounds(&mut bursts);
        let sent = self.worker.sent(self.way.slots().1);
        assert_eq!(sent, PACKETS.into(), "{}: dropped: {}", self.way, self.drops());
        for burst in &mut bursts {
            self.take_back(burst);
            for m in burst.iter() {
                assert!(self.check.is_good(m.data()), "{}: wrong frame {:02x?}", self.way, m.data());
            }
        }
        self.resend(&mut bursts);
    }
}

/// One bridge domain with two VMs and a VTEP; the port in slot `to` has a transmit queue.
fn tables(to: u16) -> Tables {
    let port = |slot| {
        let mut route = TxRoute::default();
        if slot == to {
            route.queues.push(TxqId::new(slot, 0));
        }
        Some(PortEntry { generation: GENERATION, bd: 0, max_frame: MAX_FRAME, routes: vec![route] })
    };
    let mut vtep_set = VtepSet::default();
    vtep_set.insert(VTEP);
    let vni = Vni::new(VNI).expect("24 bits");
    let domain = Bd {
        network: NETWORK,
        vni: Some(vni),
        keep_inner_vlan: false,
        members: vec![VM0, VM1],
        vteps: vec![VTEP],
        vtep_set,
    };
    let local =
        LocalVtep { ip: SWITCH.ip.into(), mac: MacAddr(SWITCH.mac), vxlan_port: 4789, geneve_port: 6081 };
    Tables {
        generation: 1,
        ports: vec![port(UPLINK), port(VM0), port(VM1)],
        bds: vec![domain],
        vnis: [(VNI, 0)].into_iter().collect(),
        vteps: [(PEER.ip.into(), VTEP)].into_iter().collect(),
        uplink: Some(Uplink { slot: UPLINK, local, max_frame: 1514 }),
    }
}

/// The remote VTEP, resolved.
fn next_hop(encap: Encap) -> VtepNextHop {
    let template = Template::new(&TemplateParams {
        encap,
        src_mac: MacAddr(SWITCH.mac),
        dst_mac: MacAddr(PEER.mac),
        src_ip: SWITCH.ip.into(),
        dst_ip: PEER.ip.into(),
        dst_port: encap.default_port(),
        ttl: 64,
        df: true,
        dscp: Dscp::Fixed(0),
    });
    VtepNextHop {
        ip: PEER.ip.into(),
        template: Some(template),
        may_fragment: false,
        vxlan: encap == Encap::Vxlan,
    }
}
