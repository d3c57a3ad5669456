//! Several bytes of a header as one number, the first byte the lowest: one load each where the place is constant.

/// 8 bytes from `at` on; 0 if there are fewer.
#[inline(always)]
pub(crate) fn le64<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u64::from_le_bytes(*word))
}

/// 4 bytes from `at` on; 0 if there are fewer.
#[inline(always)]
pub(crate) fn le32<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_le_bytes(*word))
}
