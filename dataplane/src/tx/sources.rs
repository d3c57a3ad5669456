//! Whose packets a stage holds, in the order of the packets: rows of packets that came from one port, as they mostly do.

use super::STAGE;
use crate::MAX_PORTS;
use arrayvec::ArrayVec;

/// So many packets in a row came from the port in slot `src`; not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    src: u16,
    packets: u16,
}

/// The sources of up to [`STAGE`] packets.
#[derive(Debug, Default)]
pub(super) struct Sources(ArrayVec<Row, STAGE>);

/// Counts by source, all zero between uses. Sources are slots of ports; one that is none shares a place, which costs
/// fairness and nothing else.
pub(super) type Held = [u8; MAX_PORTS];

const _: () = assert!(STAGE < u8::MAX as usize);

impl Sources {
    /// `packets` more from `src`, behind the others. There is room for them in the stage.
    #[inline]
    pub fn push(&mut self, src: u16, packets: usize) {
        let packets = packets as u16;
        match self.0.last_mut() {
            Some(last) if last.src == src => last.packets += packets,
            // As many places as packets, and each row has one at least.
            _ if packets > 0 => self.0.push(Row { src, packets }),
            _ => {}
        }
    }

    /// Forgets the first `n` packets; `gone` gets each source with its number of them.
    #[inline]
    pub fn forget(&mut self, n: usize, mut gone: impl FnMut(u16, u32)) {
        let (mut n, mut rows) = (n as u16, 0);
        for r in &mut self.0 {
            if r.packets > n {
                if n > 0 {
                    r.packets -= n;
                    gone(r.src, n.into());
                }
                break;
            }
            n -= r.packets;
            gone(r.src, r.packets.into());
            rows += 1;
        }
        self.0.drain(..rows);
    }

    /// Forgets the first packet; its source.
    pub fn pop_first(&mut self) -> Option<u16> {
        let src = self.0.first()?.src;
        self.shorten(0);
        Some(src)
    }

    /// Which packet has to make room for one from `src`: the last one of the source that holds most, the newcomer counted;
    /// on equal terms the newcomer's goes. Its place and source, and it is forgotten; `None` if it is the newcomer itself.
    pub fn evict(&mut self, src: u16, held: &mut Held) -> Option<(usize, u16)> {
        let at = |s: u16| usize::from(s) % MAX_PORTS;
        held[at(src)] = 1;
        let (mut worst, mut most) = (src, 1);
        for r in &self.0 {
            let h = &mut held[at(r.src)];
            *h += r.packets as u8;
            if *h > most || (*h == most && r.src == src) {
                (worst, most) = (r.src, *h);
            }
        }
        held[at(src)] = 0;
        self.0.iter().for_each(|r| held[at(r.src)] = 0);
        let row = self.0.iter().rposition(|r| r.src == worst && worst != src)?;
        let upto: usize = self.0[..=row].iter().map(|r| usize::from(r.packets)).sum();
        self.shorten(row);
        Some((upto - 1, worst))
    }

    fn shorten(&mut self, row: usize) {
        if let Some(r) = self.0.get_mut(row) {
            r.packets -= 1;
            if r.packets == 0 {
                self.0.remove(row);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// The sources of all packets, one by one.
    fn each(s: &Sources) -> Vec<u16> {
        s.0.iter().flat_map(|r| vec![r.src; r.packets.into()]).collect()
    }

    /// Longest-queue drop as it is described: who has most, with the newcomer, loses the last packet.
    fn victim(packets: &[u16], src: u16) -> Option<u16> {
        let mut held: BTreeMap<u16, usize> = BTreeMap::from([(src, 1)]);
        packets.iter().for_each(|s| *held.entry(*s).or_default() += 1);
        let most = *held.values().max().expect("the newcomer");
        (held[&src] < most).then(|| {
            // Of several that hold as much, the one that came to it first.
            let mut seen: BTreeMap<u16, usize> = BTreeMap::new();
            let first = packets.iter().find(|s| {
                let n = seen.entry(**s).or_default();
                *n += 1;
                *n == most
            });
            *first.expect("somebody holds as much")
        })
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u16, usize),
        Forget(usize),
        PopFirst,
        Evict(u16),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let src = prop_oneof![Just(0u16), Just(3), Just(700), Just(1055)];
        let step = prop_oneof![
            4 => (src.clone(), 1..40usize).prop_map(|(s, n)| Step::Push(s, n)),
            2 => (0..50usize).prop_map(Step::Forget),
            1 => Just(Step::PopFirst),
            4 => src.prop_map(Step::Evict),
        ];
        prop::collection::vec(step, 1..60)
    }

    proptest! {
        #[test]
        fn rows_say_what_packets_one_by_one_would(steps in steps()) {
            let (mut rows, mut model) = (Sources::default(), Vec::<u16>::new());
            let mut held = [0; MAX_PORTS];
            for step in steps {
                match step {
                    Step::Push(src, n) => {
                        let n = n.min(STAGE - model.len());
                        rows.push(src, n);
                        model.extend(vec![src; n]);
                    }
                    Step::Forget(n) => {
                        let n = n.min(model.len());
                        let mut gone = Vec::new();
                        rows.forget(n, |src, n| gone.extend(vec![src; n as usize]));
                        prop_assert_eq!(gone, model.drain(..n).collect::<Vec<_>>());
                    }
                    Step::PopFirst => {
                        let first = (!model.is_empty()).then(|| model.remove(0));
                        prop_assert_eq!(rows.pop_first(), first);
                    }
                    Step::Evict(src) => {
                        let found = rows.evict(src, &mut held);
                        let wanted = victim(&model, src).map(|worst| {
                            let at = model.iter().rposition(|s| *s == worst).expect("it holds some");
                            (at, worst)
                        });
                        prop_assert_eq!(found, wanted);
                        if let Some((at, _)) = wanted {
                            model.remove(at);
                        }
                        prop_assert!(held.iter().all(|h| *h == 0));
                    }
                }
                prop_assert_eq!(each(&rows), &model[..]);
            }
        }
    }
}
