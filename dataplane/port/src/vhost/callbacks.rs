//! DPDK's calls into weft. They are `extern "C"`: a panic inside ends the process instead of unwinding through C.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dpdk_sys as sys;

use super::shared::{Message, Shared, VhostEvent};

/// The table of callbacks in a form that statics can have.
pub(super) struct Ops(pub(super) sys::rte_vhost_device_ops);

// SAFETY: function pointers and null pointers, which nobody changes.
unsafe impl Sync for Ops {}

/// Registered once for each port; DPDK keeps the pointer.
pub(super) static OPS: Ops = Ops(sys::rte_vhost_device_ops {
    new_device: Some(new_device),
    destroy_device: Some(destroy_device),
    vring_state_changed: Some(vring_state_changed),
    features_changed: Some(features_changed),
    new_connection: Some(new_connection),
    destroy_connection: Some(destroy_connection),
    // SAFETY: the remaining members are optional functions and reserved pointers: null means none.
    ..unsafe { core::mem::zeroed() }
});

/// What is called around each message of a front-end.
static MESSAGES: sys::rte_vhost_user_extern_ops = sys::rte_vhost_user_extern_ops {
    pre_msg_handle: Some(message_begins),
    post_msg_handle: Some(message_ends),
};

/// Numbers of the vhost-user protocol's messages.
mod request {
    pub(super) const SET_MEM_TABLE: u32 = 5;
    pub(super) const SET_VRING_ENABLE: u32 = 18;
    pub(super) const SEND_RARP: u32 = 19;
    pub(super) const ADD_MEM_REG: u32 = 37;
    pub(super) const REM_MEM_REG: u32 = 38;
}

/// What a message is about.
///
/// # Safety
/// `message` is what DPDK gives its callbacks: the message as it was received.
unsafe fn read(message: *const c_void) -> Message {
    // SAFETY: it begins with the numbers of the request, flags and bytes of the payload, of 32 bits each in the CPU's byte order; there
    // is room for the longest payload behind them. A ring's state is its number and a value.
    let [request, _, size, ring, value] = unsafe { message.cast::<[u32; 5]>().read_unaligned() };
    match request {
        request::SET_MEM_TABLE | request::ADD_MEM_REG | request::REM_MEM_REG => Message::Memory,
        request::SEND_RARP => Message::Announce,
        request::SET_VRING_ENABLE if size >= 8 && value == 0 => {
            u16::try_from(ring).map_or(Message::Other, Message::Disable)
        }
        _ => Message::Other,
    }
}

type Ports = HashMap<CString, Arc<Shared>>;

/// Ports by their socket, as DPDK tells devices apart. Workers do not take this lock, and nobody calls DPDK while holding it.
static PORTS: Mutex<Option<Ports>> = Mutex::new(None);

fn ports() -> MutexGuard<'static, Option<Ports>> {
    PORTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Enters a port, so that its callbacks find it. False when there is one of that path.
pub(super) fn enter(path: CString, shared: &Arc<Shared>) -> bool {
    let mut ports = ports();
    let ports = ports.get_or_insert_default();
    if ports.contains_key(&path) {
        return false;
    }
    ports.insert(path, Arc::clone(shared));
    true
}

/// Removes a port whose socket is not registered at DPDK any more.
pub(super) fn leave(path: &CStr) {
    if let Some(ports) = ports().as_mut() {
        ports.remove(path);
    }
}

/// The port of a device.
fn port_of(vid: c_int) -> Option<Arc<Shared>> {
    // As long as a socket's address can be (sun_path), and librte_vhost's own buffer is.
    let mut path = [0 as c_char; 4096];
    // SAFETY: room for as many bytes as the call is told; the result is terminated within them.
    let path = unsafe {
        if sys::rte_vhost_get_ifname(vid, path.as_mut_ptr(), path.len()) != 0 {
            return None;
        }
        path[path.len() - 1] = 0;
        CStr::from_ptr(path.as_ptr())
    };
    ports().as_ref()?.get(path).cloned()
}

unsafe extern "C" fn new_connection(vid: c_int) -> c_int {
    match port_of(vid) {
        Some(port) => {
            port.connected(vid);
            // SAFETY: a device in its callback; the table is static, and copied.
            unsafe { sys::rte_vhost_extern_callback_register(vid, &MESSAGES, core::ptr::null_mut()) }
        }
        None => -1,
    }
}

unsafe extern "C" fn destroy_connection(vid: c_int) {
    if let Some(port) = port_of(vid) {
        port.disconnected(vid);
    }
}

/// Before each message. DPDK may hold the device's ring locks here: see [`Shared::message_begins`] for why waiting is safe.
unsafe extern "C" fn message_begins(vid: c_int, message: *mut c_void) -> sys::rte_vhost_msg_result {
    if let Some(port) = port_of(vid) {
        // SAFETY: as DPDK gave it.
        port.message_begins(vid, unsafe { read(message) });
    }
    sys::RTE_VHOST_MSG_RESULT_NOT_HANDLED
}

/// After each message that was handled without an error. After one, the connection is closed, or the front-end told; then rings
/// stay as they are, unserved, until its next message.
unsafe extern "C" fn message_ends(vid: c_int, message: *mut c_void) -> sys::rte_vhost_msg_result {
    if let Some(port) = port_of(vid) {
        let mut features = 0;
        // SAFETY: a device in its callback, and room for the answer.
        let known = unsafe { sys::rte_vhost_get_negotiated_features(vid, &mut features) } == 0;
        // SAFETY: as DPDK gave it.
        port.message_ends(vid, unsafe { read(message) }, known.then_some(features));
    }
    sys::RTE_VHOST_MSG_RESULT_NOT_HANDLED
}

/// The guest's driver is ready: memory is mapped, features are negotiated, at least one ring is there.
unsafe extern "C" fn new_device(vid: c_int) -> c_int {
    let Some(port) = port_of(vid) else { return -1 };
    let mut features = 0;
    // SAFETY: a device in its callback, and room for the answer.
    unsafe { sys::rte_vhost_get_negotiated_features(vid, &mut features) };
    if !port.publish(vid, features) {
        return -1;
    }
    port.hooks.event(VhostEvent::Connected);
    0
}

/// The guest goes: the device is freed when this returns, or set up anew.
unsafe extern "C" fn destroy_device(vid: c_int) {
    let Some(port) = port_of(vid) else { return };
    if port.unpublish(vid) {
        port.hooks.wait_grace_period();
        port.hooks.event(VhostEvent::Disconnected);
    }
}

/// DPDK holds the device's ring locks here, on which workers may spin: nothing in here may wait.
unsafe extern "C" fn vring_state_changed(vid: c_int, ring: u16, enable: c_int) -> c_int {
    if let Some(port) = port_of(vid)
        && port.ring_changed(vid, ring, enable != 0)
    {
        port.hooks.event(VhostEvent::QueueEnabled(ring, enable != 0));
    }
    0
}

unsafe extern "C" fn features_changed(vid: c_int, features: u64) -> c_int {
    if let Some(port) = port_of(vid) {
        port.features_changed(vid, features);
    }
    0
}
