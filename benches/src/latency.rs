//! A histogram of latencies: counts in buckets that are at most one part in 64 wide, from one tick to hours.

/// Buckets for each doubling, as a power of two.
const BITS: u32 = 6;
const PER_DOUBLING: usize = 1 << BITS;
const BUCKETS: usize = (64 - BITS as usize + 1) * PER_DOUBLING;

/// Counts of latencies in ticks.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max: 0 }
    }
}

/// Small values have a bucket each; above, the leading bits tell the bucket.
#[inline]
fn bucket(ticks: u64) -> usize {
    let shift = (64 - ticks.leading_zeros()).saturating_sub(BITS + 1);
    shift as usize * PER_DOUBLING + (ticks >> shift) as usize
}

/// The largest value that falls into a bucket.
fn upper(bucket: usize) -> u64 {
    if bucket < 2 * PER_DOUBLING {
        return bucket as u64;
    }
    let shift = bucket / PER_DOUBLING - 1;
    let leading = (bucket - shift * PER_DOUBLING) as u64;
    (leading << shift) + ((1 << shift) - 1)
}

impl Histogram {
    /// Counts one.
    #[inline]
    pub fn record(&mut self, ticks: u64) {
        self.counts[bucket(ticks)] += 1;
        self.total += 1;
        self.max = self.max.max(ticks);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        (self.total, self.max) = (0, 0);
    }

    /// How many were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The largest, exactly.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// A value that `share` (0 to 1) of all do not exceed, at most one part in 64 above the true one. 0 if there are none.
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (i, &n) in self.counts.iter().enumerate() {
            seen += n;
            if seen >= wanted {
                return upper(i).min(self.max);
            }
        }
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_bucket_that_is_narrow() {
        let around = (0..64).flat_map(|bit| [-1i128, 0, 1].map(|d| (1i128 << bit) + d));
        for value in around.chain(0..300).chain([i128::from(u64::MAX)]).filter(|v| *v >= 0) {
            let value = value as u64;
            let top = upper(bucket(value));
            assert!(top >= value && top - value <= value / 64, "{value} in a bucket up to {top}");
        }
        for i in 1..bucket(u64::MAX) {
            assert!(upper(i) > upper(i - 1), "bucket {i}");
            assert_eq!(bucket(upper(i)), i);
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let mut x = 1u64;
        let mut all: Vec<u64> = (0..10_000)
            .map(|_| {
                x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                1000 + (x >> 33) % 1_000_000
            })
            .collect();
        let mut h = Histogram::default();
        all.iter().for_each(|&v| h.record(v));
        all.sort_unstable();
        for share in [0.001, 0.5, 0.99, 0.999, 1.0] {
            let exact = all[(all.len() as f64 * share).ceil() as usize - 1];
            let found = h.quantile(share);
            assert!(found >= exact && found - exact <= exact / 64, "{share}: {found}, exactly {exact}");
        }
        assert_eq!((h.total(), h.max()), (10_000, all[9_999]));
        h.clear();
        assert_eq!((h.total(), h.max(), h.quantile(0.5)), (0, 0, 0));
    }
}
