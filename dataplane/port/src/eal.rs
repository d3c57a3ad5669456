//! DPDK's environment abstraction layer: started once, and a token that says so.

use std::ffi::{CStr, CString, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use dpdk_sys as sys;

use crate::error::PortError;
use crate::ffi;
use crate::thread::{Affinity, ThreadGuard};

/// What EAL is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EalConfig {
    /// Keeps this process's files and those of other DPDK processes apart (`--file-prefix`).
    pub file_prefix: String,
    /// Memory to take at start, in mebibytes (`-m`).
    pub memory_mb: u32,
    /// CPU core for DPDK's own threads (link events, vhost-user messages); `None`: the first one this thread may
    /// run on. Workers stay off it where there are enough cores.
    pub main_core: Option<usize>,
    /// Take memory from hugepages. Without them (`--no-huge`) all works but vhost-user front-ends in DPDK itself,
    /// and bound NICs; slowly.
    pub huge: bool,
    /// PCI devices to probe, as `0000:01:00.0` or with driver arguments behind a comma. None: no PCI at all.
    pub pci_allow: Vec<String>,
    /// More arguments, passed on as they are.
    pub extra: Vec<String>,
}

impl Default for EalConfig {
    fn default() -> Self {
        Self {
            file_prefix: "weft".to_owned(),
            memory_mb: 1024,
            main_core: None,
            huge: true,
            pci_allow: Vec::new(),
            extra: Vec::new(),
        }
    }
}

impl EalConfig {
    /// The arguments behind the program's name, with the core where EAL's main lcore stands.
    fn args(&self, main_core: usize) -> Vec<String> {
        let mut args: Vec<String> = vec![
            // lcore 0 only, wherever it stands: workers register themselves and are pinned by weft.
            "--lcores".into(),
            format!("0@{main_core}"),
            "--file-prefix".into(),
            self.file_prefix.clone(),
            "-m".into(),
            self.memory_mb.to_string(),
            "--no-telemetry".into(),
        ];
        // No files that a crash leaves behind, and no second process that could attach. EAL refuses --in-memory
        // beside --no-huge; what is left of it then is --no-shconf.
        args.extend(
            if self.huge { &["--in-memory"][..] } else { &["--no-huge", "--no-shconf"] }
                .iter()
                .map(|&s| s.into()),
        );
        if self.pci_allow.is_empty() {
            args.push("--no-pci".into());
        }
        for device in &self.pci_allow {
            args.extend(["-a".into(), device.clone()]);
        }
        args.extend(self.extra.iter().cloned());
        args
    }
}

/// Proof that EAL runs. Costs nothing to copy; there is no way back, EAL ends with the process.
#[derive(Debug, Clone)]
pub struct Eal(());

impl Eal {
    /// Starts EAL (`rte_eal_init`), once per process.
    ///
    /// The calling thread becomes EAL's main lcore (it keeps lcore id 0) and gets its CPU affinity back afterwards:
    /// EAL pins its caller, and threads made later would inherit that. DPDK's own threads stay on the main core.
    pub fn init(config: &EalConfig) -> Result<Self, PortError> {
        let dir = driver_dir();
        if !has_drivers(&dir) {
            return Err(PortError::NoDrivers { dir });
        }
        let allowed =
            Affinity::current().map_err(|e| affinity_error("read this thread's CPU mask", None, e))?;
        let main_core = match config.main_core {
            Some(core) => core,
            None => allowed.cores().next().unwrap_or(0),
        };
        let args = config.args(main_core);
        let c_args = std::iter::once("weft")
            .chain(args.iter().map(String::as_str))
            .map(|arg| ffi::c_string("EAL argument", arg))
            .collect::<Result<Vec<CString>, _>>()?;

        // EAL gives its own threads what is left of the caller's mask without the lcores' cores, or the main
        // lcore's core when nothing is left. A mask of that one core keeps them off the workers' cores.
        let mut only_main = Affinity::empty();
        only_main.add(main_core);
        only_main.apply().map_err(|e| {
            affinity_error(&format!("use core {main_core} for DPDK's threads"), Some(&allowed), e)
        })?;
        let result = start(c_args, &args.join(" "));
        let restored = allowed.apply().map_err(|e| affinity_error("restore this thread's CPU mask", None, e));
        result?;
        restored?;
        Ok(Self(()))
    }

    /// Registers the calling thread with DPDK. Pin it first ([`crate::pin_current_thread`]).
    pub fn register_thread(&self) -> Result<ThreadGuard, PortError> {
        ThreadGuard::register()
    }

    /// Release of DPDK whose headers weft was built with, such as `22.11.11`.
    pub fn dpdk_version(&self) -> &'static str {
        sys::DPDK_VERSION
    }
}

fn affinity_error(what: &str, allowed: Option<&Affinity>, source: std::io::Error) -> PortError {
    let allowed = allowed.map_or_else(|| "unknown".to_owned(), Affinity::to_string);
    PortError::Affinity { what: what.to_owned(), allowed, source }
}

fn start(args: Vec<CString>, shown: &str) -> Result<(), PortError> {
    static STARTED: AtomicBool = AtomicBool::new(false);
    if STARTED.swap(true, Ordering::SeqCst) {
        return Err(PortError::EalAlreadyStarted);
    }
    // EAL keeps pointers into its arguments, and permutes the array: both live as long as the process.
    let args: &'static mut [*mut c_char] = args.into_iter().map(CString::into_raw).collect::<Vec<_>>().leak();
    // SAFETY: `args` are valid C strings that are never freed, and this is the process's only call.
    let ret = unsafe { sys::rte_eal_init(args.len() as c_int, args.as_mut_ptr()) };
    if ret >= 0 {
        remove_runtime_dir();
        return Ok(());
    }
    let errno = ffi::rte_errno();
    let hint = match errno {
        libc::EACCES | libc::EPERM => "run as root, or with the capabilities that docs list",
        libc::ENOMEM => "not enough free hugepages: reserve more, or lower memory_mb",
        libc::EALREADY => "DPDK was started in this process by someone else",
        _ => "see DPDK's own lines above; often too few free hugepages, or an argument it does not know",
    };
    Err(PortError::EalInit { reason: ffi::strerror(errno), args: shown.to_owned(), hint })
}

/// EAL makes a folder for its files even when it is told to have none, and leaves it behind. Not ours to remove if
/// something is in it: then an argument or another process wanted it.
fn remove_runtime_dir() {
    // SAFETY: EAL runs; the path is a C string of its own that stays.
    let dir = unsafe {
        let dir = sys::rte_eal_get_runtime_dir();
        if dir.is_null() {
            return;
        }
        CStr::from_ptr(dir)
    };
    let _ = std::fs::remove_dir(Path::new(OsStr::from_bytes(dir.to_bytes())));
}

/// The plug-in folder compiled into this DPDK.
fn driver_dir() -> PathBuf {
    let text = String::from_utf8_lossy(sys::RTE_EAL_PMD_PATH);
    PathBuf::from(text.trim_end_matches('\0'))
}

/// An empty path means a DPDK that was built without plug-ins.
fn has_drivers(dir: &Path) -> bool {
    if dir.as_os_str().is_empty() {
        return true;
    }
    // Without this one plug-in no mbuf pool can be made, whatever else is there.
    let Ok(entries) = dir.read_dir() else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("librte_mempool_ring.so"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_follow_the_configuration() {
        let config = EalConfig { file_prefix: "p".into(), memory_mb: 256, ..EalConfig::default() };
        let args = config.args(3).join(" ");
        assert_eq!(args, "--lcores 0@3 --file-prefix p -m 256 --no-telemetry --in-memory --no-pci");

        let config = EalConfig {
            huge: false,
            pci_allow: vec!["0000:01:00.0".into(), "0000:02:00.0,x=1".into()],
            extra: vec!["--log-level=8".into()],
            ..config
        };
        let args = config.args(0).join(" ");
        assert!(
            args.ends_with("--no-huge --no-shconf -a 0000:01:00.0 -a 0000:02:00.0,x=1 --log-level=8"),
            "{args}"
        );
        assert!(!args.contains("--no-pci"));
    }

    #[test]
    fn a_missing_driver_folder_is_noticed() {
        assert!(has_drivers(&driver_dir()), "this machine's DPDK has drivers");
        assert!(!has_drivers(Path::new("/nonexistent")));
        assert!(!has_drivers(Path::new("/proc/self/fd")));
        let error = PortError::NoDrivers { dir: "/x".into() }.to_string();
        assert!(error.contains("apt install"), "{error}");
    }

    #[test]
    fn a_zero_byte_in_an_argument_is_an_error_before_anything_starts() {
        let config = EalConfig { extra: vec!["a\0b".into()], ..EalConfig::default() };
        assert!(matches!(Eal::init(&config), Err(PortError::Invalid { .. })));
    }
}
