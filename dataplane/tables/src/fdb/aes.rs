//! The forwarding keys' hash by AES rounds.
//!
//! The key's 72 bits, in a block of 128, go through three rounds, each under a secret key of its own, after
//! another was added at the beginning. After two rounds every bit of the block depends on every byte of the
//! key; a third takes away what two leave to be seen of structure: in every differential trail over three
//! rounds at least nine S-boxes are active, so that none has a probability above 2^-54 over the secret keys (the wide
//! trail strategy: Daemen and Rijmen, The Design of Rijndael, chapter 9). The two halves of the hash are two
//! columns of the state.
//!
//! It is not an encryption: nobody sees what comes out of it, but for how long a lookup takes.

use super::{MAX_BURST, hash::Seed, key::FdbKey, scratch::Scratch};

/// Four round keys.
#[derive(Clone)]
pub(super) struct AesHash {
    /// Eight words, two for each round key, as a seed gives them.
    words: [u64; 8],
    /// Whether four keys at a time can be hashed.
    wide: bool,
}

impl AesHash {
    /// The hash with this seed, if this processor has AES instructions.
    pub(super) fn try_new(seed: &Seed) -> Option<Self> {
        Some(Self { words: seed.words(), wide: imp::supported()?.wide })
    }

    #[inline]
    pub(super) fn hash(&self, key: FdbKey) -> u64 {
        // SAFETY: `try_new` has found the instructions.
        unsafe { imp::hash(&self.words, key) }
    }

    #[inline]
    pub(super) fn hash_burst<'h>(&self, keys: &[FdbKey], space: &'h mut Scratch<u64>) -> &'h [u64] {
        if self.wide {
            // SAFETY: `try_new` has found the instructions.
            unsafe { imp::hash_burst_wide(&self.words, keys, space) }
        } else {
            // SAFETY: as above.
            unsafe { imp::hash_burst(&self.words, keys, space) }
        }
    }
}

struct Supported {
    wide: bool,
}

#[cfg(target_arch = "x86_64")]
mod imp {
    use std::arch::x86_64::*;

    use super::{FdbKey, MAX_BURST, Scratch, Supported};

    pub(super) fn supported() -> Option<Supported> {
        // Miri knows the instructions, but takes minutes where the multiplication takes seconds.
        if cfg!(miri) || !is_x86_feature_detected!("aes") {
            return None;
        }
        Some(Supported { wide: is_x86_feature_detected!("vaes") && is_x86_feature_detected!("avx512f") })
    }

    #[inline]
    #[target_feature(enable = "aes")]
    fn round_keys(words: &[u64; 8]) -> [__m128i; 4] {
        // SAFETY: two words from each of these on.
        [0, 2, 4, 6].map(|at| unsafe { _mm_loadu_si128(words.as_ptr().add(at).cast()) })
    }

    #[inline]
    #[target_feature(enable = "aes")]
    pub(super) fn hash(words: &[u64; 8], key: FdbKey) -> u64 {
        let [k0, k1, k2, k3] = round_keys(words);
        let key = key.in_registers();
        let block = _mm_xor_si128(_mm_set_epi64x(key.b as i64, key.a as i64), k0);
        let block = _mm_aesenc_si128(_mm_aesenc_si128(_mm_aesenc_si128(block, k1), k2), k3);
        _mm_cvtsi128_si64(block) as u64
    }

    #[target_feature(enable = "aes")]
    pub(super) fn hash_burst<'h>(
        words: &[u64; 8],
        keys: &[FdbKey],
        space: &'h mut Scratch<u64>,
    ) -> &'h [u64] {
        space.fill(keys.iter().map(|key| hash(words, *key)))
    }

    /// Keys that are hashed at a time: two registers of four.
    const STEP: usize = 8;

    #[target_feature(enable = "aes,vaes,avx512f")]
    pub(super) fn hash_burst_wide<'h>(
        words: &[u64; 8],
        keys: &[FdbKey],
        space: &'h mut Scratch<u64>,
    ) -> &'h [u64] {
        let [k0, k1, k2, k3] = round_keys(words).map(|key| _mm512_broadcast_i32x4(key));
        let rounds = |keys| {
            let block = _mm512_xor_si512(keys, k0);
            _mm512_aesenc_epi128(_mm512_aesenc_epi128(_mm512_aesenc_epi128(block, k1), k2), k3)
        };
        // The low words of the blocks of two registers.
        let low_words = _mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0);
        let count = keys.len().min(MAX_BURST);
        let out = space.as_mut_ptr();
        for (step, keys) in keys[..count].chunks(STEP).enumerate() {
            // Two words a key. What lies beyond the keys is not read but taken for zero.
            let mask = ((1u32 << (2 * keys.len())) - 1) as u16;
            let first = keys.as_ptr().cast::<i64>();
            // SAFETY: the mask leaves only what is in `keys`, whose layout is asserted below; for the second
            // load the address may lie beyond them, and `wrapping_add` may make it.
            let (front, back) = unsafe {
                (
                    _mm512_maskz_loadu_epi64(mask as u8, first),
                    _mm512_maskz_loadu_epi64((mask >> 8) as u8, first.wrapping_add(STEP)),
                )
            };
            let hashes = _mm512_permutex2var_epi64(rounds(front), low_words, rounds(back));
            // SAFETY: `step` is below MAX_BURST / STEP, so there is room for all eight; and it is aligned.
            unsafe { _mm512_store_epi64(out.add(step * STEP).cast(), hashes) };
        }
        // SAFETY: written by the loop, and `count` is at most MAX_BURST.
        unsafe { space.written(count) }
    }

    const _: () = assert!(MAX_BURST.is_multiple_of(STEP));
    const _: () = assert!(size_of::<FdbKey>() == 16);
}

/// Elsewhere the multiplication does it.
#[cfg(not(target_arch = "x86_64"))]
mod imp {
    use super::{FdbKey, Scratch, Supported};

    pub(super) fn supported() -> Option<Supported> {
        None
    }

    pub(super) unsafe fn hash(_: &[u64; 8], _: FdbKey) -> u64 {
        unreachable!("not supported")
    }

    pub(super) unsafe fn hash_burst<'h>(_: &[u64; 8], _: &[FdbKey], _: &'h mut Scratch<u64>) -> &'h [u64] {
        unreachable!("not supported")
    }

    pub(super) use hash_burst as hash_burst_wide;
}
