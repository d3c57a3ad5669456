//! What the generator does with what it receives.

use weft_port::{Burst, Mbuf, Mempool, TxQueue, free_burst};
use weft_wire::MacAddr;
use weft_wire::arp::{self, ArpOp};

use crate::frames::{self, Check, PEER, Wrap};
use crate::latency::Histogram;
use crate::sizes::{MAX_SIZES, Sizes};

/// One received frame in this many is compared byte for byte; of each one the length is checked.
const SAMPLE: u64 = 128;

/// What was received.
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    /// Frames of a length that is sent.
    pub frames: u64,
    /// Of those, how many of each size.
    pub by_size: [u64; MAX_SIZES],
    /// Frames that should not have come, or not like this.
    pub bad: u64,
    /// Frames that were compared byte for byte.
    pub checked: u64,
    /// ARP requests that were answered.
    pub arp: u64,
}

/// Counts and checks frames, and answers ARP for the remote VTEP.
#[derive(Debug)]
pub struct Sink {
    wrap: Wrap,
    check: Check,
    /// Lengths of the whole frames that may come.
    lens: Vec<u32>,
    pool: Mempool,
    until_sample: u64,
    /// What was counted since the start.
    pub received: Received,
    /// Where the ages of frames go that hold the time when they were sent.
    pub latency: Option<Histogram>,
}

impl Sink {
    /// - `wrap`: how frames should arrive
    /// - `flows`, `sizes`: what is sent
    /// - `pool`: for ARP replies
    pub fn new(wrap: Wrap, flows: u32, sizes: &Sizes, pool: &Mempool, latency: bool) -> Self {
        Self {
            wrap,
            check: Check::new(wrap, flows, &sizes.each),
            lens: sizes.each.iter().map(|size| (wrap.outer_len() + size) as u32).collect(),
            pool: pool.clone(),
            until_sample: SAMPLE,
            received: Received::default(),
            latency: latency.then(Histogram::default),
        }
    }

    /// Counts a burst that arrived at the time `now` and empties it; ARP requests are answered on `tx`.
    #[inline]
    pub fn take(&mut self, burst: &mut Burst, tx: &mut TxQueue, now: u64) {
        if self.latency.is_some() {
            self.ages(burst, now);
        }
        for m in burst.iter() {
            let len = m.pkt_len();
            // Nearly always the first comparison is true: with one size, or as most frames of a mix are short.
            match self.lens.iter().position(|&l| l == len) {
                Some(which) => {
                    self.received.by_size[which] += 1;
                    self.received.frames += 1;
                    self.until_sample -= 1;
                    if self.until_sample == 0 {
                        self.sample(m);
                    }
                }
                None => self.other(m, tx),
            }
        }
        free_burst(burst);
    }

    /// The same for what came out at a device where nothing but ARP should.
    pub fn take_astray(&mut self, burst: &mut Burst, tx: &mut TxQueue, now: u64) {
        let before = self.received;
        self.take(burst, tx, now);
        let strayed = self.received.frames - before.frames;
        (self.received.frames, self.received.by_size) = (before.frames, before.by_size);
        self.received.bad += strayed;
    }

    fn sample(&mut self, m: &Mbuf) {
        self.until_sample = SAMPLE;
        self.received.checked += 1;
        self.received.bad += u64::from(!self.check.is_good(m.data()));
    }

    fn ages(&mut self, burst: &Burst, now: u64) {
        let Some(latency) = &mut self.latency else { return };
        // The lines were the other core's last: they are waited for together.
        let at = frames::stamp_at(self.wrap) as u16;
        burst.iter().for_each(|m| m.prefetch_at(at));
        for m in burst.iter().filter(|m| self.lens.contains(&m.pkt_len())) {
            match frames::stamp(self.wrap, m.data()) {
                Some(sent) if sent <= now => latency.record(now - sent),
                // The time went missing, or is one that has not come yet.
                _ => self.received.bad += 1,
            }
        }
    }

    /// Not of a length that is sent: ARP, or a mistake.
    #[cold]
    fn other(&mut self, m: &Mbuf, tx: &mut TxQueue) {
        match arp::parse(m.data()) {
            None => self.received.bad += 1,
            Some(p) if p.op == ArpOp::Request && p.tpa.octets() == PEER.ip => {
                let mut reply = [0; 60];
                let len = arp::build_reply(MacAddr(PEER.mac), p.tpa, p.sha, p.spa, &mut reply);
                let mut one = Burst::new();
                one.extend(self.pool.alloc_copy(&reply[..len]));
                // A full ring loses the answer; the switch asks again.
                self.received.arp += tx.tx_burst(&mut one) as u64;
            }
            Some(_) => {}
        }
    }
}
