//! The neighbours of the uplink: which MAC has an IPv4 address (RFC 826), kept fresh and given up in time.
//!
//! This is a state machine without I/O: callers give it packets and the time, and send the requests that it asks for.
//!
//! ```text
//!   want --> Probing (broadcast, once a second, 3 times) --answer--> Reachable
//!               |  no answer                                          | REACHABLE later
//!               v                                                     v
//!            Failed (asked again every RETRY)   <--no answer--  Refreshing (unicast 3 times; the MAC stays in use)
//! ```

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use weft_wire::MacAddr;

/// How long an answer is trusted before the neighbour is asked again (RFC 1122 2.3.2.1 suggests a minute).
pub const REACHABLE: Duration = Duration::from_secs(30);
/// Between two requests for one address (RFC 1122 2.3.2.1: at most one a second).
pub const INTERVAL: Duration = Duration::from_secs(1);
/// Unanswered requests until a neighbour is given up.
pub const TRIES: u32 = 3;
/// How long a confirmed MAC is kept against another one, as two stations with one address would make it flap.
pub const LOCK: Duration = Duration::from_secs(1);
/// Between requests to a neighbour that was given up.
pub const RETRY: Duration = Duration::from_secs(5);

/// What is known about one neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Being asked for; no MAC yet.
    Probing,
    /// Answered lately.
    Reachable,
    /// Being asked again; the old MAC is in use.
    Refreshing,
    /// Did not answer.
    Failed,
}

impl State {
    /// The name that `weftctl` shows.
    pub fn name(self) -> &'static str {
        match self {
            State::Probing => "probing",
            State::Reachable => "reachable",
            State::Refreshing => "refreshing",
            State::Failed => "failed",
        }
    }
}

/// One neighbour.
#[derive(Clone, Copy, Debug)]
pub struct Neighbor {
    /// Where it stands.
    pub state: State,
    /// Its MAC, while one is in use.
    pub mac: Option<MacAddr>,
    /// When the MAC was last confirmed.
    pub confirmed: Option<Instant>,
    sent: u32,
    /// Another MAC was heard of: everyone is asked.
    doubted: bool,
    next: Instant,
}

/// What the caller has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Send an ARP request, to this MAC or to everyone.
    Request(Ipv4Addr, Option<MacAddr>),
    /// The address has this MAC now (new or changed).
    Resolved(Ipv4Addr, MacAddr),
    /// The address did not answer: packets that wait for it are lost, a MAC in use is not to be used any more.
    Lost(Ipv4Addr),
}

/// All neighbours of one uplink. Only addresses that were asked for are kept, so strangers can't fill it.
#[derive(Debug, Default)]
pub struct Neighbors {
    entries: HashMap<Ipv4Addr, Neighbor>,
}

impl Neighbors {
    /// Keeps exactly these addresses resolved from now on; others are forgotten.
    pub fn want(&mut self, addresses: impl IntoIterator<Item = Ipv4Addr>, now: Instant) {
        let mut wanted = HashMap::new();
        for ip in addresses {
            let fresh = Neighbor {
                state: State::Probing,
                mac: None,
                confirmed: None,
                sent: 0,
                doubted: false,
                next: now,
            };
            wanted.insert(ip, self.entries.get(&ip).copied().unwrap_or(fresh));
        }
        self.entries = wanted;
    }

    /// The MAC in use for an address.
    pub fn mac(&self, ip: Ipv4Addr) -> Option<MacAddr> {
        self.entries.get(&ip)?.mac
    }

    /// Every neighbour.
    pub fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, &Neighbor)> {
        self.entries.iter().map(|(ip, n)| (*ip, n))
    }

    /// An ARP packet said that `ip` is at `mac`. Returns an event if that is news.
    pub fn learn(&mut self, ip: Ipv4Addr, mac: MacAddr, now: Instant) -> Option<Event> {
        if mac.is_multicast() || mac.is_zero() {
            return None;
        }
        let n = self.entries.get_mut(&ip)?;
        let news = n.mac != Some(mac);
        if let Some(confirmed) =
            n.confirmed.filter(|t| news && n.mac.is_some() && now.duration_since(*t) < LOCK)
        {
            // It may be true all the same, and said only once: ask everybody as soon as another answer counts.
            (n.state, n.sent, n.doubted, n.next) = (State::Refreshing, 0, true, confirmed + LOCK);
            return None;
        }
        *n = Neighbor {
            state: State::Reachable,
            mac: Some(mac),
            confirmed: Some(now),
            sent: 0,
            doubted: false,
            next: now + REACHABLE,
        };
        news.then_some(Event::Resolved(ip, mac))
    }

    /// Traffic waits for this address: ask soon if it was given up.
    pub fn hurry(&mut self, ip: Ipv4Addr, now: Instant) {
        if let Some(n) = self.entries.get_mut(&ip)
            && n.state == State::Failed
        {
            n.next = n.next.min(now + INTERVAL);
        }
    }

    /// What is due at `now`.
    pub fn tick(&mut self, now: Instant, mut emit: impl FnMut(Event)) {
        for (ip, n) in &mut self.entries {
            if now < n.next {
                continue;
            }
            match n.state {
                State::Reachable => (n.state, n.sent) = (State::Refreshing, 0),
                State::Failed => (n.state, n.sent) = (State::Probing, TRIES - 1),
                _ => {}
            }
            if n.sent >= TRIES {
                emit(Event::Lost(*ip));
                (n.state, n.mac, n.next) = (State::Failed, None, now + RETRY);
                continue;
            }
            // The last unicast request goes to everyone: the address may have moved to another MAC.
            let to = n.mac.filter(|_| n.sent + 1 < TRIES && !n.doubted);
            emit(Event::Request(*ip, to));
            n.sent += 1;
            n.next = now + INTERVAL;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 2);
    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    fn due(n: &mut Neighbors, at: Instant) -> Vec<Event> {
        let mut v = Vec::new();
        n.tick(at, |e| v.push(e));
        v
    }

    fn wanting(now: Instant) -> Neighbors {
        let mut n = Neighbors::default();
        n.want([IP], now);
        n
    }

    #[test]
    fn asks_three_times_then_gives_up_and_tries_again_later() {
        let t = Instant::now();
        let mut n = wanting(t);
        for i in 0..3 {
            assert_eq!(due(&mut n, t + INTERVAL * i), [Event::Request(IP, None)]);
            assert_eq!(due(&mut n, t + INTERVAL * i), []);
        }
        let lost = t + INTERVAL * 3;
        assert_eq!(due(&mut n, lost), [Event::Lost(IP)]);
        assert_eq!(due(&mut n, lost + INTERVAL), []);
        assert_eq!(due(&mut n, lost + RETRY), [Event::Request(IP, None)]);
        assert_eq!(due(&mut n, lost + RETRY + INTERVAL), [Event::Lost(IP)]);
        n.hurry(IP, lost + RETRY + INTERVAL);
        assert_eq!(due(&mut n, lost + RETRY + INTERVAL * 2), [Event::Request(IP, None)]);
    }

    #[test]
    fn an_answer_resolves_and_only_a_change_is_news() {
        let t = Instant::now();
        let mut n = wanting(t);
        assert_eq!(n.learn(IP, MAC, t), Some(Event::Resolved(IP, MAC)));
        assert_eq!(n.learn(IP, MAC, t), None);
        assert_eq!(n.learn(IP, OTHER, t + LOCK / 2), None, "too soon after it was confirmed");
        assert_eq!((n.mac(IP), due(&mut n, t + LOCK / 2)), (Some(MAC), vec![]));
        assert_eq!(due(&mut n, t + LOCK), [Event::Request(IP, None)], "but it is looked into");
        assert_eq!(n.learn(IP, OTHER, t + LOCK), Some(Event::Resolved(IP, OTHER)));
        assert_eq!(n.mac(IP), Some(OTHER));
    }

    #[test]
    fn refreshes_by_unicast_with_the_mac_in_use_and_loses_it_at_last() {
        let t = Instant::now();
        let mut n = wanting(t);
        n.learn(IP, MAC, t);
        let r = t + REACHABLE;
        assert_eq!(due(&mut n, r), [Event::Request(IP, Some(MAC))]);
        assert_eq!(n.mac(IP), Some(MAC));
        assert_eq!(due(&mut n, r + INTERVAL), [Event::Request(IP, Some(MAC))]);
        assert_eq!(due(&mut n, r + INTERVAL * 2), [Event::Request(IP, None)]);
        assert_eq!(due(&mut n, r + INTERVAL * 3), [Event::Lost(IP)]);
        assert_eq!(n.mac(IP), None);
    }

    #[test]
    fn strangers_and_impossible_macs_are_not_learned() {
        let t = Instant::now();
        let mut n = wanting(t);
        assert_eq!(n.learn(Ipv4Addr::new(192, 168, 50, 77), MAC, t), None);
        assert_eq!(n.learn(IP, MacAddr([0xff; 6]), t), None);
        assert_eq!(n.learn(IP, MacAddr([0; 6]), t), None);
        assert_eq!(n.iter().count(), 1);
        assert_eq!(n.mac(IP), None);
    }

    #[test]
    fn what_is_not_wanted_any_more_is_forgotten_and_the_rest_kept() {
        let t = Instant::now();
        let mut n = wanting(t);
        n.learn(IP, MAC, t);
        let b = Ipv4Addr::new(192, 168, 50, 3);
        n.want([IP, b], t);
        assert_eq!(n.mac(IP), Some(MAC));
        n.want([b], t);
        assert_eq!(n.mac(IP), None);
    }
}
