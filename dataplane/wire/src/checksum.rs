//! The internet checksum: RFC 1071, and its incremental update as in RFC 1624.
//!
//! A *sum* here is the one's complement sum of big-endian 16-bit words, folded to 16 bits but not yet
//! complemented; a *checksum* is the complement of it, as it lies in a header.

/// One's complement sum of the bytes as big-endian 16-bit words; an odd last byte is padded with zero on the
/// right (RFC 1071 section 1).
#[inline]
pub fn sum(bytes: &[u8]) -> u16 {
    // RFC 1071 section 2: the sum is independent of byte order and of word size, so add 32-bit words as they
    // lie in memory and swap once at the end. 2^32 of them fit into 64 bits; LLVM turns the loop into vectors.
    let mut total = 0u64;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        total += u64::from(u32::from_ne_bytes(*word));
    }
    let last = match *rest {
        [a] => [a, 0, 0, 0],
        [a, b] => [a, b, 0, 0],
        [a, b, c] => [a, b, c, 0],
        _ => [0; 4],
    };
    total += u64::from(u32::from_ne_bytes(last));
    u16::from_be(fold64(total))
}

/// Folds carries until 16 bits are left.
#[inline]
pub const fn fold(mut total: u32) -> u16 {
    total = (total & 0xffff) + (total >> 16);
    total = (total & 0xffff) + (total >> 16);
    total as u16
}

#[inline]
const fn fold64(mut total: u64) -> u16 {
    total = (total & 0xffff_ffff) + (total >> 32);
    total = (total & 0xffff_ffff) + (total >> 32);
    fold(total as u32)
}

/// One's complement addition of two sums.
#[inline]
pub const fn add(a: u16, b: u16) -> u16 {
    // A carry comes with a sum of at most 0xfffe, so that there is no second one.
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u16
}

/// The checksum of the bytes, to be stored in a header whose checksum field counted as zero.
#[inline]
pub fn checksum(bytes: &[u8]) -> u16 {
    !sum(bytes)
}

/// Whether bytes that hold their own checksum are intact: their sum is all ones (RFC 1071 section 1).
#[inline]
pub fn valid(bytes: &[u8]) -> bool {
    sum(bytes) == 0xffff
}

/// The checksum after one 16-bit word that it covers changed from `old` to `new`: RFC 1624 equation 3,
/// HC' = ~(~HC + ~m + m'), which unlike RFC 1141's form is right for zero, too.
///
/// One case is beyond it: when everything that the checksum covers has become zero it gives 0x0000, and only
/// 0xffff is [`valid`]. That cannot happen to an IP header; a caller with other data has to look.
#[inline]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(!checksum as u32 + !old as u32 + new as u32)
}

/// A running sum over pieces of any length, odd ones too, as a packet in several segments has them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Running {
    sum: u16,
    odd: bool,
}

impl Running {
    /// Starts from a sum over whole words, for example that of a pseudo-header.
    #[inline]
    pub const fn starting_at(sum: u16) -> Self {
        Running { sum, odd: false }
    }

    /// Adds the next piece.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) {
        let piece = sum(bytes);
        // Behind an odd number of bytes each byte changes its place within the word (RFC 1071 section 2 (B)).
        self.sum = add(self.sum, if self.odd { piece.swap_bytes() } else { piece });
        self.odd ^= bytes.len() % 2 == 1;
    }

    /// The sum of everything pushed.
    #[inline]
    pub const fn sum(self) -> u16 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn example_of_rfc_1071_section_3() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(sum(&bytes), 0xddf2);
        assert_eq!(checksum(&bytes), 0x220d);
    }

    #[test]
    fn example_of_rfc_1624_section_4() {
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn odd_and_empty() {
        assert_eq!(sum(&[]), 0);
        assert_eq!(sum(&[0xab]), 0xab00);
        assert_eq!(sum(&[0, 1, 0xab]), 0xab01);
        assert_eq!(sum(&[0, 1, 2, 3, 4]), 0x0604);
        assert_eq!(sum(&[0xff; 65535]), 0xff00);
    }

    #[test]
    fn pieces_sum_like_the_whole() {
        let bytes: Vec<u8> = (0..97u32).map(|i| (i * 37 + 11) as u8).collect();
        for cut in 0..bytes.len() {
            for second in cut..bytes.len() {
                let mut running = Running::default();
                running.push(&bytes[..cut]);
                running.push(&bytes[cut..second]);
                running.push(&bytes[second..]);
                assert_eq!(running.sum(), sum(&bytes), "{cut} {second}");
            }
        }
    }
}
