//! Numbers as people read them.

use std::time::Duration;

/// `1,310,720`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `832 bytes`, `22.3 MB`: in powers of 1000.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if n < 1000 {
        return format!("{n} bytes");
    }
    let (mut value, mut unit) = (n as f64 / 1000.0, 0);
    // What would be shown as 1000.0 is one of the next unit.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `12 ms`, `4.2 s`, `75 s`.
pub fn span(time: Duration) -> String {
    match time.as_millis() {
        ms @ 0..1000 => format!("{ms} ms"),
        ms @ 1000..9950 => format!("{:.1} s", ms as f64 / 1000.0),
        _ => format!("{:.0} s", time.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_told_apart() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_310_720, "1,310,720")] {
            assert_eq!(grouped(n), text);
        }
        assert_eq!(grouped(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn sizes_keep_three_or_four_digits() {
        for (n, text) in [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (22_345_678, "22.3 MB")] {
            assert_eq!(bytes(n), text);
        }
        assert_eq!(bytes(999_960), "1.0 MB");
        assert_eq!(bytes(64_000_000), "64.0 MB");
        assert_eq!(bytes(u64::MAX), "18446744.1 TB");
    }

    #[test]
    fn times_are_as_exact_as_they_matter() {
        for (ms, text) in [(0, "0 ms"), (999, "999 ms"), (4_230, "4.2 s"), (9_949, "9.9 s"), (75_400, "75 s")]
        {
            assert_eq!(span(Duration::from_millis(ms)), text);
        }
    }
}
