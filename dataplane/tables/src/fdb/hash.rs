//! Keyed hashing of forwarding keys.
//!
//! A tenant picks its own MAC addresses, so the hash must not let it pick keys that fall into the same
//! buckets. A CRC would: it is linear, so that keys which collide under one seed collide under all.
//! [`KeyedHash`], which tables use, is one of two:
//!
//! * Where the processor has them, three AES rounds with secret round keys (`aes.rs`): a fraction of a cycle
//!   a key in bursts with AVX-512, and the two buckets are chosen by different columns of the state.
//! * Elsewhere [`FoldedHash`]: two rounds of 64 x 64 -> 128 bit multiplication of the key with secret words. Both
//!   factors of each product are secret, and the second round multiplies the first one's result with the
//!   key once more, so that no difference between keys maps to a known difference between hashes. It needs
//!   nothing but a multiplier.

use std::{
    collections::hash_map::RandomState,
    fmt,
    hash::{BuildHasher, Hasher},
};

use super::{aes::AesHash, key::FdbKey, scratch::Scratch};

/// Words of a seed: as many as four AES round keys have.
const SEED_WORDS: usize = 8;

/// What keys a table's hash. Secret: it is neither printed nor kept beyond the table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed([u64; SEED_WORDS]);

impl Seed {
    /// A seed nobody can guess. `RandomState` is keyed by the operating system's random numbers, and
    /// SipHash hides the key behind what it gives out.
    pub fn random() -> Self {
        let state = RandomState::new();
        Self(std::array::from_fn(|word| {
            let mut hasher = state.build_hasher();
            hasher.write_usize(word);
            hasher.finish()
        }))
    }

    /// A seed for tests and measurements, which want the same table twice. Never for traffic.
    pub const fn fixed(number: u64) -> Self {
        // SplitMix64, so that every word has both kinds of bits.
        let mut words = [0; SEED_WORDS];
        let mut state = number;
        let mut i = 0;
        while i < words.len() {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = state;
            word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            words[i] = word ^ word >> 31;
            i += 1;
        }
        Self(words)
    }

    /// The seed's secret words, for a [`KeyHash`].
    pub const fn words(&self) -> [u64; SEED_WORDS] {
        self.0
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(secret)")
    }
}

/// A keyed hash of a forwarding key. Public so that tests can run the table under bad ones.
pub trait KeyHash: Send + Sync + 'static {
    /// The hash with this seed.
    fn new(seed: &Seed) -> Self;

    /// 64 bits: the low 32 choose the first bucket, the high 32 the second. In each half the most
    /// significant bits matter most. A function: equal keys, equal hashes.
    fn hash(&self, key: FdbKey) -> u64;

    /// The hashes of up to [`MAX_BURST`](super::MAX_BURST) keys, in `space`.
    #[inline]
    fn hash_burst<'h>(&self, keys: &[FdbKey], space: &'h mut Scratch<u64>) -> &'h [u64] {
        space.fill(keys.iter().map(|key| self.hash(*key)))
    }
}

/// The hash tables use: the best of this machine's. Two processes on different machines may hash
/// differently; hashes never leave a table.
#[derive(Clone)]
pub struct KeyedHash(Choice);

#[derive(Clone)]
enum Choice {
    Aes(AesHash),
    Folded(FoldedHash),
}

impl KeyHash for KeyedHash {
    fn new(seed: &Seed) -> Self {
        Self(match AesHash::try_new(seed) {
            Some(aes) => Choice::Aes(aes),
            None => Choice::Folded(FoldedHash::new(seed)),
        })
    }

    #[inline]
    fn hash(&self, key: FdbKey) -> u64 {
        match &self.0 {
            Choice::Aes(aes) => aes.hash(key),
            Choice::Folded(folded) => folded.hash(key),
        }
    }

    #[inline]
    fn hash_burst<'h>(&self, keys: &[FdbKey], space: &'h mut Scratch<u64>) -> &'h [u64] {
        match &self.0 {
            Choice::Aes(aes) => aes.hash_burst(keys, space),
            Choice::Folded(folded) => folded.hash_burst(keys, space),
        }
    }
}

/// Two secret folded multiplications: the hash where there are no AES instructions.
#[derive(Clone)]
pub struct FoldedHash([u64; 4]);

impl KeyHash for FoldedHash {
    fn new(seed: &Seed) -> Self {
        let [k0, k1, k2, k3, ..] = seed.words();
        Self([k0, k1, k2, k3])
    }

    #[inline]
    fn hash(&self, key: FdbKey) -> u64 {
        let [k0, k1, k2, k3] = self.0;
        let (a, b) = key.words();
        let once = fold(a ^ k0, b ^ k1);
        fold(once ^ k2, a.rotate_left(32) ^ k3)
    }
}

/// High xor low half of the product: every bit depends on all bits of both factors.
#[inline]
fn fold(x: u64, y: u64) -> u64 {
    let product = (x as u128) * (y as u128);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::fdb::MAX_BURST;

    /// Pearson's chi-squared over `cells` of what `pick` makes of the hashes of `keys`, per degree of
    /// freedom: 1 for a random function.
    fn unevenness<H: KeyHash>(keys: &[FdbKey], cells: usize, pick: impl Fn(u64) -> usize) -> f64 {
        let hash = H::new(&Seed::fixed(7));
        let mut counts = vec![0u32; cells];
        for &key in keys {
            counts[pick(hash.hash(key))] += 1;
        }
        let expected = keys.len() as f64 / cells as f64;
        let chi: f64 = counts.iter().map(|&n| (n as f64 - expected).powi(2) / expected).sum();
        chi / (cells - 1) as f64
    }

    /// Keys as they occur: counted up, differing in one byte only, the same MAC in many networks.
    fn patterns() -> Vec<(&'static str, Vec<FdbKey>)> {
        let range = 0..65_536u64;
        vec![
            ("macs counted up", range.clone().map(|i| FdbKey::new(5, 0x0200_0000_0000 + i)).collect()),
            ("macs by high bytes", range.clone().map(|i| FdbKey::new(5, i << 32)).collect()),
            ("networks counted up", range.clone().map(|i| FdbKey::new(i as u32, 0x0200_0000_0001)).collect()),
            ("networks by high bits", range.map(|i| FdbKey::new((i << 8) as u32, i >> 8)).collect()),
        ]
    }

    fn spreads_evenly<H: KeyHash>() {
        for (name, keys) in patterns() {
            let first = unevenness::<H>(&keys, 1024, |h| (h as u32 >> 22) as usize);
            let second = unevenness::<H>(&keys, 1024, |h| (h >> 54) as usize);
            let pair =
                unevenness::<H>(&keys, 1024, |h| ((h as u32 >> 27) << 5) as usize | (h >> 59) as usize);
            // The statistic's deviation is sqrt(2 / 1023) = 0.044. More even than chance is no fault: AES
            // rounds are permutations, and keys that differ in few bytes keep some of that.
            for (what, value) in [("first", first), ("second", second), ("pair", pair)] {
                assert!(value < 1.25, "{name}, {what}: {value}");
            }
        }
    }

    #[test]
    fn both_halves_and_their_combination_spread_evenly() {
        spreads_evenly::<FoldedHash>();
        spreads_evenly::<KeyedHash>();
    }

    fn flips_half<H: KeyHash>() {
        let hash = H::new(&Seed::fixed(3));
        for bit in 0..72 {
            let flipped: u32 = (0..512u64)
                .map(|i| {
                    let (network, mac) = (i as u32 * 37, i * 0x1_0000_01b3);
                    let other = if bit < 48 {
                        FdbKey::new(network, mac ^ 1 << bit)
                    } else {
                        FdbKey::new(network ^ 1 << (bit - 48), mac)
                    };
                    (hash.hash(FdbKey::new(network, mac)) ^ hash.hash(other)).count_ones()
                })
                .sum();
            let mean = flipped as f64 / 512.0;
            assert!((28.0..36.0).contains(&mean), "key bit {bit} flips {mean} bits");
        }
    }

    #[test]
    fn every_key_bit_flips_about_half_of_the_hash() {
        flips_half::<FoldedHash>();
        flips_half::<KeyedHash>();
    }

    #[test]
    fn a_burst_hashes_as_single_keys_do() {
        let hash = KeyedHash::new(&Seed::fixed(9));
        let keys: Vec<FdbKey> = (0..150).map(|i| FdbKey::new(i * 0x1_2345, u64::from(i) << 23 | 5)).collect();
        for count in 0..keys.len() {
            let mut space = Scratch::new();
            let hashes = hash.hash_burst(&keys[..count], &mut space);
            assert_eq!(hashes.len(), count.min(MAX_BURST));
            assert!(keys.iter().zip(hashes).all(|(key, value)| hash.hash(*key) == *value));
        }
    }

    #[test]
    fn random_seeds_differ_and_stay_secret() {
        let seed = Seed::random();
        assert_ne!(seed, Seed::random());
        assert_eq!(format!("{seed:?}"), "Seed(secret)");
    }
}
