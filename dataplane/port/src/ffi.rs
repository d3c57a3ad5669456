//! Small helpers between Rust's and C's ways.

use std::ffi::{CStr, CString, c_int};

use dpdk_sys as sys;

use crate::error::PortError;

/// DPDK's words for an error number; the sign does not matter.
pub(crate) fn strerror(errno: c_int) -> String {
    // SAFETY: rte_strerror returns a NUL-terminated string in a buffer of the calling thread, or a constant.
    let text = unsafe { CStr::from_ptr(sys::rte_strerror(errno.wrapping_abs())) };
    text.to_string_lossy().into_owned()
}

/// The calling thread's `rte_errno`.
pub(crate) fn rte_errno() -> c_int {
    // SAFETY: reads a thread-local variable.
    unsafe { sys::weft_rte_errno() }
}

/// A C string, or an error that names `what` when it holds a NUL.
pub(crate) fn c_string(what: &str, text: &str) -> Result<CString, PortError> {
    CString::new(text).map_err(|_| PortError::Invalid {
        what: what.to_owned(),
        why: "it holds a zero byte, remove that".to_owned(),
    })
}
