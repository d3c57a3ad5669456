//! Which entry of a bucket may hold a key: the words A of all four compared at once.
//!
//! The answer is a hint, and the rest is up to the caller (`Table::burst`). Each word is read atomically
//! and relaxed, in no particular order, as in [`Entry::may_hold`](super::entry::Entry::may_hold).
//!
//! The vector instructions that read are inline assembly, since the language has no vector loads that may
//! race with atomic stores. What the assembly does is what so many relaxed loads of 64 bits would: the bucket is one
//! aligned cache line, and an aligned quadword of a vector load is not torn; nothing wider than that is
//! relied on. Miri and loom, which know no assembly, take the portable way.

use super::{bucket::Bucket, key::FdbKey};

/// Which way buckets are compared on this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Width {
    /// One entry after the other, in plain Rust.
    Portable,
    /// Two entries in a register.
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    Avx2,
    /// The whole bucket in a register.
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    Avx512,
}

impl Width {
    /// All that this machine has, the widest first.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        [
            #[cfg(all(target_arch = "x86_64", not(loom)))]
            (Self::Avx512, !cfg!(miri) && is_x86_feature_detected!("avx512f") && x86::bit_counting()),
            #[cfg(all(target_arch = "x86_64", not(loom)))]
            (Self::Avx2, !cfg!(miri) && is_x86_feature_detected!("avx2") && x86::bit_counting()),
            (Self::Portable, true),
        ]
        .into_iter()
        .filter_map(|(width, there)| there.then_some(width))
    }

    /// The widest that this machine has.
    pub(super) fn detect() -> Self {
        Self::all().next().unwrap_or(Self::Portable)
    }
}

/// A way to compare.
pub(super) trait Compare {
    /// Bit `STEP` * i is set if entry i may hold the key. (With a step of two the bits between are of words
    /// B. One of them is set if such a word happens to be the key's A, which is a wrong hint as any other.)
    ///
    /// # Safety
    /// The instructions that it takes are there: see [`Width::all`].
    unsafe fn hints(bucket: &Bucket, key: &FdbKey) -> u32;

    /// Bits from one entry's to the next one's.
    const STEP: u32;
}

pub(super) struct Portable;

impl Compare for Portable {
    #[inline(always)]
    unsafe fn hints(bucket: &Bucket, key: &FdbKey) -> u32 {
        let mut hints = 0;
        for (i, entry) in bucket.entries.iter().enumerate() {
            hints |= u32::from(entry.may_hold(*key)) << i;
        }
        hints
    }

    const STEP: u32 = 1;
}

#[cfg(all(target_arch = "x86_64", not(loom)))]
pub(super) use x86::{Avx2, Avx512};
#[cfg(all(target_arch = "x86_64", not(loom)))]
mod x86 {
    use std::arch::{asm, x86_64::*};

    use super::{Bucket, Compare, FdbKey};

    /// What the loop around the comparison takes besides.
    pub(super) fn bit_counting() -> bool {
        is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
    }

    pub(in crate::fdb) struct Avx512;

    impl Compare for Avx512 {
        #[inline(always)]
        unsafe fn hints(bucket: &Bucket, key: &FdbKey) -> u32 {
            // SAFETY: the caller's promise.
            unsafe { hints_avx512(bucket, key) }
        }

        const STEP: u32 = 2;
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn hints_avx512(bucket: &Bucket, key: &FdbKey) -> u32 {
        let a = _mm512_set1_epi64(key.a as i64);
        let hints: u16;
        // SAFETY: reads the bucket's 64 bytes, which are aligned, and writes a register.
        unsafe {
            asm!(
                "vpcmpeqq {hints}, {a}, zmmword ptr [{bucket}]",
                hints = lateout(kreg) hints,
                a = in(zmm_reg) a,
                bucket = in(reg) bucket,
                options(readonly, nostack, preserves_flags),
            );
        }
        hints.into()
    }

    pub(in crate::fdb) struct Avx2;

    impl Compare for Avx2 {
        #[inline(always)]
        unsafe fn hints(bucket: &Bucket, key: &FdbKey) -> u32 {
            // SAFETY: the caller's promise.
            unsafe { hints_avx2(bucket, key) }
        }

        const STEP: u32 = 2;
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn hints_avx2(bucket: &Bucket, key: &FdbKey) -> u32 {
        let key = _mm256_set1_epi64x(key.a as i64);
        let (front, back): (__m256i, __m256i);
        // SAFETY: reads the bucket's 64 bytes, which are aligned, and writes registers.
        unsafe {
            asm!(
                "vmovdqa {front}, ymmword ptr [{bucket}]",
                "vmovdqa {back}, ymmword ptr [{bucket} + 32]",
                front = out(ymm_reg) front,
                back = lateout(ymm_reg) back,
                bucket = in(reg) bucket,
                options(readonly, nostack, preserves_flags),
            );
        }
        let [front, back] = [front, back]
            .map(|words| _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(words, key))) as u32);
        front | back << 4
    }
}
