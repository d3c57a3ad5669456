//! Packets that wait for their VTEP's next hop: a few for each VTEP, for a short time.

use std::collections::HashMap;
use std::time::{Duration, Instant};
use weft_port::Mbuf;

/// Packets held for one VTEP.
pub const PER_VTEP: usize = 32;
/// Packets of one source held for one VTEP.
pub const PER_SOURCE: usize = 8;
/// Packets held in all.
pub const TOTAL: usize = 1024;
/// How long a packet is held: three requests, one a second, and a little.
pub const HOLD: Duration = Duration::from_millis(3500);

/// A packet that waits.
#[derive(Debug)]
pub struct Held {
    /// The inner frame.
    pub mbuf: Mbuf,
    /// Its bridge domain's network id.
    pub network: u32,
    /// The slot that it came from.
    pub src: u16,
    since: Instant,
}

/// All packets that wait.
#[derive(Debug, Default)]
pub struct Holding {
    by_vtep: HashMap<u16, Vec<Held>>,
    by_source: HashMap<u16, usize>,
    total: usize,
}

impl Holding {
    /// Takes a packet, or gives it back if too many wait already.
    pub fn add(&mut self, vtep: u16, mbuf: Mbuf, network: u32, src: u16, now: Instant) -> Result<(), Mbuf> {
        let q = self.by_vtep.entry(vtep).or_default();
        let of_source = q.iter().filter(|h| h.src == src).count();
        // Of the whole, a source may hold as many places as are free.
        let share = TOTAL - self.total.min(TOTAL);
        let held = self.by_source.get(&src).copied().unwrap_or(0);
        if q.len() >= PER_VTEP || of_source >= PER_SOURCE || held >= share {
            return Err(mbuf);
        }
        q.push(Held { mbuf, network, src, since: now });
        self.total += 1;
        *self.by_source.entry(src).or_default() += 1;
        Ok(())
    }

    /// Takes out everything that waits for a VTEP, oldest first.
    pub fn take(&mut self, vtep: u16) -> Vec<Held> {
        let q = self.by_vtep.remove(&vtep).unwrap_or_default();
        self.total -= q.len();
        q.iter().for_each(|h| less(&mut self.by_source, h.src));
        q
    }

    /// Takes out what has waited too long.
    pub fn expire(&mut self, now: Instant, mut gone: impl FnMut(Held)) {
        for q in self.by_vtep.values_mut() {
            // Packets of one VTEP stand in order of arrival.
            let old = q.iter().take_while(|h| now.duration_since(h.since) >= HOLD).count();
            self.total -= old;
            for h in q.drain(..old) {
                less(&mut self.by_source, h.src);
                gone(h);
            }
        }
        self.by_vtep.retain(|_, q| !q.is_empty());
    }

    /// Packets waiting for one VTEP.
    pub fn waiting(&self, vtep: u16) -> usize {
        self.by_vtep.get(&vtep).map_or(0, Vec::len)
    }

    /// Packets waiting now.
    pub fn len(&self) -> usize {
        self.total
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }
}

fn less(by_source: &mut HashMap<u16, usize>, src: u16) {
    if let Some(n) = by_source.get_mut(&src) {
        *n -= 1;
        if *n == 0 {
            by_source.remove(&src);
        }
    }
}
