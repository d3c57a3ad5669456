//! Opening, asking and closing a vhost-user port.

use std::ffi::CString;
use std::path::PathBuf;
use std::sync::Arc;

use dpdk_sys as sys;

use super::queue::{VhostRx, VhostTx};
use super::shared::{Shared, VhostHooks};
use super::{callbacks, features, socket};
use crate::eal::Eal;
use crate::error::PortError;
use crate::ffi;
use crate::mempool::Mempool;
use crate::queue::{RxQueue, TxQueue};

/// Most queue pairs that librte_vhost serves for one guest.
pub const MAX_QUEUE_PAIRS: u16 = 128;

/// Who creates the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VhostMode {
    /// weft does, and the front-end (QEMU) connects.
    Server,
    /// The front-end does; weft connects, and tries again every second while it is away.
    Client,
}

/// How to open a vhost-user port.
#[derive(Debug, Clone)]
pub struct VhostConfig {
    /// The Unix socket.
    pub path: PathBuf,
    /// Who creates it.
    pub mode: VhostMode,
    /// Queue pairs. The guest may use fewer; give it no more.
    pub queues: u16,
    /// Offer packed rings. A guest cannot go on with one after weft was killed; with split rings it can.
    pub packed: bool,
    /// Where copies of the guest's packets come from.
    pub pool: Mempool,
}

/// A port at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VhostState {
    /// A guest's driver is ready.
    pub connected: bool,
    /// Feature word negotiated with it; see [`features::names`].
    pub features: u64,
    /// Rings that the guest has enabled, in both directions, of those that the port has.
    pub queues_enabled: u16,
    /// The numbers of those rings (even: the guest receives, odd: it sends).
    pub rings_enabled: Vec<u16>,
    /// Rings that the guest has enabled beyond those: what it sends there is lost. Give it fewer queues.
    pub unserved_rings: u16,
    /// Descriptors in each ring, in the guest's order (even: it receives, odd: it sends); 0 for a ring not set up.
    pub ring_sizes: Vec<u16>,
    /// MTU that the front-end told its guest, if it did (QEMU's `host_mtu=`).
    pub mtu: Option<u16>,
    /// NUMA node of the guest's memory, or -1.
    pub numa: i32,
}

/// An open vhost-user port. Dropping it closes it; queues that are elsewhere then receive and send nothing.
#[derive(Debug)]
pub struct VhostPort {
    shared: Arc<Shared>,
    path: CString,
    mode: VhostMode,
}

impl VhostPort {
    /// Registers the socket at librte_vhost and starts to serve it. A stale socket file is removed first.
    pub fn open(
        _eal: &Eal,
        config: VhostConfig,
        hooks: Arc<dyn VhostHooks>,
    ) -> Result<(Self, Vec<RxQueue>, Vec<TxQueue>), PortError> {
        socket::check_path(&config.path)?;
        if !(1..=MAX_QUEUE_PAIRS).contains(&config.queues) {
            return Err(PortError::Invalid {
                what: format!("vhost-user socket {}: queues {}", config.path.display(), config.queues),
                why: format!("1 to {MAX_QUEUE_PAIRS} queue pairs are possible"),
            });
        }
        let Some(text) = config.path.to_str() else {
            return Err(PortError::Socket { path: config.path, why: "the path is not UTF-8".into() });
        };
        let path = ffi::c_string("vhost-user socket's path", text)?;

        let shared = Arc::new(Shared::new(config.path.clone(), config.queues, hooks));
        if !callbacks::enter(path.clone(), &shared) {
            return Err(PortError::Socket {
                path: config.path,
                why: "another port of this process has it: use another path".into(),
            });
        }
        if let Err(e) = register(&config, &path) {
            callbacks::leave(&path);
            return Err(e);
        }
        let rx = (0..config.queues)
            .map(|pair| RxQueue::Vhost(VhostRx::new(&shared, pair, config.pool.clone())))
            .collect();
        let tx = (0..config.queues).map(|pair| TxQueue::Vhost(VhostTx::new(&shared, pair))).collect();
        Ok((Self { shared, path, mode: config.mode }, rx, tx))
    }

    /// The port now.
    pub fn state(&self) -> VhostState {
        let rings = self.shared.rings();
        self.shared
            .with_device(|vid| VhostState {
                connected: true,
                features: self.shared.features(),
                queues_enabled: (0..rings).filter(|&ring| self.shared.ready(ring)).count() as u16,
                rings_enabled: (0..rings).filter(|&ring| self.shared.ready(ring)).collect(),
                unserved_rings: self.shared.unserved() as u16,
                ring_sizes: (0..rings).map(|ring| ring_size(vid, ring)).collect(),
                mtu: mtu(vid),
                // SAFETY: the device does not go away meanwhile.
                numa: unsafe { sys::rte_vhost_get_numa_node(vid) },
            })
            .unwrap_or_else(|| VhostState {
                numa: -1,
                ring_sizes: vec![0; rings.into()],
                ..VhostState::default()
            })
    }

    /// The socket.
    pub fn path(&self) -> &std::path::Path {
        &self.shared.path
    }

    /// Who creates it.
    pub fn mode(&self) -> VhostMode {
        self.mode
    }

    /// Takes the queues back, disconnects the guest and stops serving the socket, which goes away in server mode.
    ///
    /// Calls [`VhostHooks::wait_grace_period`] on this thread if a guest is connected.
    pub fn close(self, rx: Vec<RxQueue>, tx: Vec<TxQueue>) {
        drop((rx, tx));
        drop(self);
    }
}

impl Drop for VhostPort {
    fn drop(&mut self) {
        // No lock of ours is held: this calls destroy_device and waits for DPDK's thread, which calls back, too.
        // SAFETY: registered in `open`; a C string.
        unsafe { sys::rte_vhost_driver_unregister(self.path.as_ptr()) };
        callbacks::leave(&self.path);
    }
}

fn register(config: &VhostConfig, path: &CString) -> Result<(), PortError> {
    let error = |step, hint| Err(PortError::Vhost { path: config.path.clone(), step, hint });
    let mut flags = sys::WEFT_VHOST_USER_NET_COMPLIANT_OL_FLAGS;
    match config.mode {
        VhostMode::Server => socket::make_way(&config.path)?,
        VhostMode::Client => flags |= sys::WEFT_VHOST_USER_CLIENT,
    }
    // SAFETY: EAL runs; a C string that DPDK copies.
    if unsafe { sys::rte_vhost_driver_register(path.as_ptr(), flags) } != 0 {
        return error("registration", "see DPDK's own lines above; it serves 1,024 sockets at most");
    }
    // SAFETY: a registered socket; the table of callbacks is static.
    let set_up = unsafe {
        sys::rte_vhost_driver_disable_features(
            path.as_ptr(),
            features::withheld(config.queues, config.packed),
        ) == 0
            && sys::rte_vhost_driver_callback_register(path.as_ptr(), &callbacks::OPS.0) == 0
    };
    // Older releases always announce 128 pairs; `unserved_rings` tells if a guest used more than there are.
    // SAFETY: a registered socket.
    unsafe { sys::weft_vhost_set_max_queue_pairs(path.as_ptr(), config.queues.into()) };
    // SAFETY: as above.
    let started = set_up && unsafe { sys::rte_vhost_driver_start(path.as_ptr()) } == 0;
    if !started {
        // SAFETY: registered above, and no device exists.
        unsafe { sys::rte_vhost_driver_unregister(path.as_ptr()) };
        return match set_up {
            false => error("choice of features", "see DPDK's own lines above"),
            true => error("start", "may this user create a socket there? See DPDK's own lines above"),
        };
    }
    Ok(())
}

fn ring_size(vid: i32, ring: u16) -> u16 {
    // SAFETY: plain numbers and pointers, to be filled in.
    let mut vring: sys::rte_vhost_vring = unsafe { core::mem::zeroed() };
    // SAFETY: the device does not go away meanwhile; the call checks the ring's number.
    match unsafe { sys::rte_vhost_get_vhost_vring(vid, ring, &mut vring) } {
        0 => vring.size,
        _ => 0,
    }
}

fn mtu(vid: i32) -> Option<u16> {
    let mut mtu = 0;
    // SAFETY: the device does not go away meanwhile; fails unless the feature was negotiated.
    (unsafe { sys::rte_vhost_get_mtu(vid, &mut mtu) } == 0 && mtu != 0).then_some(mtu)
}
