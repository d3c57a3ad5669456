//! How long the frames are: one size, several in turn, or the usual mix of the internet's.

use std::str::FromStr;

use crate::frames::{MAX_FRAME, MIN_FRAME};

/// Most different sizes: each has buffers of its own.
pub const MAX_SIZES: usize = 8;
/// Most frames of a pattern.
const MAX_PATTERN: usize = 64;

/// The simple "IMIX" of the field, 7 small frames to 4 middling to 1 large, in Ethernet bytes without FCS. The large
/// ones leave room for outer headers under an MTU of 1500.
const IMIX: [usize; 3] = [64, 570, 1464];
/// Which of them in turn, spread evenly.
const IMIX_PATTERN: [u8; 12] = [0, 1, 0, 0, 1, 0, 2, 0, 1, 0, 1, 0];

/// Lengths of inner frames in bytes, without FCS, in the order in which they are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The different ones, shortest first.
    pub each: Vec<usize>,
    /// Which of `each` comes next, over and over.
    pub pattern: Vec<u8>,
}

impl FromStr for Sizes {
    type Err = String;

    /// `64`, `64,64,1464` (in turn) or `imix`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "imix" {
            return Ok(Self { each: IMIX.to_vec(), pattern: IMIX_PATTERN.to_vec() });
        }
        let all = text.split(',').map(one).collect::<Result<Vec<usize>, String>>()?;
        let mut each = all.clone();
        each.sort_unstable();
        each.dedup();
        if each.len() > MAX_SIZES || all.len() > MAX_PATTERN {
            return Err(format!(
                "{} sizes, {} of them different: give at most {MAX_PATTERN} and {MAX_SIZES}",
                all.len(),
                each.len()
            ));
        }
        let pattern = all.iter().filter_map(|size| each.iter().position(|e| e == size)).map(|i| i as u8);
        Ok(Self { pattern: pattern.collect(), each })
    }
}

fn one(text: &str) -> Result<usize, String> {
    match text.trim().parse() {
        Ok(size) if (MIN_FRAME..=MAX_FRAME).contains(&size) => Ok(size),
        _ => Err(format!("'{text}' is no size: give {MIN_FRAME} to {MAX_FRAME}, a list of them, or imix")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_kept_in_order() {
        let sizes: Sizes = "1464, 64,64,570".parse().expect("sizes");
        assert_eq!((sizes.each, sizes.pattern), (vec![64, 570, 1464], vec![2, 0, 0, 1]));
        let one: Sizes = "64".parse().expect("size");
        assert_eq!((one.each, one.pattern), (vec![64], vec![0]));
    }

    #[test]
    fn imix_is_seven_to_four_to_one() {
        let sizes: Sizes = "imix".parse().expect("imix");
        let count = |which: u8| sizes.pattern.iter().filter(|&&p| p == which).count();
        assert_eq!((count(0), count(1), count(2), sizes.pattern.len()), (7, 4, 1, 12));
        assert_eq!(sizes.each, [64, 570, 1464]);
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        for text in ["", "63", "1465", "64,", "x", "-64", "64,65,66,67,68,69,70,71,72"] {
            assert!(text.parse::<Sizes>().is_err(), "{text}");
        }
        assert!(vec!["64"; 65].join(",").parse::<Sizes>().is_err());
    }
}
