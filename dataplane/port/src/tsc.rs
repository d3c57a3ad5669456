//! The CPU's time stamp counter, the only clock cheap enough for the packet path.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Ticks of the time stamp counter since some moment in the past; the same on every core.
#[inline(always)]
pub fn tsc() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 CPU has the instruction, and it has no effect on memory.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: reads a counter register.
    unsafe {
        dpdk_sys::weft_rdtsc()
    }
}

/// Ticks of [`tsc`] in a second: DPDK's measurement once EAL runs, before that one of our own (which takes 20 ms).
pub fn tsc_hz() -> u64 {
    static HZ: OnceLock<u64> = OnceLock::new();
    if let Some(&hz) = HZ.get() {
        return hz;
    }
    // SAFETY: returns a number that EAL stores at start; zero before that.
    let hz = unsafe { dpdk_sys::rte_get_tsc_hz() };
    if hz != 0 { *HZ.get_or_init(|| hz) } else { measure() }
}

fn measure() -> u64 {
    let (start, from) = (Instant::now(), tsc());
    std::thread::sleep(Duration::from_millis(20));
    let ticks = tsc().wrapping_sub(from);
    (u128::from(ticks) * 1_000_000_000 / start.elapsed().as_nanos().max(1)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_agree_with_the_clock() {
        let hz = tsc_hz();
        let (start, from) = (Instant::now(), tsc());
        std::thread::sleep(Duration::from_millis(50));
        let seconds = (tsc() - from) as f64 / hz as f64;
        let real = start.elapsed().as_secs_f64();
        assert!((seconds / real - 1.0).abs() < 0.05, "{seconds} by tsc, {real} by the clock");
    }
}
