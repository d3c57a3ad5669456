//! A bucket's four entries looked at at once, by readers and by the writer.
//!
//! Readers compare the words A. What that says is a hint, and the rest is up to the caller (`Table::burst`). Each word is read atomically
//! and relaxed, in no particular order, as in [`Entry::may_hold`](super::entry::Entry::may_hold).
//!
//! The vector instructions that read are inline assembly, since the language has no vector loads that may
//! race with atomic stores. What the assembly does is what so many relaxed loads of 64 bits would: the bucket is one
//! aligned cache line, and an aligned quadword of a vector load is not torn; nothing wider than that is
//! relied on. Miri and loom, which know no assembly, take the portable way.
//!
//! The writer wants to know which entry holds a key, and which are empty. It is alone in changing entries, so
//! what it reads is so.
//!
//! Which instructions there are is known when the program runs. So that it is asked once a burst and not
//! once a bucket, what is done with a whole burst is a [`Job`], compiled for each [`Width`].

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
    fn all() -> impl Iterator<Item = Self> {
        [
            #[cfg(all(target_arch = "x86_64", not(loom)))]
            (Self::Avx512, !cfg!(miri) && is_x86_feature_detected!("avx512f") && x86::with_the_rest()),
            #[cfg(all(target_arch = "x86_64", not(loom)))]
            (Self::Avx2, !cfg!(miri) && is_x86_feature_detected!("avx2") && x86::with_the_rest()),
            (Self::Portable, true),
        ]
        .into_iter()
        .filter_map(|(width, there)| there.then_some(width))
    }

    /// The widest that this machine has with registers of up to so many bits.
    pub(super) fn up_to(bits: u32) -> Self {
        Self::all().find(|width| width.bits() <= bits).unwrap_or(Self::Portable)
    }

    fn bits(self) -> u32 {
        match self {
            Self::Portable => 0,
            #[cfg(all(target_arch = "x86_64", not(loom)))]
            Self::Avx2 => 256,
            #[cfg(all(target_arch = "x86_64", not(loom)))]
            Self::Avx512 => 512,
        }
    }
}

/// What is compiled for every way to compare.
pub(super) trait Job {
    type Output;

    /// Implementations are `#[inline(always)]`, so that they are compiled with the caller's instructions.
    ///
    /// # Safety
    /// The instructions that `C` takes are there: see [`Width::up_to`].
    unsafe fn run<C: Compare>(self) -> Self::Output;
}

impl Width {
    #[inline]
    pub(super) fn run<J: Job>(self, job: J) -> J::Output {
        match self {
            Self::Portable => {
                // SAFETY: the portable way takes no special instructions.
                unsafe { job.run::<Portable>() }
            }
            #[cfg(all(target_arch = "x86_64", not(loom)))]
            Self::Avx2 => {
                // SAFETY: `up_to` has found the instructions.
                unsafe { x86::run_avx2(job) }
            }
            #[cfg(all(target_arch = "x86_64", not(loom)))]
            Self::Avx512 => {
                // SAFETY: as above.
                unsafe { x86::run_avx512(job) }
            }
        }
    }
}

/// Sets of a bucket's entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Scan {
    /// The entry that holds the key.
    pub(super) holds: u32,
    /// Entries that hold nothing. Some may be worn.
    pub(super) empty: u32,
}

/// A way to compare.
pub(super) trait Compare {
    /// For the writer: what is in a bucket.
    ///
    /// # Safety
    /// As [`Compare::hints`].
    #[inline(always)]
    unsafe fn scan(bucket: &Bucket, key: &FdbKey) -> Scan {
        let mut scan = Scan::default();
        for (i, entry) in bucket.entries.iter().enumerate() {
            scan.holds |= u32::from(entry.holds(*key)) << i;
            scan.empty |= u32::from(!entry.is_full()) << i;
        }
        scan
    }

    /// Bit `STEP` * i is set if entry i may hold the key; no other is. (With a step of two the bits between are of
    /// words B, of which none is any key's A.)
    ///
    /// # Safety
    /// The instructions that it takes are there: see [`Width::up_to`].
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
mod x86 {
    use std::arch::{asm, x86_64::*};

    use super::{Bucket, Compare, FdbKey, Job, Scan};
    use crate::fdb::entry::{IDENTITY, VALID};

    /// What every processor with wide registers has as well: bits counted, and keys hashed.
    pub(super) fn with_the_rest() -> bool {
        is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("aes")
    }

    #[target_feature(enable = "avx512f,aes,bmi1,bmi2,lzcnt")]
    pub(super) fn run_avx512<J: Job>(job: J) -> J::Output {
        // SAFETY: this function's instructions.
        unsafe { job.run::<Avx512>() }
    }

    #[target_feature(enable = "avx2,aes,bmi1,bmi2,lzcnt")]
    pub(super) fn run_avx2<J: Job>(job: J) -> J::Output {
        // SAFETY: this function's instructions.
        unsafe { job.run::<Avx2>() }
    }

    pub(in crate::fdb) struct Avx512;

    impl Compare for Avx512 {
        #[inline(always)]
        unsafe fn hints(bucket: &Bucket, key: &FdbKey) -> u32 {
            // SAFETY: the caller's promise.
            unsafe { hints_avx512(bucket, key) }
        }

        #[inline(always)]
        unsafe fn scan(bucket: &Bucket, key: &FdbKey) -> Scan {
            // SAFETY: the caller's promise.
            unsafe { scan_avx512(bucket, key) }
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

    #[inline]
    #[target_feature(enable = "avx512f,bmi1,bmi2")]
    fn scan_avx512(bucket: &Bucket, key: &FdbKey) -> Scan {
        let key = _mm512_broadcast_i32x4(_mm_set_epi64x(key.b as i64, key.a as i64));
        // Of word A everything counts, of word B what is part of the key.
        let identity = _mm512_broadcast_i32x4(_mm_set_epi64x(IDENTITY as i64, -1));
        let valid = _mm512_set1_epi64(VALID as i64);
        let words: __m512i;
        // SAFETY: reads the bucket's 64 bytes, which are aligned, and writes a register.
        unsafe {
            asm!(
                "vmovdqa64 {words}, zmmword ptr [{bucket}]",
                words = lateout(zmm_reg) words,
                bucket = in(reg) bucket,
                options(readonly, nostack, preserves_flags),
            );
        }
        // Bits 2i and 2i + 1 are of words A and B of entry i.
        let same = u32::from(_mm512_testn_epi64_mask(_mm512_xor_si512(words, key), identity));
        let invalid = u32::from(_mm512_testn_epi64_mask(words, valid));
        // The bits of words B, moved together.
        Scan { holds: _pext_u32(same & same << 1, 0xaa), empty: _pext_u32(invalid, 0xaa) }
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// For each width the hints, as one bit an entry, and the scan.
    struct Both<'b>(&'b Bucket, &'b FdbKey);

    impl Job for Both<'_> {
        type Output = (u32, Scan);

        #[inline(always)]
        unsafe fn run<C: Compare>(self) -> Self::Output {
            // SAFETY: the caller's promise.
            let (hints, scan) = unsafe { (C::hints(self.0, self.1), C::scan(self.0, self.1)) };
            ((0..4).map(|i| (hints >> (i * C::STEP) & 1) << i).sum(), scan)
        }
    }

    #[test]
    fn every_width_sees_the_same() {
        let bucket = Bucket::default();
        let keys: Vec<FdbKey> =
            (0..4u64).map(|i| FdbKey::new(((i & 1) << 15) as u32, 0x0200_0000_0000 | i >> 1)).collect();
        // Each entry empty, or one of four keys that differ in word A or in word B only.
        for pattern in 0..5usize.pow(4) {
            let held = [0, 1, 2, 3].map(|i| pattern / 5usize.pow(i) % 5);
            for (entry, held) in bucket.entries.iter().zip(held) {
                if entry.is_full() {
                    entry.clear();
                }
                if held > 0 {
                    entry.fill(keys[held - 1], 7);
                }
            }
            for (number, key) in (1..).zip(&keys) {
                let set = |which: &dyn Fn(usize) -> bool| -> u32 {
                    (0..4).filter(|&i| which(held[i])).map(|i| 1 << i).sum()
                };
                let alike = set(&|held| held > 0 && keys[held - 1].mac() == key.mac());
                let expected = (alike, Scan { holds: set(&|h| h == number), empty: set(&|h| h == 0) });
                for width in Width::all() {
                    assert_eq!(width.run(Both(&bucket, key)), expected, "{width:?}, {pattern}");
                }
            }
        }
    }
}
