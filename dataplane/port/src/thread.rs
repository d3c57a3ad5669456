//! Threads: their cores, and their names at DPDK.

use std::io;
use std::marker::PhantomData;

use dpdk_sys as sys;

use crate::error::PortError;

/// Says that the calling thread has an lcore id, so that mempools serve it from a cache of its own.
///
/// Dropped on the thread that made it (it is neither `Send` nor `Sync`), by a panic too.
#[derive(Debug)]
pub struct ThreadGuard(PhantomData<*const ()>);

impl ThreadGuard {
    /// Registers the calling thread (`rte_thread_register`). EAL must run: [`crate::Eal::register_thread`] sees to it.
    pub(crate) fn register() -> Result<Self, PortError> {
        // SAFETY: reads a thread-local variable.
        if unsafe { sys::weft_lcore_id() } != u32::MAX {
            return Err(PortError::Thread {
                reason: "it has an lcore id already".to_owned(),
                hint: "register a thread once only, and never the one that started EAL",
            });
        }
        // SAFETY: EAL runs, as the caller's token says, and this thread has no lcore id yet.
        if unsafe { sys::rte_thread_register() } != 0 {
            return Err(PortError::Thread {
                reason: crate::ffi::strerror(crate::ffi::rte_errno()),
                hint: "DPDK has a limited number of lcore ids (128 by default): use fewer workers",
            });
        }
        Ok(Self(PhantomData))
    }

    /// The lcore id that DPDK chose. It names a mempool cache and has nothing to do with a CPU core's number.
    pub fn lcore_id(&self) -> u32 {
        // SAFETY: reads a thread-local variable.
        unsafe { sys::weft_lcore_id() }
    }
}

impl Drop for ThreadGuard {
    fn drop(&mut self) {
        // SAFETY: this thread registered itself in `register`, and the guard cannot leave the thread.
        unsafe { sys::rte_thread_unregister() }
    }
}

/// Pins the calling thread to one CPU core. Do this before [`crate::Eal::register_thread`].
pub fn pin_current_thread(core: usize) -> Result<(), PortError> {
    let mut mask = Affinity::empty();
    let refused = |source| PortError::Affinity {
        what: format!("pin this thread to core {core}"),
        allowed: Affinity::current().map(|m| m.to_string()).unwrap_or_else(|_| "unknown".to_owned()),
        source,
    };
    if !mask.add(core) {
        return Err(refused(io::Error::from_raw_os_error(libc::EINVAL)));
    }
    mask.apply().map_err(refused)
}

/// How late the kernel may wake the calling thread from a timed sleep, in nanoseconds (`PR_SET_TIMERSLACK`; the
/// default of 50,000 is long beside an idle worker's short naps).
pub fn set_timer_slack_ns(ns: u64) {
    // SAFETY: this prctl takes one number and touches no memory. It cannot fail for the calling thread.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, ns as libc::c_ulong, 0, 0, 0);
    }
}

/// A CPU mask of the calling thread.
#[derive(Clone, Copy)]
pub(crate) struct Affinity(libc::cpu_set_t);

impl Affinity {
    pub(crate) fn empty() -> Self {
        // SAFETY: a CPU mask is plain bits; all zero is the empty mask.
        Self(unsafe { core::mem::zeroed() })
    }

    pub(crate) fn current() -> io::Result<Self> {
        let mut mask = Self::empty();
        // SAFETY: the size is that of the mask passed along.
        match unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut mask.0) } {
            0 => Ok(mask),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub(crate) fn apply(&self) -> io::Result<()> {
        // SAFETY: the size is that of the mask passed along.
        match unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &self.0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// False when the number is beyond what a mask holds.
    pub(crate) fn add(&mut self, core: usize) -> bool {
        if core >= libc::CPU_SETSIZE as usize {
            return false;
        }
        // SAFETY: the index was checked against the mask's size.
        unsafe { libc::CPU_SET(core, &mut self.0) };
        true
    }

    pub(crate) fn cores(&self) -> impl Iterator<Item = usize> + '_ {
        // SAFETY: the indices are within the mask's size.
        (0..libc::CPU_SETSIZE as usize).filter(|&core| unsafe { libc::CPU_ISSET(core, &self.0) })
    }
}

impl core::fmt::Display for Affinity {
    /// As a list of ranges: `0-3,8`.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let cores: Vec<usize> = self.cores().collect();
        for (i, run) in cores.chunk_by(|a, b| a + 1 == *b).enumerate() {
            let (comma, first, last) = (if i > 0 { "," } else { "" }, run[0], run[run.len() - 1]);
            if first == last { write!(f, "{comma}{first}")? } else { write!(f, "{comma}{first}-{last}")? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_read_as_ranges() {
        let mut mask = Affinity::empty();
        assert_eq!(mask.to_string(), "");
        for core in [0, 1, 2, 5, 8, 9] {
            assert!(mask.add(core));
        }
        assert!(!mask.add(libc::CPU_SETSIZE as usize));
        assert_eq!(mask.to_string(), "0-2,5,8-9");
    }

    #[test]
    fn pinning_moves_this_thread_and_a_core_that_is_not_there_is_an_error() {
        std::thread::spawn(|| {
            let allowed = Affinity::current().expect("mask");
            let last = allowed.cores().last().expect("a core");
            pin_current_thread(last).expect("pin");
            assert_eq!(Affinity::current().expect("mask").cores().collect::<Vec<_>>(), [last]);
            for core in [1000, usize::MAX] {
                let error = pin_current_thread(core).expect_err("no such core").to_string();
                assert!(error.contains(&format!("core {core}")), "{error}");
            }
        })
        .join()
        .expect("thread");
    }

    #[test]
    fn timer_slack_is_set() {
        std::thread::spawn(|| {
            set_timer_slack_ns(1000);
            // SAFETY: reads one number.
            assert_eq!(unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) }, 1000);
        })
        .join()
        .expect("thread");
    }
}
