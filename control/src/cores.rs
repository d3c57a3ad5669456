//! Core lists: `"2-3,5"` or the mask `"0x2c"`.

use thiserror::Error;

/// Highest core number that is accepted; DPDK's own masks and Linux's `CONFIG_NR_CPUS` end well below.
pub const MAX_CORE: usize = 4095;

/// Why a text is no core list. Each message names the part that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CoreListError {
    /// Nothing between the quotes, or a mask without a bit.
    #[error("names no core")]
    Empty,
    /// A list element is neither a number nor a range.
    #[error("\"{0}\" is neither a core number nor a range such as 2-5")]
    NotANumber(String),
    /// A range that runs downwards.
    #[error("the range {0}-{1} runs backwards")]
    Backwards(usize, usize),
    /// The same core twice.
    #[error("core {0} is named twice")]
    Twice(usize),
    /// A core number beyond [`MAX_CORE`].
    #[error("core {0} is above {MAX_CORE}")]
    TooHigh(String),
    /// A mask with something else than hexadecimal digits.
    #[error("\"{0}\" is no hexadecimal mask such as 0x2c")]
    BadMask(String),
}

/// Reads a list (`2-3,5`) or a hexadecimal mask (`0x2c`); the result ascends and holds no core twice.
pub fn parse(text: &str) -> Result<Vec<usize>, CoreListError> {
    let text = text.trim();
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => parse_mask(text, digits),
        None => parse_list(text),
    }
}

fn parse_mask(text: &str, digits: &str) -> Result<Vec<usize>, CoreListError> {
    if digits.is_empty() {
        return Err(CoreListError::BadMask(text.to_owned()));
    }
    let mut cores = Vec::new();
    // From the least significant digit upwards: the mask may be wider than any integer.
    for (place, c) in digits.chars().rev().enumerate() {
        let value = c.to_digit(16).ok_or_else(|| CoreListError::BadMask(text.to_owned()))?;
        for bit in (0..4).filter(|bit| value >> bit & 1 == 1) {
            let core = place * 4 + bit;
            if core > MAX_CORE {
                return Err(CoreListError::TooHigh(core.to_string()));
            }
            cores.push(core);
        }
    }
    if cores.is_empty() { Err(CoreListError::Empty) } else { Ok(cores) }
}

fn parse_list(text: &str) -> Result<Vec<usize>, CoreListError> {
    if text.is_empty() {
        return Err(CoreListError::Empty);
    }
    let mut cores = Vec::new();
    for part in text.split(',') {
        let part = part.trim();
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first, part)?, number(last, part)?),
            None => {
                let core = number(part, part)?;
                (core, core)
            }
        };
        if first > last {
            return Err(CoreListError::Backwards(first, last));
        }
        for core in first..=last {
            if cores.contains(&core) {
                return Err(CoreListError::Twice(core));
            }
            cores.push(core);
        }
    }
    cores.sort_unstable();
    Ok(cores)
}

fn number(digits: &str, part: &str) -> Result<usize, CoreListError> {
    let digits = digits.trim();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(CoreListError::NotANumber(part.to_owned()));
    }
    // A number too long for usize is too high as well.
    match digits.parse::<usize>() {
        Ok(core) if core <= MAX_CORE => Ok(core),
        _ => Err(CoreListError::TooHigh(digits.to_owned())),
    }
}

/// Writes cores as a list with ranges: `[2, 3, 5]` becomes `2-3,5`.
pub fn format(cores: &[usize]) -> String {
    let mut out = String::new();
    let mut i = 0;
    while i < cores.len() {
        let mut last = i;
        while last + 1 < cores.len() && cores[last + 1] == cores[last] + 1 {
            last += 1;
        }
        if !out.is_empty() {
            out.push(',');
        }
        if last == i {
            out += &cores[i].to_string();
        } else {
            out += &format!("{}-{}", cores[i], cores[last]);
        }
        i = last + 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_masks() {
        assert_eq!(parse("2-3,5"), Ok(vec![2, 3, 5]));
        assert_eq!(parse("0x2c"), Ok(vec![2, 3, 5]));
        assert_eq!(parse(" 7 , 1-2 "), Ok(vec![1, 2, 7]));
        assert_eq!(parse("0x10000000000000000"), Ok(vec![64]));
        assert_eq!(format(&[2, 3, 5]), "2-3,5");
        assert_eq!(format(&[]), "");
    }

    #[test]
    fn mistakes_name_the_part() {
        assert_eq!(parse(""), Err(CoreListError::Empty));
        assert_eq!(parse("0x0"), Err(CoreListError::Empty));
        assert_eq!(parse("1,,2"), Err(CoreListError::NotANumber(String::new())));
        assert_eq!(parse("1,b"), Err(CoreListError::NotANumber("b".into())));
        assert_eq!(parse("-1"), Err(CoreListError::NotANumber("-1".into())));
        assert_eq!(parse("+1"), Err(CoreListError::NotANumber("+1".into())));
        assert_eq!(parse("5-2"), Err(CoreListError::Backwards(5, 2)));
        assert_eq!(parse("1-3,2"), Err(CoreListError::Twice(2)));
        assert_eq!(parse("99999"), Err(CoreListError::TooHigh("99999".into())));
        assert_eq!(
            parse("0-99999999999999999999"),
            Err(CoreListError::TooHigh("99999999999999999999".into()))
        );
        assert_eq!(parse("0xzz"), Err(CoreListError::BadMask("0xzz".into())));
    }
}
