//! A ring between two threads that shares its places fairly among the ports whose packets it carries.
//!
//! Every port may hold as many places as are free (dynamic thresholds, Choudhury and Hahne 1998, with a factor of 1):
//! a port that sends more than the other thread takes gets half of the ring, two such ports a third each, and what is
//! left stays free for those who send little.
//!
//! The producer knows whose packets are inside without asking anybody: it writes down the sources in the order of
//! pushing, and the consumer takes them in that order.

use crate::MAX_PORTS;
use rtrb::{Consumer, Producer, PushError, RingBuffer};

/// The producer's end.
pub struct FairProducer<T> {
    ring: Producer<T>,
    /// Sources of what was pushed, in a circle; of these the last `inside` may still be in the ring.
    sources: Box<[u16]>,
    next: usize,
    inside: usize,
    /// Places that each port holds, among `inside`.
    held: Box<[u16]>,
}

/// Makes a ring with `places` places, at most 65,535.
pub fn fair_ring<T>(places: usize) -> (FairProducer<T>, Consumer<T>) {
    let (ring, consumer) = RingBuffer::new(places);
    let sources = vec![0; places].into();
    (FairProducer { ring, sources, next: 0, inside: 0, held: vec![0; MAX_PORTS].into() }, consumer)
}

impl<T> FairProducer<T> {
    /// Pushes a packet of port `src`; gives it back if the ring is full or the port holds its share.
    #[inline]
    pub fn push(&mut self, src: u16, what: T) -> Result<(), T> {
        let places = self.sources.len();
        // As long as the ring may be at most half full nobody can hold more than is free.
        if self.inside >= places / 2 {
            self.catch_up();
            let free = places - self.inside;
            if self.held.get(usize::from(src)).is_some_and(|h| usize::from(*h) >= free) {
                return Err(what);
            }
        }
        self.ring.push(what).map_err(|PushError::Full(w)| w)?;
        self.sources[self.next] = src;
        self.next = if self.next + 1 == places { 0 } else { self.next + 1 };
        self.inside += 1;
        if let Some(h) = self.held.get_mut(usize::from(src)) {
            *h += 1;
        }
        Ok(())
    }

    /// Strikes off what the consumer has taken since the last time.
    fn catch_up(&mut self) {
        let places = self.sources.len();
        let inside = places - self.ring.slots();
        while self.inside > inside {
            let oldest = (self.next + places - self.inside) % places;
            if let Some(h) = self.held.get_mut(usize::from(self.sources[oldest])) {
                *h -= 1;
            }
            self.inside -= 1;
        }
    }

    /// Packets in the ring now.
    pub fn len(&self) -> usize {
        self.sources.len() - self.ring.slots()
    }

    /// Whether nothing is in the ring.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hog_gets_half_and_the_others_what_they_need() {
        let (mut p, mut c) = fair_ring(64);
        assert_eq!((0..100).filter(|_| p.push(7, 7).is_ok()).count(), 32);
        assert_eq!((0..10).filter(|_| p.push(8, 8).is_ok()).count(), 10);
        assert!(p.push(7, 7).is_err(), "the hog holds more than is free");
        let out: Vec<u16> = std::iter::from_fn(|| c.pop().ok()).collect();
        assert_eq!(out, [vec![7; 32], vec![8; 10]].concat());
        assert!(p.is_empty());
        // What was taken counts no more.
        assert_eq!((0..100).filter(|_| p.push(7, 7).is_ok()).count(), 32);
    }

    #[test]
    fn every_hog_gets_the_same() {
        let (mut p, _c) = fair_ring(64);
        for _ in 0..100 {
            for src in 1..=3 {
                let _ = p.push(src, src);
            }
        }
        assert_eq!(p.held[1..=3], [16, 16, 16]);
    }

    #[test]
    fn the_books_stay_right_over_many_turns() {
        let (mut p, mut c) = fair_ring(16);
        let mut inside = std::collections::VecDeque::new();
        let mut seed = 1_u32;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let src = (seed >> 16) as u16 % 5;
            if seed >> 31 == 0 {
                if p.push(src, src).is_ok() {
                    inside.push_back(src);
                }
            } else {
                assert_eq!(c.pop().ok(), inside.pop_front());
            }
            p.catch_up();
            for s in 0..5_u16 {
                let truth = inside.iter().filter(|i| **i == s).count();
                assert_eq!(usize::from(p.held[usize::from(s)]), truth);
            }
            assert_eq!(p.len(), inside.len());
        }
    }
}
