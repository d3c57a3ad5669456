//! What the generator sends: buffers that hold the frames already.

use weft_port::{BURST, Burst, DEFAULT_DATA_ROOM, Eal, Mbuf, Mempool};

use crate::frames::{self, OUTER, Patch, Wrap};
use crate::sizes::Sizes;

/// The frames to send, in an endless row.
///
/// A fresh buffer is empty and has its data begin at the same place each time. So what was once written there is a
/// frame again as soon as the buffer has its length, and to make it the next flow's takes 10 to 12 bytes.
#[derive(Debug)]
pub struct Source {
    wrap: Wrap,
    stocks: Vec<Stock>,
    pattern: Vec<u8>,
    /// Place in the pattern.
    at: usize,
    patches: Vec<Patch>,
    /// Number of the next patch.
    next: usize,
}

/// Buffers with frames of one size.
#[derive(Debug)]
struct Stock {
    pool: Mempool,
    /// Bytes of the whole frame.
    len: usize,
    /// Taken from the pool, not yet used.
    ready: Burst,
}

impl Stock {
    fn new(eal: &Eal, wrap: Wrap, size: usize, buffers: u32) -> Result<Self, String> {
        let name = format!("gen-tx-{size}");
        let pool =
            Mempool::new(eal, &name, buffers, 256, DEFAULT_DATA_ROOM, -1).map_err(|e| e.to_string())?;
        let frame = frames::build(wrap, 0, size);
        for mut m in std::iter::from_fn(|| pool.alloc()).collect::<Vec<Mbuf>>() {
            m.grow(frame.len()).ok_or("a buffer is too small")?.copy_from_slice(&frame);
        }
        Ok(Self { pool, len: frame.len(), ready: Burst::new() })
    }
}

impl Source {
    /// - `flows`: destinations, sent to in random order
    /// - `ring`: packets that the device may hold on to; so many more buffers are needed for what is on its way here
    pub fn new(eal: &Eal, wrap: Wrap, flows: u32, sizes: &Sizes, ring: u16) -> Result<Self, String> {
        let stocks = sizes
            .each
            .iter()
            .map(|&size| Stock::new(eal, wrap, size, 2 * u32::from(ring) - 1))
            .collect::<Result<_, _>>()?;
        let patches = frames::shuffled(wrap, flows);
        Ok(Self { wrap, stocks, pattern: sizes.pattern.clone(), at: 0, patches, next: 0 })
    }

    /// Appends the next `n` frames to `out`; fewer if there are no buffers or no room. `n` is at most [`BURST`].
    #[inline]
    pub fn fill(&mut self, out: &mut Burst, n: usize) {
        match self.wrap {
            Wrap::Plain => self.fill_behind::<0>(out, n),
            Wrap::ToSwitch(_) | Wrap::FromSwitch(_) => self.fill_behind::<OUTER>(out, n),
        }
    }

    #[inline]
    fn fill_behind<const OUTER_LEN: usize>(&mut self, out: &mut Burst, n: usize) {
        let before = out.len();
        if let [stock] = &self.stocks[..] {
            if stock.pool.alloc_bulk(out, n) {
                let len = stock.len;
                for m in &mut out[before..] {
                    write::<OUTER_LEN>(m, len, &self.patches, &mut self.next);
                }
            }
            return;
        }
        for _ in 0..n.min(out.remaining_capacity()) {
            let stock = &mut self.stocks[usize::from(self.pattern[self.at])];
            if stock.ready.is_empty() && !stock.pool.alloc_bulk(&mut stock.ready, BURST) {
                return;
            }
            let Some(mut m) = stock.ready.pop() else { return };
            write::<OUTER_LEN>(&mut m, stock.len, &self.patches, &mut self.next);
            out.push(m);
            self.at = if self.at + 1 == self.pattern.len() { 0 } else { self.at + 1 };
        }
    }

    /// Writes the time into all frames of a burst. One time for all of them, as reading the clock for each costs more
    /// than sending it.
    pub fn stamp(&self, burst: &mut Burst, ticks: u64) {
        for m in burst {
            if let Some(frame) = m.data_mut() {
                frames::set_stamp(self.wrap, frame, ticks);
            }
        }
    }
}

/// Makes a fresh buffer the next flow's frame.
#[inline(always)]
fn write<const OUTER_LEN: usize>(m: &mut Mbuf, len: usize, patches: &[Patch], next: &mut usize) {
    if let Some(frame) = m.grow(len) {
        patches[*next].apply::<OUTER_LEN>(frame);
    }
    *next += 1;
    if *next == patches.len() {
        *next = 0;
    }
}
