//! A guest of our own against a [`Vring`]: its memory lies between pages that nobody may touch, and its driver is written from the
//! specification (Virtual I/O Device 1.2, section 2.7), in plain loads and stores, without a line of the code under test.

use std::collections::VecDeque;
use std::sync::OnceLock;

use super::*;
use crate::Mbuf;
use crate::burst::{Burst, free_burst};
use crate::eal::{Eal, EalConfig};
use crate::mempool::{DEFAULT_DATA_ROOM, Mempool};

const PAGE: usize = 4096;
/// Where the guest believes its memory to begin.
const BASE: u64 = 0x4000_0000;

fn pool(name: &str, count: u32) -> Mempool {
    static EAL: OnceLock<Eal> = OnceLock::new();
    let eal = EAL.get_or_init(|| {
        Eal::init(&EalConfig {
            file_prefix: format!("weft-vring-{}", std::process::id()),
            memory_mb: 128,
            huge: false,
            ..EalConfig::default()
        })
        .expect("EAL")
    });
    Mempool::new(eal, name, count, 0, DEFAULT_DATA_ROOM, -1).expect("pool")
}

/// Numbers that look random and are the same each time (xorshift).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Memory between two pages that end the process when they are touched.
struct Mapping {
    all: *mut u8,
    len: usize,
}

impl Mapping {
    fn new(len: usize) -> Self {
        assert_eq!(len % PAGE, 0);
        // SAFETY: a new mapping, of which only the middle is opened.
        unsafe {
            let all = libc::mmap(
                core::ptr::null_mut(),
                len + 2 * PAGE,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            assert_ne!(all, libc::MAP_FAILED);
            assert_eq!(libc::mprotect(all.byte_add(PAGE), len, libc::PROT_READ | libc::PROT_WRITE), 0);
            Self { all: all.cast(), len }
        }
    }

    fn start(&self) -> *mut u8 {
        self.all.wrapping_add(PAGE)
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the open part; the ring is not in use while the test looks.
        unsafe { core::slice::from_raw_parts_mut(self.start(), self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`.
        unsafe { libc::munmap(self.all.cast(), self.len + 2 * PAGE) };
    }
}

/// A guest with one ring: two regions that follow one another in its addresses and are far apart here.
struct Guest {
    regions: [Mapping; 2],
    size: u16,
    header: usize,
    avail: u16,
    seen: u16,
    free: VecDeque<u16>,
    /// Bytes of buffers, from here on.
    next_buffer: u64,
}

const RINGS: usize = 4 * PAGE;
const REGION: usize = 64 * PAGE;

impl Guest {
    fn new(size: u16, header: usize, start: u16) -> Self {
        assert!(usize::from(size) <= 256);
        let mut g = Self {
            regions: [Mapping::new(REGION), Mapping::new(REGION)],
            size,
            header,
            avail: start,
            seen: start,
            free: (0..size).collect(),
            next_buffer: RINGS as u64,
        };
        g.put16(PAGE + 2, start);
        g.put16(2 * PAGE + 2, start);
        g
    }

    fn ring(&self, word: u64) -> Vring {
        let base = self.regions[0].start();
        let dialect = Dialect::of(word).expect("split");
        assert_eq!(usize::from(dialect.header), self.header);
        let places = self
            .regions
            .iter()
            .enumerate()
            .map(|(i, r)| (BASE + (i * REGION) as u64, REGION as u64, r.start()));
        // SAFETY: the areas are within the first region, for up to 256 descriptors each in its own page.
        let mut v = unsafe {
            let areas = (base.cast(), base.add(PAGE).cast(), base.add(2 * PAGE).cast());
            Vring::new(areas, self.size, dialect, -1, Memory::new(places)).expect("ring")
        };
        (v.next_avail, v.next_used) = (self.avail, self.seen);
        v
    }

    fn put16(&mut self, at: usize, value: u16) {
        self.regions[0].bytes()[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    fn get16(&mut self, at: usize) -> u16 {
        let b = self.regions[0].bytes();
        u16::from_le_bytes([b[at], b[at + 1]])
    }

    /// A byte of the guest's memory.
    fn at(&mut self, address: u64) -> &mut u8 {
        let offset = (address - BASE) as usize;
        &mut self.regions[offset / REGION].bytes()[offset % REGION]
    }

    fn write(&mut self, address: u64, bytes: &[u8]) {
        for (i, b) in bytes.iter().enumerate() {
            *self.at(address + i as u64) = *b;
        }
    }

    fn read(&mut self, address: u64, len: usize) -> Vec<u8> {
        (0..len as u64).map(|i| *self.at(address + i)).collect()
    }

    /// Room for `len` bytes: over and over through all of the memory, over the regions' border, too.
    fn buffer(&mut self, len: usize) -> u64 {
        if self.next_buffer as usize + len > 2 * REGION {
            self.next_buffer = RINGS as u64;
        }
        let at = BASE + self.next_buffer;
        self.next_buffer += len as u64;
        at
    }

    fn describe(&mut self, table: u64, n: u16, (address, len, flags, next): (u64, u32, u16, u16)) {
        let mut d = address.to_le_bytes().to_vec();
        d.extend(len.to_le_bytes());
        d.extend(flags.to_le_bytes());
        d.extend(next.to_le_bytes());
        self.write(table + 16 * u64::from(n), &d);
    }

    /// Describes pieces as a chain, or as a table elsewhere, and makes it available. Returns its head.
    fn offer(&mut self, pieces: &[(u64, u32)], write: bool, indirect: bool) -> u16 {
        let flag = if write { 2 } else { 0 };
        let head = *self.free.front().expect("a descriptor");
        let (table, numbers): (u64, Vec<u16>) = if indirect {
            let table = self.buffer(16 * pieces.len());
            (table, (0..pieces.len() as u16).collect())
        } else {
            (BASE, self.free.iter().copied().take(pieces.len()).collect())
        };
        for (i, (address, len)) in pieces.iter().enumerate() {
            let next = numbers.get(i + 1).copied();
            self.describe(
                table,
                numbers[i],
                (*address, *len, flag | u16::from(next.is_some()), next.unwrap_or(0)),
            );
        }
        if indirect {
            self.describe(BASE, head, (table, 16 * pieces.len() as u32, 4, 0));
        }
        let taken = if indirect { 1 } else { pieces.len() };
        self.free.drain(..taken);
        self.publish(head);
        head
    }

    fn publish(&mut self, head: u16) {
        let at = PAGE + 4 + 2 * usize::from(self.avail % self.size);
        self.put16(at, head);
        self.avail = self.avail.wrapping_add(1);
        self.put16(PAGE + 2, self.avail);
    }

    /// The chains that came back: head and bytes written.
    fn used(&mut self) -> Vec<(u32, u32)> {
        let index = self.get16(2 * PAGE + 2);
        let mut out = Vec::new();
        while self.seen != index {
            let at = 2 * PAGE + 4 + 8 * usize::from(self.seen % self.size);
            let b = &self.regions[0].bytes()[at..at + 8];
            out.push((
                u32::from_le_bytes([b[0], b[1], b[2], b[3]]),
                u32::from_le_bytes([b[4], b[5], b[6], b[7]]),
            ));
            self.seen = self.seen.wrapping_add(1);
        }
        out
    }

    /// All descriptors are free again, in a new order.
    fn recycle(&mut self, dice: &mut Dice) {
        let mut all: Vec<u16> = (0..self.size).collect();
        for i in (1..all.len()).rev() {
            all.swap(i, dice.below(i + 1));
        }
        self.free = all.into();
    }
}

fn contents(m: &Mbuf) -> Vec<u8> {
    m.segments().flatten().copied().collect()
}

fn frame(dice: &mut Dice, len: usize) -> Vec<u8> {
    (0..len).map(|_| dice.next() as u8).collect()
}

/// `bytes` cut into up to `most` pieces, empty ones among them.
fn cut(dice: &mut Dice, len: usize, most: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..dice.below(most)).map(|_| dice.below(len + 1)).collect();
    places.extend([0, len]);
    places.sort_unstable();
    places.windows(2).map(|w| w[1] - w[0]).collect()
}

const MODERN: u64 = features::VERSION_1 | features::RING_INDIRECT_DESC;

#[test]
fn what_a_guest_sends_arrives_as_it_was_however_it_is_described() {
    let pool = pool("dequeue", 2047);
    let mut dice = Dice(0x1234_5678_9abc_def1);
    for (word, header) in [(MODERN, 12), (0, 10), (MODERN | features::MRG_RXBUF, 12)] {
        // The indices pass 65,535 on the way.
        let mut guest = Guest::new(256, header, 65_400);
        let mut ring = guest.ring(word);
        for round in 0..60 {
            let (mut sent, mut heads) = (Vec::new(), Vec::new());
            while guest.free.len() > 8 && sent.len() < 40 {
                let len = match dice.below(4) {
                    0 => 1 + dice.below(70),
                    1 => 64,
                    2 => 1 + dice.below(2100),
                    _ => 1 + dice.below(9000),
                };
                let bytes = frame(&mut dice, len);
                let mut whole = vec![0xee; header];
                whole.extend(&bytes);
                // Every fourth round has nothing but the common case.
                let pieces = if round % 4 == 0 { vec![whole.len()] } else { cut(&mut dice, whole.len(), 6) };
                let mut described = Vec::new();
                let mut rest = &whole[..];
                for len in pieces {
                    let at = guest.buffer(len);
                    guest.write(at, &rest[..len]);
                    described.push((at, len as u32));
                    rest = &rest[len..];
                }
                let indirect = round % 4 != 0 && dice.below(3) == 0;
                heads.push((u32::from(guest.offer(&described, false, indirect)), 0));
                sent.push(bytes);
            }
            let mut got = Vec::new();
            loop {
                let mut burst = Burst::new();
                let n = ring.dequeue(&pool, &mut burst, 1 + dice.below(64));
                assert_eq!(n, burst.len());
                if n == 0 {
                    break;
                }
                for m in &burst {
                    assert_eq!(m.pkt_len() as usize, m.segments().map(<[u8]>::len).sum::<usize>());
                    assert_eq!(m.headroom(), crate::mempool::HEADROOM);
                    assert!(m.is_exclusive() && m.vlan_stripped().is_none());
                }
                got.extend(burst.iter().map(contents));
                free_burst(&mut burst);
            }
            let wrong = got.iter().zip(&sent).position(|(g, s)| g != s);
            assert_eq!((got.len(), wrong), (sent.len(), None), "round {round}");
            assert_eq!(guest.used(), heads);
            assert_eq!(ring.take_losses(), Losses::default());
            guest.recycle(&mut dice);
        }
    }
    assert_eq!(pool.in_use(), 0, "every buffer is home");
}

#[test]
fn what_a_guest_is_sent_arrives_as_it_was_in_whatever_buffers() {
    let pool = pool("enqueue", 2047);
    let mut dice = Dice(0xfeed_beef_0bad_cafe);
    for (word, header) in [(MODERN, 12), (0, 10), (MODERN | features::MRG_RXBUF, 12)] {
        let mergeable = word & features::MRG_RXBUF != 0;
        let mut guest = Guest::new(256, header, 65_400);
        let mut ring = guest.ring(word);
        for round in 0..60 {
            let mut buffers = VecDeque::new();
            while guest.free.len() > 8 && buffers.len() < 60 {
                // The simplest buffers every fourth round; others in pieces.
                let len = if mergeable { 100 + dice.below(1500) } else { 2200 };
                let pieces = if round % 4 == 0 { vec![len] } else { cut(&mut dice, len, 5) };
                let described: Vec<(u64, u32)> =
                    pieces.iter().map(|len| (guest.buffer(*len), *len as u32)).collect();
                let indirect = round % 4 != 0 && dice.below(3) == 0;
                let head = guest.offer(&described, true, indirect);
                buffers.push_back((head, described, len));
            }
            let mut sent = Vec::new();
            let mut pkts: Vec<Mbuf> = Vec::new();
            for _ in 0..20 {
                let len = 1 + if dice.below(2) == 0 { dice.below(130) } else { dice.below(1900) };
                let bytes = frame(&mut dice, len);
                let mut m = pool.alloc_copy(&bytes[..len / 2]).expect("mbuf");
                if dice.below(3) == 0 {
                    assert!(m.chain(pool.alloc_copy(&bytes[len / 2..]).expect("mbuf")));
                } else {
                    assert!(m.append(&bytes[len / 2..]));
                }
                sent.push(bytes);
                pkts.push(m);
            }
            let taken = ring.enqueue(&pkts);
            assert!(taken > 0 && (mergeable || taken == pkts.len()), "{taken}");
            let mut used: VecDeque<(u32, u32)> = guest.used().into();
            for bytes in sent.iter().take(taken) {
                let mut arrived = Vec::new();
                let mut count = 0;
                while arrived.len() < header + bytes.len() {
                    let (id, len) = used.pop_front().expect("a used buffer");
                    let (head, pieces, room) = buffers.pop_front().expect("a buffer");
                    assert_eq!(id, u32::from(head), "in order");
                    assert!(len as usize <= room);
                    let mut left = len as usize;
                    for (at, len) in pieces {
                        let here = left.min(len as usize);
                        arrived.extend(guest.read(at, here));
                        left -= here;
                    }
                    count += 1;
                }
                let mut expected = vec![0; header];
                if header == 12 {
                    expected[10] = count;
                }
                expected.extend(bytes);
                assert!(arrived == expected, "round {round}");
            }
            assert!(used.is_empty());
            drop(pkts);
            // The rest of the buffers is taken back by starting anew.
            guest.recycle(&mut dice);
            (guest.avail, ring.next_avail) = (guest.seen, guest.seen);
            guest.put16(PAGE + 2, guest.avail);
        }
    }
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn descriptors_that_make_no_sense_cost_their_frame_only() {
    let pool = pool("bad", 511);
    let header = 12u32;
    let beyond = BASE + 2 * REGION as u64;
    // Each is the one descriptor of the chain, with further ones where it leads on.
    let bad: &[&[(u64, u32, u16, u16)]] = &[
        &[(beyond - 10, 76, 0, 0)],
        &[(u64::MAX - 5, 76, 0, 0)],
        &[(BASE, u32::MAX, 0, 0)],
        &[(BASE, header, 0, 0)],
        &[(BASE, 0, 0, 0)],
        &[(BASE, 5, 0, 0)],
        &[(BASE, 76, 1, 0)],
        &[(BASE, 76, 1, 999)],
        &[(BASE + 3, 0, 4, 0)],
        &[(BASE + 3, 17, 4, 0)],
        &[(beyond, 32, 4, 0)],
        &[(BASE, 32, 5, 0)],
        // A table as long as can be, whose first entry is empty and leads to itself.
        &[(BASE + 32, 0xffff_fff0, 4, 0), (0, 0, 0, 0), (0, 0, 1, 0)],
        &[(BASE, 76, 1, 1), (BASE, 16, 4, 0)],
        &[(BASE, 40_000, 1, 1), (BASE, 40_000, 0, 0)],
    ];
    for (i, chain) in bad.iter().enumerate() {
        let mut guest = Guest::new(64, 12, 0);
        let mut ring = guest.ring(MODERN);
        let at = guest.buffer(76);
        guest.write(at + 12, &[7; 64]);
        for (n, d) in chain.iter().enumerate() {
            guest.describe(BASE, n as u16, *d);
        }
        guest.free = (10..64).collect();
        let good = u32::from(guest.offer(&[(at, 76)], false, false));
        guest.publish(0);
        guest.publish(4242);
        guest.free.push_front(good as u16);
        guest.offer(&[(at, 76)], false, false);
        let mut burst = Burst::new();
        assert_eq!(ring.dequeue(&pool, &mut burst, 32), 2, "case {i}");
        assert!(burst.iter().all(|m| m.data() == [7; 64]));
        assert_eq!(ring.take_losses(), Losses { bad_descriptor: 2, no_mbuf: 0 }, "case {i}");
        assert_eq!(guest.used(), [(good, 0), (0, 0), (good, 0)], "a chain that is there goes back");
        assert_eq!(ring.dequeue(&pool, &mut Burst::new(), 32), 0);
        free_burst(&mut burst);
    }
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn buffers_that_make_no_sense_are_passed_over_with_patience() {
    let pool = pool("patience", 63);
    let mut guest = Guest::new(64, 12, 0);
    let mut ring = guest.ring(MODERN);
    let pkts = [pool.alloc_copy(&[1; 64]).expect("mbuf")];
    for _ in 0..3 {
        guest.publish(4242);
    }
    let at = guest.buffer(100);
    let head = guest.offer(&[(at, 100)], true, false);
    assert_eq!(ring.enqueue(&pkts), 1, "the first good one");
    assert_eq!(guest.used(), [(u32::from(head), 76)]);
    // All are bad now, and the guest claims that there are more and more.
    for _ in 0..64 {
        guest.publish(4242);
    }
    let before = ring.next_avail;
    guest.put16(PAGE + 2, before.wrapping_add(0x7fff));
    assert_eq!(ring.enqueue(&pkts), 0);
    assert!(
        ring.next_avail.wrapping_sub(before) <= 2 * BATCH as u16,
        "{}",
        ring.next_avail.wrapping_sub(before)
    );
}

#[test]
fn a_guest_keeps_what_there_is_no_buffer_for() {
    let pool = pool("scarce", 3);
    let mut guest = Guest::new(64, 12, 0);
    let mut ring = guest.ring(MODERN);
    let at = guest.buffer(9000);
    for _ in 0..5 {
        guest.offer(&[(at, 76)], false, false);
    }
    guest.offer(&[(at, 9000)], false, false);
    let mut burst = Burst::new();
    assert_eq!(ring.dequeue(&pool, &mut burst, 32), 3);
    assert_eq!(ring.dequeue(&pool, &mut burst, 32), 0, "nothing is lost");
    free_burst(&mut burst);
    assert_eq!(ring.dequeue(&pool, &mut burst, 32), 2);
    assert_eq!(
        ring.take_losses(),
        Losses { bad_descriptor: 0, no_mbuf: 1 },
        "one needs five buffers, and there are three"
    );
    free_burst(&mut burst);
    assert_eq!(guest.used().len(), 6);
    assert_eq!(pool.in_use(), 0);
}

/// The pages around the memory, and what of it is no buffer, are the oracle: whatever the guest writes, nothing else is touched.
#[test]
fn rubbish_in_rings_and_descriptors_harms_nobody() {
    let pool = pool("rubbish", 2047);
    let mut dice = Dice(0xabad_1dea_5eed_0001);
    for (word, header) in
        [(MODERN, 12), (MODERN | features::MRG_RXBUF | features::RING_EVENT_IDX, 12), (0, 10)]
    {
        let mut guest = Guest::new(32, header, 0);
        let mut ring = guest.ring(word);
        for _ in 0..1000 {
            let rings = &mut guest.regions[0].bytes()[..RINGS];
            let some = 1 + dice.below(200);
            for _ in 0..some {
                let (area, len) = [(0, 32 * 16), (PAGE, 4 + 64 + 2)][dice.below(2)];
                rings[area + dice.below(len)] = dice.next() as u8;
            }
            // Half of the addresses lead into the memory, or just beyond it.
            for n in 0..32u16 {
                if dice.below(2) == 0 {
                    let address = BASE + dice.below(2 * REGION + 64) as u64;
                    guest.write(BASE + 16 * u64::from(n), &address.to_le_bytes());
                    guest.write(BASE + 16 * u64::from(n) + 8, &(dice.below(4000) as u32).to_le_bytes());
                }
            }
            let mut burst = Burst::new();
            ring.dequeue(&pool, &mut burst, 64);
            for m in &burst {
                assert_eq!(m.pkt_len() as usize, contents(m).len());
            }
            ring.settle();
            free_burst(&mut burst);
            let pkts: Vec<Mbuf> = (0..8)
                .filter_map(|_| pool.alloc_copy(&frame(&mut Dice(dice.next() | 1), 1 + dice.below(3000))))
                .collect();
            assert!(ring.enqueue(&pkts) <= pkts.len());
        }
    }
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn rings_that_are_not_as_the_specification_says_are_not_served() {
    let guest = Guest::new(64, 12, 0);
    let base = guest.regions[0].start();
    let dialect = Dialect::of(MODERN).unwrap();
    let make = |desc: usize, avail: usize, used: usize, size: u16| {
        // SAFETY: what is refused is not touched.
        unsafe {
            let areas = (
                base.wrapping_add(desc).cast(),
                base.wrapping_add(PAGE + avail).cast(),
                base.wrapping_add(2 * PAGE + used).cast(),
            );
            let memory = Memory::new([(BASE, REGION as u64, base)].into_iter());
            Vring::new(areas, size, dialect, -1, memory).is_some()
        }
    };
    assert!(make(0, 0, 0, 64) && make(16, 2, 4, 1));
    // Each of the areas to the last byte of the memory, and beyond.
    let (d, a, u) = (REGION - 16 * 64, REGION - PAGE - 4 - 2 * 64, REGION - 2 * PAGE - 4 - 8 * 64);
    assert!(make(d, 0, 0, 64) && make(0, a, 0, 64) && make(0, 0, u, 64));
    assert!(
        !make(d + 16, 0, 0, 64) && !make(0, a + 2, 0, 64) && !make(0, 0, u + 4, 64) && !make(0, 0, 0, 32768)
    );
    assert!(
        !make(8, 0, 0, 64)
            && !make(0, 1, 0, 64)
            && !make(0, 0, 2, 64)
            && !make(0, 0, 0, 0)
            && !make(0, 0, 0, 48)
    );
    assert!(Dialect::of(MODERN | features::RING_PACKED).is_none());
}
