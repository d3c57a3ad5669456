//! Opening, asking and closing an Ethernet device.

use std::collections::HashSet;
use std::ffi::{CStr, CString, c_int, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use dpdk_sys as sys;

use super::config::{EthConfig, OVERHEAD};
use super::kernel;
use super::queue::{EthRx, EthTx};
use super::stats::{EthStats, LinkState};
use crate::eal::Eal;
use crate::error::PortError;
use crate::ffi;
use crate::mempool::Mempool;
use crate::queue::{RxQueue, TxQueue};

/// Ports that are open in this process. Held over opening and closing, so that plugging is one at a time.
static OPEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

fn open_ports() -> MutexGuard<'static, Option<HashSet<u16>>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a device can do and was set up for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EthCaps {
    /// The device spreads flows over its receive queues by a hash that weft asked for.
    pub rss: bool,
    /// The device checks IPv4 header checksums.
    pub rx_ip_checksum: bool,
    /// The device checks UDP checksums.
    pub rx_udp_checksum: bool,
    /// Received packets may be chains of mbufs.
    pub rx_scatter: bool,
    /// The device says that it sends chains of mbufs. Virtual devices mostly do so without saying.
    pub tx_multi_segs: bool,
    /// Frames to any MAC address are received.
    pub promiscuous: bool,
    /// Largest number of receive queues.
    pub max_rx_queues: u16,
    /// Largest number of transmit queues.
    pub max_tx_queues: u16,
    /// MTU in use.
    pub mtu: u16,
    /// Receive descriptors in each queue.
    pub rx_desc: u16,
    /// Transmit descriptors in each queue.
    pub tx_desc: u16,
}

/// An open, started Ethernet device.
///
/// It closes when this and all its queues are gone. Closing stops hardware and takes a while: give the queues back
/// by [`EthDev::close`] instead of dropping them on a worker.
#[derive(Debug)]
pub struct EthDev {
    device: Arc<Device>,
    driver: String,
    numa: i32,
    caps: EthCaps,
    /// The kernel interface under an af_packet device.
    interface: Option<String>,
}

/// What the handle and the queues share: its end closes the device.
#[derive(Debug)]
pub(super) struct Device {
    port: u16,
    /// As configured, for messages.
    name: String,
    /// DPDK does not lock its control calls for one port against each other.
    control: Mutex<()>,
    /// Kept until the device is closed: its receive rings hold mbufs of it.
    _pool: Mempool,
}

impl EthDev {
    /// Plugs the device in if need be, sets it up and starts it. Queues come back in order, as many as the device
    /// can do, so perhaps fewer than asked for.
    ///
    /// RSS over IP addresses and ports is on with several receive queues where the device can do it; received packets
    /// are scattered over mbufs only if the MTU needs it.
    pub fn open(_eal: &Eal, config: &EthConfig) -> Result<(Self, Vec<RxQueue>, Vec<TxQueue>), PortError> {
        config.check()?;
        let mut open = open_ports();
        let open = open.get_or_insert_default();
        let port = find_or_plug(config)?;
        if !open.insert(port) {
            return Err(PortError::EthBusy { device: config.device.clone() });
        }
        let setup = Setup { config, port };
        let (caps, rx, tx, driver) = setup.run().inspect_err(|_| {
            open.remove(&port);
            unplug(port);
        })?;
        let device = Arc::new(Device {
            port,
            name: config.device.clone(),
            control: Mutex::new(()),
            _pool: config.pool.clone(),
        });
        let rx = (0..rx).map(|q| RxQueue::Eth(EthRx::new(&device, q))).collect();
        let tx = (0..tx).map(|q| TxQueue::Eth(EthTx::new(&device, q))).collect();
        // SAFETY: a valid port; negative when the device has no node.
        let numa = unsafe { sys::rte_eth_dev_socket_id(port) };
        let interface = config.af_packet_interface().map(str::to_owned);
        Ok((Self { device, driver, numa, caps, interface }, rx, tx))
    }

    /// The device's MAC address, first byte first on the wire.
    pub fn mac(&self) -> [u8; 6] {
        let mut mac = sys::rte_ether_addr::default();
        // SAFETY: a valid port, and room for one address. Fails for unknown ports only.
        unsafe { sys::rte_eth_macaddr_get(self.device.port, &mut mac) };
        mac.addr_bytes
    }

    /// Gives the device another MAC address (`rte_eth_dev_default_mac_addr_set`).
    pub fn set_mac(&self, mac: [u8; 6]) -> Result<(), PortError> {
        let _control = self.device.lock();
        let mut addr = sys::rte_ether_addr { addr_bytes: mac };
        // SAFETY: a valid port, and an address to read.
        let ret = unsafe { sys::rte_eth_dev_default_mac_addr_set(self.device.port, &mut addr) };
        let hint =
            "; use the device's own address, or open the device promiscuous and use the other in frames only";
        check(&self.device.name, "change of the MAC address", ret, hint)
    }

    /// Whether the link is up, without waiting for a negotiation that goes on.
    pub fn link(&self) -> LinkState {
        let _control = self.device.lock();
        let mut link = sys::weft_link::default();
        // SAFETY: a valid port, and room for the answer.
        if unsafe { sys::weft_eth_link(self.device.port, &mut link) } < 0 {
            return LinkState::default();
        }
        let speed_mbps = if link.speed_mbps == u32::MAX { 0 } else { link.speed_mbps };
        let carrier = self.interface.as_deref().is_none_or(|name| kernel::running(name).unwrap_or(false));
        LinkState { up: link.up != 0 && carrier, speed_mbps, full_duplex: link.full_duplex != 0 }
    }

    /// The device's counters; all zero if it has none.
    pub fn stats(&self) -> EthStats {
        let _control = self.device.lock();
        let mut stats = sys::rte_eth_stats::default();
        // SAFETY: a valid port, and room for the answer.
        if unsafe { sys::rte_eth_stats_get(self.device.port, &mut stats) } != 0 {
            return EthStats::default();
        }
        stats.into()
    }

    /// The device as it was configured.
    pub fn device(&self) -> &str {
        &self.device.name
    }

    /// DPDK's number for the port.
    pub fn port_id(&self) -> u16 {
        self.device.port
    }

    /// The driver's name, such as `net_ixgbe`.
    pub fn driver_name(&self) -> &str {
        &self.driver
    }

    /// The NUMA node that the device is attached to, or -1.
    pub fn numa(&self) -> i32 {
        self.numa
    }

    /// What the device can do and was set up for.
    pub fn caps(&self) -> &EthCaps {
        &self.caps
    }

    /// Takes the queues back, stops and closes the device, and unplugs it. If a queue is still elsewhere, the
    /// device closes when that one is dropped, and this is an error that says so.
    pub fn close(self, rx: Vec<RxQueue>, tx: Vec<TxQueue>) -> Result<(), PortError> {
        let device = Arc::clone(&self.device);
        let ours = rx.iter().all(|q| matches!(q, RxQueue::Eth(q) if q.belongs_to(&device)))
            && tx.iter().all(|q| matches!(q, TxQueue::Eth(q) if q.belongs_to(&device)));
        drop((self, rx, tx));
        let name = device.name.clone();
        match Arc::into_inner(device) {
            Some(device) => {
                drop(device);
                if ours {
                    return Ok(());
                }
                Err(PortError::Invalid {
                    what: format!("device '{name}': close"),
                    why: "a queue of another port was given back with it".into(),
                })
            }
            None => Err(PortError::Invalid {
                what: format!("device '{name}': close"),
                why: "some of its queues were not given back: it closes when the last one is dropped".into(),
            }),
        }
    }
}

impl Device {
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let mut open = open_ports();
        unplug(self.port);
        if let Some(open) = open.as_mut() {
            open.remove(&self.port);
        }
    }
}

/// DPDK's number for the device, which is plugged in if it is not there.
fn find_or_plug(config: &EthConfig) -> Result<u16, PortError> {
    let name = ffi::c_string("device name", config.name())?;
    if let Some(port) = port_by_name(&name) {
        return Ok(port);
    }
    let args = ffi::c_string("device", &config.device)?;
    // SAFETY: EAL runs; a C string that DPDK copies.
    let ret = unsafe { sys::rte_dev_probe(args.as_ptr()) };
    let hint = if config.is_pci() {
        "; bind it to vfio-pci (dpdk-devbind.py -b vfio-pci ADDRESS) and list it in the PCI devices to allow"
    } else {
        "; check the driver's name and its arguments, and that what they name (an interface, a folder) is there"
    };
    check(&config.device, "probe", ret, hint)?;
    port_by_name(&name).ok_or_else(|| PortError::Eth {
        device: config.device.clone(),
        step: "probe",
        reason: "DPDK made no Ethernet port of it".into(),
        hint: hint.into(),
    })
}

fn port_by_name(name: &CString) -> Option<u16> {
    let mut port = 0;
    // SAFETY: EAL runs; a C string and room for the answer.
    (unsafe { sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut port) } == 0).then_some(port)
}

/// Stops, closes and removes a device, whatever state it is in.
fn unplug(port: u16) {
    let mut info = sys::rte_eth_dev_info::default();
    // SAFETY: a valid port, and room for the answer; the driver's name is a constant of the driver.
    let (known, memif) = unsafe {
        let known = sys::rte_eth_dev_info_get(port, &mut info) == 0;
        (known, known && !info.driver_name.is_null() && CStr::from_ptr(info.driver_name) == c"net_memif")
    };
    // memif answers its peer on DPDK's interrupt thread and frees, in close, what that uses: a peer that leaves at
    // the same moment would crash us (seen with 22.11). On that thread the two cannot meet.
    if !memif || !on_interrupt_thread(stop_and_close, port) {
        stop_and_close(port);
    }
    if known && !info.device.is_null() {
        // SAFETY: the bus's device outlives the port, so that it can be removed after the port was closed.
        unsafe { sys::rte_dev_remove(info.device) };
    }
}

fn stop_and_close(port: u16) {
    // SAFETY: a valid port that no queue handle refers to any more.
    unsafe {
        sys::rte_eth_dev_stop(port);
        sys::rte_eth_dev_close(port);
    }
}

/// Runs `job` on DPDK's interrupt thread and waits for its end. False, with nothing done, if that is not possible.
fn on_interrupt_thread(job: fn(u16), port: u16) -> bool {
    struct Job {
        job: fn(u16),
        port: u16,
        done: mpsc::Sender<()>,
    }
    unsafe extern "C" fn run(arg: *mut c_void) {
        // SAFETY: the box that was given away below, once.
        let Job { job, port, done } = *unsafe { Box::from_raw(arg.cast::<Job>()) };
        job(port);
        let _ = done.send(());
    }
    let (done, wait) = mpsc::channel();
    let job = Box::into_raw(Box::new(Job { job, port, done }));
    // SAFETY: EAL runs; the callback gets its argument once.
    if unsafe { sys::rte_eal_alarm_set(1, Some(run), job.cast()) } != 0 {
        // SAFETY: nobody took the box.
        drop(unsafe { Box::from_raw(job) });
        return false;
    }
    wait.recv().is_ok()
}

fn check(device: &str, step: &'static str, ret: c_int, hint: &str) -> Result<(), PortError> {
    if ret >= 0 {
        return Ok(());
    }
    // Most calls return the error number, some -1 with rte_errno.
    let errno = if ret == -1 && ffi::rte_errno() != 0 { ffi::rte_errno() } else { ret };
    Err(PortError::Eth {
        device: device.to_owned(),
        step,
        reason: ffi::strerror(errno),
        hint: hint.to_owned(),
    })
}

/// Receive and transmit queues to set up: as many as wished for and possible.
///
/// A virtio device has them in pairs and receives on every pair that is switched on, whether or not its receive queue
/// was set up: the driver switches on as many as the larger of the two numbers, and what arrives on the others is lost.
fn queue_counts(driver: &str, wished: (u16, u16), max: (u16, u16)) -> (u16, u16) {
    let (rx, tx) = (wished.0.min(max.0), wished.1.min(max.1));
    if driver.starts_with("net_virtio") {
        let pairs = rx.min(tx);
        return (pairs, pairs);
    }
    (rx, tx)
}

/// One device on its way from plugged in to started.
struct Setup<'a> {
    config: &'a EthConfig,
    port: u16,
}

impl Setup<'_> {
    fn check(&self, step: &'static str, ret: c_int, hint: &str) -> Result<(), PortError> {
        check(&self.config.device, step, ret, hint)
    }

    fn run(&self) -> Result<(EthCaps, u16, u16, String), PortError> {
        let (config, port) = (self.config, self.port);
        let mut info = sys::rte_eth_dev_info::default();
        // SAFETY: a valid port, and room for the answer.
        self.check("query", unsafe { sys::rte_eth_dev_info_get(port, &mut info) }, "")?;
        let driver = match info.driver_name.is_null() {
            true => "unknown".to_owned(),
            // SAFETY: the driver's name is a constant of the driver.
            false => unsafe { CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned(),
        };
        let (rx_queues, tx_queues) = queue_counts(
            &driver,
            (config.rx_queues, config.tx_queues),
            (info.max_rx_queues, info.max_tx_queues),
        );
        if rx_queues == 0 || tx_queues == 0 {
            return Err(PortError::Invalid {
                what: format!("device '{}': queues", config.device),
                why: format!("its driver {driver} does not both receive and send, use another device"),
            });
        }

        let (conf, mut caps) = self.features(&info, rx_queues)?;
        // SAFETY: a valid port that is not started, and a configuration to read.
        let ret = unsafe { sys::rte_eth_dev_configure(port, rx_queues, tx_queues, &conf) };
        self.check("configuration", ret, "; see DPDK's own lines above, and try fewer queues")?;
        self.queues(&info, &conf, rx_queues, tx_queues, &mut caps)?;
        self.set_mtu(&info)?;
        // SAFETY: a valid port, configured and with its queues set up.
        self.check("start", unsafe { sys::rte_eth_dev_start(port) }, "; see DPDK's own lines above")?;
        if config.promiscuous {
            // SAFETY: a valid port. Devices that have no filter to switch off do not know the call.
            caps.promiscuous = match unsafe { sys::rte_eth_promiscuous_enable(port) } {
                ret if ret == -libc::ENOTSUP => true,
                ret => self.check("promiscuous mode", ret, "").map(|()| true)?,
            };
        }
        Ok((caps, rx_queues, tx_queues, driver))
    }

    /// Chooses offloads. FAST_FREE never: packets of one burst come from several pools, and may be shared.
    fn features(
        &self,
        info: &sys::rte_eth_dev_info,
        rx_queues: u16,
    ) -> Result<(sys::rte_eth_conf, EthCaps), PortError> {
        let config = self.config;
        let mut conf = sys::rte_eth_conf::default();
        let checksums = sys::WEFT_RX_OFFLOAD_IPV4_CKSUM | sys::WEFT_RX_OFFLOAD_UDP_CKSUM;
        let mut offloads = if config.rx_checksums { info.rx_offload_capa & checksums } else { 0 };

        let frame = u32::from(config.mtu) + OVERHEAD;
        let room = u32::from(config.pool.segment_room());
        let scatter = frame > room;
        if scatter && info.rx_offload_capa & sys::WEFT_RX_OFFLOAD_SCATTER != 0 {
            offloads |= sys::WEFT_RX_OFFLOAD_SCATTER;
        } else if scatter {
            return Err(PortError::Mtu {
                device: config.device.clone(),
                mtu: config.mtu,
                why: format!(
                    "frames of {frame} bytes do not fit mbufs with {room} bytes of data, and the device cannot \
                     spread one over several: lower the MTU to {} or use mbufs with more data room",
                    room.saturating_sub(OVERHEAD)
                ),
            });
        }
        let rss = info.flow_type_rss_offloads & (sys::WEFT_RSS_IP | sys::WEFT_RSS_UDP | sys::WEFT_RSS_TCP);
        let rss = if rx_queues > 1 { rss } else { 0 };
        conf.rxmode.mq_mode = if rss != 0 { sys::WEFT_MQ_RX_RSS } else { sys::WEFT_MQ_RX_NONE };
        conf.rx_adv_conf.rss_conf.rss_hf = rss;
        conf.rxmode.offloads = offloads;
        // Drivers read it here to choose between single and scattered reception.
        conf.rxmode.mtu = if info.max_mtu != u16::MAX { config.mtu.into() } else { 0 };
        conf.txmode.offloads = info.tx_offload_capa & sys::WEFT_TX_OFFLOAD_MULTI_SEGS;
        if info.max_mtu != 0 && config.mtu > info.max_mtu || config.mtu < info.min_mtu {
            return Err(PortError::Mtu {
                device: config.device.clone(),
                mtu: config.mtu,
                why: format!("the device can do {} to {}", info.min_mtu, info.max_mtu),
            });
        }
        let caps = EthCaps {
            rss: rss != 0,
            rx_ip_checksum: offloads & sys::WEFT_RX_OFFLOAD_IPV4_CKSUM != 0,
            rx_udp_checksum: offloads & sys::WEFT_RX_OFFLOAD_UDP_CKSUM != 0,
            rx_scatter: scatter,
            tx_multi_segs: conf.txmode.offloads & sys::WEFT_TX_OFFLOAD_MULTI_SEGS != 0,
            promiscuous: false,
            max_rx_queues: info.max_rx_queues,
            max_tx_queues: info.max_tx_queues,
            mtu: config.mtu,
            rx_desc: 0,
            tx_desc: 0,
        };
        Ok((conf, caps))
    }

    fn queues(
        &self,
        info: &sys::rte_eth_dev_info,
        conf: &sys::rte_eth_conf,
        rx_queues: u16,
        tx_queues: u16,
        caps: &mut EthCaps,
    ) -> Result<(), PortError> {
        let (config, port) = (self.config, self.port);
        let wish = |wish: u16, preferred: u16| match (wish, preferred) {
            (0, 0) => 512,
            (0, preferred) => preferred,
            (wish, _) => wish,
        };
        caps.rx_desc = wish(config.rx_desc, info.default_rxportconf.ring_size);
        caps.tx_desc = wish(config.tx_desc, info.default_txportconf.ring_size);
        // SAFETY: a valid port, and two numbers to adjust.
        let ret =
            unsafe { sys::rte_eth_dev_adjust_nb_rx_tx_desc(port, &mut caps.rx_desc, &mut caps.tx_desc) };
        self.check("choice of ring sizes", ret, "; use other numbers of descriptors")?;

        // SAFETY: a valid port; -1 means any node and is passed on as such.
        let numa = unsafe { sys::rte_eth_dev_socket_id(port) } as u32;
        let mut rxconf = info.default_rxconf;
        rxconf.offloads = conf.rxmode.offloads;
        let mut txconf = info.default_txconf;
        txconf.offloads = conf.txmode.offloads;
        for queue in 0..rx_queues {
            // SAFETY: a configured port and a queue below its number; the pool lives until the device is closed.
            let ret = unsafe {
                sys::rte_eth_rx_queue_setup(port, queue, caps.rx_desc, numa, &rxconf, config.pool.as_ptr())
            };
            self.check(
                "receive queue",
                ret,
                "; mbufs may be too small for the device or its MTU, or too few",
            )?;
        }
        for queue in 0..tx_queues {
            // Sent packets stay in the ring until so few descriptors are free, by default about 32: until then nearly
            // the whole ring keeps buffers of the ports that sent them.
            let mut eager = txconf;
            if config.free_early {
                eager.tx_free_thresh = caps.tx_desc / 4 * 3;
            }
            // SAFETY: a configured port and a queue below its number.
            let mut ret = unsafe { sys::rte_eth_tx_queue_setup(port, queue, caps.tx_desc, numa, &eager) };
            if ret != 0 {
                // Drivers may have rules of their own for that number.
                // SAFETY: as above.
                ret = unsafe { sys::rte_eth_tx_queue_setup(port, queue, caps.tx_desc, numa, &txconf) };
            }
            self.check("transmit queue", ret, "; use other numbers of descriptors")?;
        }
        Ok(())
    }

    /// Many virtual devices cannot set an MTU: fine if they carry as much anyway.
    fn set_mtu(&self, info: &sys::rte_eth_dev_info) -> Result<(), PortError> {
        let mtu = self.config.mtu;
        if let Some(interface) = self.config.af_packet_interface() {
            return kernel::at_least(interface, mtu).map_err(|e| PortError::Mtu {
                device: self.config.device.clone(),
                mtu,
                why: format!("the kernel refused it: {e}; try: ip link set {interface} mtu {mtu}"),
            });
        }
        // SAFETY: a valid port.
        let ret = unsafe { sys::rte_eth_dev_set_mtu(self.port, mtu) };
        let suffices = u32::from(mtu) <= sys::RTE_ETHER_MTU || u32::from(mtu) + 18 <= info.max_rx_pktlen;
        if ret == 0 || ret == -libc::ENOTSUP && suffices {
            return Ok(());
        }
        let why = if ret == -libc::ENOTSUP {
            format!("the driver cannot change it and carries frames of {} bytes at most", info.max_rx_pktlen)
        } else {
            format!("the device refused it: {}", ffi::strerror(ret))
        };
        Err(PortError::Mtu { device: self.config.device.clone(), mtu, why })
    }
}

#[cfg(test)]
mod tests {
    use super::queue_counts;

    #[test]
    fn queues_are_limited_by_the_device() {
        assert_eq!(queue_counts("net_ixgbe", (4, 8), (128, 64)), (4, 8));
        assert_eq!(queue_counts("net_e1000_em", (4, 8), (2, 1)), (2, 1));
        assert_eq!(queue_counts("net_ixgbe", (4, 8), (0, 64)), (0, 8));
    }

    #[test]
    fn virtio_gets_as_many_receive_as_transmit_queues() {
        for driver in ["net_virtio", "net_virtio_user"] {
            assert_eq!(queue_counts(driver, (1, 2), (8, 8)), (1, 1));
            assert_eq!(queue_counts(driver, (4, 2), (8, 8)), (2, 2));
            assert_eq!(queue_counts(driver, (4, 4), (2, 2)), (2, 2));
        }
    }
}
