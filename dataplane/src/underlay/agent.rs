//! The underlay's agent: the one thread that speaks for the VTEP address and for the host's kernel.
//!
//! It takes what workers punt, answers ARP and ICMP echo, keeps next hops resolved and writes their outer headers into
//! the VTEP slots, lets held packets go, and moves the rest between the uplink and the kernel's TAP. It is the only
//! writer of the VTEP slots.

use super::hold::Holding;
use super::neighbor::{Event, Neighbors, State};
use super::punt::{AgentEnds, Inject, Punt, Ring};
use crate::counters::ThreadCounters;
use crate::drop::DropReason;
use crate::forwarding::VtepNextHop;
use crossbeam::channel::{Receiver, Sender};
use rtrb::PushError;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use weft_port::{Mbuf, Mempool, Tap};
use weft_tables::SlotTable;
use weft_wire::{Dscp, Encap, MacAddr, Template, TemplateParams, arp, icmp};

/// Packets taken from one ring in one round.
const BUDGET: usize = 64;
/// Sleep between rounds while there was traffic lately, and otherwise.
const NAP: [Duration; 2] = [Duration::from_micros(200), Duration::from_millis(1)];
/// How often timers are looked at.
const TICK: Duration = Duration::from_millis(20);
/// Longest frame exchanged with the kernel: more than any device's MTU with two VLAN tags.
const TAP_FRAME: usize = 9728 + 22;
/// ICMP echo requests answered in a second.
const ECHO_PPS: u32 = 1000;
/// When the VTEP address is announced, counted from the start or since the link is up (RFC 5227 2.3 has two
/// announcements, two seconds apart).
const ANNOUNCE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];
/// At most one announcement in this time against another station that claims the address (RFC 5227 2.4).
const DEFEND: Duration = Duration::from_secs(10);

/// A remote VTEP as the agent needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VtepPlan {
    /// Its slot.
    pub slot: u16,
    /// Its address.
    pub ip: Ipv4Addr,
    /// How packets to it are encapsulated.
    pub encap: Encap,
    /// Its UDP port.
    pub port: u16,
}

/// What the agent has to know of the configuration.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The uplink's port slot.
    pub uplink: u16,
    /// The uplink's MAC.
    pub mac: MacAddr,
    /// weft's own VTEP address.
    pub ip: Ipv4Addr,
    /// Length of the subnet's prefix, in bits.
    pub prefix: u8,
    /// Where VTEPs outside the subnet are reached.
    pub gateway: Option<Ipv4Addr>,
    /// Outer TTL.
    pub ttl: u8,
    /// Outer "don't fragment".
    pub df: bool,
    /// Outer DSCP.
    pub dscp: Dscp,
    /// Every VTEP.
    pub vteps: Vec<VtepPlan>,
}

impl Plan {
    /// The address to resolve for a VTEP: itself if on-link, else the gateway.
    pub fn next_hop(&self, ip: Ipv4Addr) -> Ipv4Addr {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix.min(32))).unwrap_or(0);
        let on_link = (u32::from(ip) ^ u32::from(self.ip)) & mask == 0;
        self.gateway.filter(|_| !on_link).unwrap_or(ip)
    }
}

/// A request to the agent.
pub enum AgentCommand {
    /// Use this plan from now on; answered when the VTEP slots are written.
    Plan(Box<Plan>, Sender<()>),
    /// The uplink's link came up: announce the VTEP address.
    Announce,
    /// End.
    Stop,
}

/// A neighbour as shown to operators.
#[derive(Clone, Debug)]
pub struct NeighborView {
    /// Address.
    pub ip: Ipv4Addr,
    /// MAC in use.
    pub mac: Option<MacAddr>,
    /// State.
    pub state: State,
    /// Time since the last confirmation.
    pub age: Option<Duration>,
    /// Packets waiting for VTEPs behind it.
    pub queued: usize,
}

/// What the agent shows to others, refreshed every tick.
#[derive(Debug, Default)]
pub struct AgentView {
    /// Neighbours.
    pub neighbors: Vec<NeighborView>,
    /// Packets held: waiting for resolution or in rings between the agent and workers.
    pub held: usize,
    /// Another station that claimed the VTEP address lately.
    pub conflict: Option<MacAddr>,
}

/// What an agent is made of.
pub struct AgentParts {
    /// Rings, by worker; injection goes to the first.
    pub ends: Vec<AgentEnds>,
    /// VTEP slots, written by the agent alone.
    pub vteps: Arc<SlotTable<VtepNextHop>>,
    /// The agent's own counters.
    pub counters: Arc<ThreadCounters>,
    /// For packets that it makes.
    pub pool: Mempool,
    /// The way to the kernel.
    pub tap: Option<Tap>,
    /// Frames a second to the kernel.
    pub exception_pps: u32,
    /// First plan.
    pub plan: Plan,
    /// Requests.
    pub commands: Receiver<AgentCommand>,
    /// Where others look.
    pub view: Arc<Mutex<AgentView>>,
}

/// The agent's state.
pub struct Agent {
    parts: AgentParts,
    neighbors: Neighbors,
    holding: Holding,
    bucket: TokenBucket,
    echo: TokenBucket,
    /// When to announce the VTEP address next, and how often it was.
    announce: (Instant, usize),
    /// Who claims the VTEP address, and when it was last answered.
    conflict: Option<(MacAddr, Instant)>,
    frame: Box<[u8]>,
}

impl Agent {
    /// Sets the VTEP slots of the first plan.
    pub fn new(parts: AgentParts) -> Self {
        let now = Instant::now();
        let bucket = TokenBucket::new(parts.exception_pps, now);
        let plan = parts.plan.clone();
        let mut agent = Self {
            parts,
            neighbors: Neighbors::default(),
            holding: Holding::default(),
            bucket,
            echo: TokenBucket::new(ECHO_PPS, now),
            announce: (now + ANNOUNCE[0], 0),
            conflict: None,
            frame: vec![0; TAP_FRAME].into(),
        };
        agent.adopt(plan, now);
        agent
    }

    /// Runs until told to stop. What is held then is dropped and counted.
    pub fn run(mut self) {
        let mut active = Instant::now();
        let mut next_tick = active;
        loop {
            let now = Instant::now();
            while let Ok(c) = self.parts.commands.try_recv() {
                match c {
                    AgentCommand::Plan(plan, done) => {
                        self.adopt(*plan, now);
                        // The asker may have given up waiting.
                        let _ = done.send(());
                    }
                    AgentCommand::Announce => self.announce = (now + ANNOUNCE[0], 0),
                    AgentCommand::Stop => return self.stop(),
                }
            }
            let work = self.poll_workers(now) + self.poll_tap();
            if now >= next_tick {
                self.tick(now);
                next_tick = now + TICK;
            }
            if work > 0 {
                active = now;
            } else {
                std::thread::sleep(NAP[usize::from(now.duration_since(active) > Duration::from_millis(100))]);
            }
        }
    }

    /// Takes up a plan: writes and clears VTEP slots, keeps what is resolved.
    fn adopt(&mut self, plan: Plan, now: Instant) {
        for gone in self.parts.plan.vteps.iter().filter(|v| !plan.vteps.iter().any(|n| n.slot == v.slot)) {
            self.parts.vteps.set(u32::from(gone.slot), None);
            for h in self.holding.take(gone.slot) {
                self.parts.counters.dropped(h.src, DropReason::NextHopGone, 1);
            }
        }
        self.neighbors.want(plan.vteps.iter().map(|v| plan.next_hop(v.ip)), now);
        self.parts.plan = plan;
        for v in self.parts.plan.vteps.clone() {
            self.write_slot(&v);
        }
        self.tick(now);
    }

    /// Writes one VTEP's slot from what is known now.
    fn write_slot(&mut self, v: &VtepPlan) {
        let plan = &self.parts.plan;
        let template = self.neighbors.mac(plan.next_hop(v.ip)).map(|dst_mac| {
            Template::new(&TemplateParams {
                encap: v.encap,
                src_mac: plan.mac,
                dst_mac,
                src_ip: plan.ip,
                dst_ip: v.ip,
                dst_port: v.port,
                ttl: plan.ttl,
                df: plan.df,
                dscp: plan.dscp,
            })
        });
        let resolved = template.is_some();
        let hop = VtepNextHop { ip: v.ip, template, may_fragment: !plan.df, vxlan: v.encap == Encap::Vxlan };
        self.parts.vteps.set(u32::from(v.slot), Some(hop));
        if resolved {
            self.release(v.slot);
        }
    }

    /// Lets the packets go that waited for a VTEP.
    fn release(&mut self, slot: u16) {
        for h in self.holding.take(slot) {
            let src = h.src;
            self.inject(Inject::Encap { mbuf: h.mbuf, vtep: slot, network: h.network, src }, src);
        }
    }

    fn inject(&mut self, what: Inject, src: u16) {
        let pushed = match self.parts.ends.first_mut() {
            Some(ends) => ends.to.push(what).map_err(|PushError::Full(w)| w),
            None => Err(what),
        };
        if pushed.is_err() {
            self.parts.counters.dropped(src, DropReason::InjectFull, 1);
        }
    }

    /// Sends a frame that weft made itself.
    fn originate(&mut self, frame: &[u8]) {
        if let Some(m) = self.parts.pool.alloc_copy(frame) {
            self.parts.counters.originated.add(1);
            self.inject(Inject::Uplink(m), self.parts.plan.uplink);
        }
    }

    fn poll_workers(&mut self, now: Instant) -> usize {
        let mut n = 0;
        for ring in [Ring::Arp, Ring::Hold, Ring::Host] {
            for w in 0..self.parts.ends.len() {
                for _ in 0..BUDGET {
                    let Ok(p) = self.parts.ends[w].from[ring as usize].pop() else { break };
                    n += 1;
                    match p {
                        Punt::Hold { mbuf, vtep, network, src } => self.hold(mbuf, vtep, network, src, now),
                        Punt::Host { mbuf, src } => self.for_host(mbuf, src, now),
                    }
                }
            }
        }
        n
    }

    fn hold(&mut self, mbuf: Mbuf, vtep: u16, network: u32, src: u16, now: Instant) {
        let Some(v) = self.parts.plan.vteps.iter().find(|v| v.slot == vtep) else {
            return self.parts.counters.dropped(src, DropReason::NextHopGone, 1);
        };
        let next_hop = self.parts.plan.next_hop(v.ip);
        if self.neighbors.mac(next_hop).is_some() {
            // Resolved while the packet was on its way here.
            return self.inject(Inject::Encap { mbuf, vtep, network, src }, src);
        }
        self.neighbors.hurry(next_hop, now);
        if self.holding.add(vtep, mbuf, network, src, now).is_err() {
            self.parts.counters.dropped(src, DropReason::NeighborQueueFull, 1);
        }
    }

    /// A frame from the uplink that is no tunnel packet.
    fn for_host(&mut self, mut m: Mbuf, src: u16, now: Instant) {
        if m.nb_segs() > 1 && !m.linearize() {
            return self.parts.counters.dropped(src, DropReason::NotLinear, 1);
        }
        let tagged = m.vlan_stripped().is_some_and(|tci| tci & 0x0fff != 0);
        if !tagged {
            if m.data().get(12..14) == Some(&[0x08, 0x06]) {
                return self.arp(m, src, now);
            }
            let plan = &self.parts.plan;
            if m.data_mut().is_some_and(|f| icmp::echo_reply(f, plan.ip, plan.mac).is_ok()) {
                if !self.echo.take(now) {
                    return self.parts.counters.dropped(src, DropReason::EchoRateLimit, 1);
                }
                self.parts.counters.consumed.add(1);
                self.parts.counters.originated.add(1);
                m.clear_offload();
                return self.inject(Inject::Uplink(m), src);
            }
        }
        self.hand_to_kernel(&m, src);
    }

    fn arp(&mut self, m: Mbuf, src: u16, now: Instant) {
        let (ip, mac) = (self.parts.plan.ip, self.parts.plan.mac);
        let Some(p) = arp::parse(m.data()) else {
            return self.parts.counters.dropped(src, DropReason::ArpInvalid, 1);
        };
        if p.spa == ip {
            // Someone claims our address, or the frame is our own come back: either way not to be believed.
            if p.sha != mac {
                self.defend(p.sha, now);
            }
            return self.parts.counters.dropped(src, DropReason::ArpInvalid, 1);
        }
        // What has our own MAC is our kernel's, come back by a loop: to send to it would be to send to ourselves.
        if p.sha != mac
            && let Some(e) = self.neighbors.learn(p.spa, p.sha, now)
        {
            self.on_event(e);
        }
        if p.tpa != ip {
            return self.hand_to_kernel(&m, src);
        }
        self.parts.counters.consumed.add(1);
        if p.op == arp::ArpOp::Request {
            let mut out = [0; 60];
            let n = arp::build_reply(mac, ip, p.sha, p.spa, &mut out);
            self.originate(&out[..n]);
        }
    }

    /// Answers a station that claims the VTEP address (RFC 5227 2.4): routers shall go on believing weft.
    fn defend(&mut self, by: MacAddr, now: Instant) {
        if self.conflict.is_none_or(|(_, answered)| now.duration_since(answered) >= DEFEND) {
            self.conflict = Some((by, now));
            self.announce();
        }
    }

    /// An ARP announcement of the VTEP address, so that nobody goes on sending to a MAC that had it before.
    fn announce(&mut self) {
        let (mac, ip) = (self.parts.plan.mac, self.parts.plan.ip);
        let mut out = [0; 60];
        let n = arp::build_request(mac, ip, ip, &mut out);
        self.originate(&out[..n]);
    }

    fn hand_to_kernel(&mut self, m: &Mbuf, src: u16) {
        let c = &self.parts.counters;
        let Some(tap) = &mut self.parts.tap else { return c.dropped(src, DropReason::ExceptionNoTap, 1) };
        if !self.bucket.take(Instant::now()) {
            return c.dropped(src, DropReason::ExceptionRateLimit, 1);
        }
        let data = m.data();
        let written = match (m.vlan_stripped(), data.split_at_checked(12)) {
            // The device took the tag out; the kernel wants to see it.
            (Some(_), _) if data.len() + 4 > self.frame.len() => Err(std::io::ErrorKind::InvalidInput.into()),
            (Some(tci), Some((macs, rest))) => {
                self.frame[..12].copy_from_slice(macs);
                self.frame[12..14].copy_from_slice(&[0x81, 0x00]);
                self.frame[14..16].copy_from_slice(&tci.to_be_bytes());
                self.frame[16..16 + rest.len()].copy_from_slice(rest);
                tap.write(&self.frame[..data.len() + 4])
            }
            _ => tap.write(data),
        };
        match written {
            Ok(_) => c.consumed.add(1),
            Err(_) => c.dropped(src, DropReason::ExceptionTapFull, 1),
        }
    }

    /// Frames that the kernel sends.
    fn poll_tap(&mut self) -> usize {
        let mut n = 0;
        while n < BUDGET {
            let Some(tap) = &mut self.parts.tap else { break };
            let Ok(len) = tap.read(&mut self.frame) else { break };
            n += 1;
            let Some(frame) = self.frame.get(..len) else { break };
            self.parts.counters.originated.add(1);
            match self.parts.pool.alloc_copy(frame) {
                Some(m) => self.inject(Inject::Uplink(m), self.parts.plan.uplink),
                None => self.parts.counters.dropped(self.parts.plan.uplink, DropReason::NoMbuf, 1),
            }
        }
        n
    }

    fn on_event(&mut self, e: Event) {
        let behind = |plan: &Plan, ip: Ipv4Addr| -> Vec<VtepPlan> {
            plan.vteps.iter().filter(|v| plan.next_hop(v.ip) == ip).cloned().collect()
        };
        match e {
            Event::Request(ip, to) => {
                let (our_mac, our_ip) = (self.parts.plan.mac, self.parts.plan.ip);
                let mut out = [0; 60];
                let n = match to {
                    Some(mac) => arp::build_poll(mac, our_mac, our_ip, ip, &mut out),
                    None => arp::build_request(our_mac, our_ip, ip, &mut out),
                };
                self.originate(&out[..n]);
            }
            Event::Resolved(ip, _) => {
                for v in behind(&self.parts.plan, ip) {
                    self.write_slot(&v);
                }
            }
            Event::Lost(ip) => {
                for v in behind(&self.parts.plan, ip) {
                    for h in self.holding.take(v.slot) {
                        self.parts.counters.dropped(h.src, DropReason::NeighborUnresolved, 1);
                    }
                    self.write_slot(&v);
                }
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        let mut events = Vec::new();
        self.neighbors.tick(now, |e| events.push(e));
        for e in events {
            self.on_event(e);
        }
        let (at, times) = self.announce;
        if times < ANNOUNCE.len() && now >= at {
            self.announce();
            let gap = ANNOUNCE.get(times + 1).map_or(Duration::ZERO, |next| *next - ANNOUNCE[times]);
            self.announce = (now + gap, times + 1);
        }
        // Not repeated for a while: it seems to be over.
        if self.conflict.is_some_and(|(_, at)| now.duration_since(at) > 3 * DEFEND) {
            self.conflict = None;
        }
        let counters = &self.parts.counters;
        self.holding.expire(now, |h| counters.dropped(h.src, DropReason::NeighborUnresolved, 1));
        self.show(now);
    }

    fn show(&self, now: Instant) {
        let plan = &self.parts.plan;
        let mut queued: HashMap<Ipv4Addr, usize> = HashMap::new();
        for v in &plan.vteps {
            *queued.entry(plan.next_hop(v.ip)).or_default() += self.holding.waiting(v.slot);
        }
        let mut neighbors: Vec<_> = self
            .neighbors
            .iter()
            .map(|(ip, n)| NeighborView {
                ip,
                mac: n.mac,
                state: n.state,
                age: n.confirmed.map(|t| now.duration_since(t)),
                queued: queued.get(&ip).copied().unwrap_or(0),
            })
            .collect();
        neighbors.sort_by_key(|n| n.ip);
        let held = self.holding.len() + self.parts.ends.iter().map(AgentEnds::held).sum::<usize>();
        *self.parts.view.lock().unwrap_or_else(PoisonError::into_inner) =
            AgentView { neighbors, held, conflict: self.conflict.map(|(mac, _)| mac) };
    }

    fn stop(mut self) {
        for v in self.parts.plan.vteps.clone() {
            for h in self.holding.take(v.slot) {
                self.parts.counters.dropped(h.src, DropReason::NextHopGone, 1);
            }
        }
    }
}

/// Lets through a number of packets a second, with bursts of a tenth of that.
struct TokenBucket {
    rate: f64,
    tokens: f64,
    last: Instant,
}

impl TokenBucket {
    fn new(per_second: u32, now: Instant) -> Self {
        let rate = f64::from(per_second);
        Self { rate, tokens: Self::depth(rate), last: now }
    }

    fn depth(rate: f64) -> f64 {
        (rate / 10.0).max(1.0)
    }

    fn take(&mut self, now: Instant) -> bool {
        let earned = now.duration_since(self.last).as_secs_f64() * self.rate;
        self.tokens = (self.tokens + earned).min(Self::depth(self.rate));
        self.last = now;
        if self.rate > 0.0 && self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_hop_is_the_vtep_itself_or_the_gateway() {
        let mut plan = Plan {
            uplink: 0,
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            ip: Ipv4Addr::new(192, 168, 50, 1),
            prefix: 24,
            gateway: Some(Ipv4Addr::new(192, 168, 50, 254)),
            ttl: 64,
            df: true,
            dscp: Dscp::Fixed(0),
            vteps: Vec::new(),
        };
        let (near, far) = (Ipv4Addr::new(192, 168, 50, 9), Ipv4Addr::new(10, 0, 0, 9));
        assert_eq!(plan.next_hop(near), near);
        assert_eq!(plan.next_hop(far), Ipv4Addr::new(192, 168, 50, 254));
        plan.prefix = 0;
        assert_eq!(plan.next_hop(far), far);
        plan.prefix = 32;
        assert_eq!(plan.next_hop(near), Ipv4Addr::new(192, 168, 50, 254));
    }

    #[test]
    fn the_bucket_lets_through_its_rate_and_no_more() {
        let t = Instant::now();
        let mut b = TokenBucket::new(1000, t);
        let passed = |b: &mut TokenBucket, at: Instant| (0..10_000).filter(|_| b.take(at)).count();
        assert_eq!(passed(&mut b, t), 100);
        assert_eq!(passed(&mut b, t + Duration::from_millis(50)), 50);
        assert_eq!(passed(&mut b, t + Duration::from_secs(60)), 100);
        assert_eq!(passed(&mut TokenBucket::new(0, t), t + Duration::from_secs(9)), 0);
    }
}
