//! A kernel interface as a port (af_packet), in a network namespace of this process's own: frames both ways, VLAN
//! tags in metadata, a jumbo MTU.

mod common;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::time::Duration;

use common::{bytes, frame, pool, receive, send, wait_for};
use weft_port::{Burst, EthConfig, EthDev, Mempool, free_burst};

fn ip(args: &str) {
    let output = Command::new("ip").args(args.split(' ')).output().expect("ip: apt install iproute2");
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A packet socket on an interface: the kernel's end of the wire.
struct Wire(OwnedFd);

impl Wire {
    fn open(interface: &str) -> Self {
        let name = std::ffi::CString::new(interface).expect("name");
        // SAFETY: plain system calls, with an address of the size told; the descriptor is ours.
        unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
            assert!(fd >= 0, "{}", io::Error::last_os_error());
            let fd = OwnedFd::from_raw_fd(fd);
            let mut address: libc::sockaddr_ll = core::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
            address.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
            let ret = libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as u32);
            assert_eq!(ret, 0, "{}", io::Error::last_os_error());
            let wait = libc::timeval { tv_sec: 10, tv_usec: 0 };
            let size = size_of_val(&wait) as u32;
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const wait).cast(),
                size,
            );
            Self(fd)
        }
    }

    fn send(&self, frame: &[u8]) {
        // SAFETY: the buffer is of the size told.
        let n = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(n, frame.len() as isize, "{}", io::Error::last_os_error());
    }

    /// The next frame of the tests' EtherType; the kernel's own chatter (IPv6) is passed over.
    fn receive(&self) -> Vec<u8> {
        loop {
            let mut buffer = vec![0; 65_536];
            // SAFETY: the buffer is of the size told.
            let n = unsafe { libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            assert!(n > 0, "{}", io::Error::last_os_error());
            buffer.truncate(n as usize);
            if buffer[12..14] == [0x88, 0xb5] {
                return buffer;
            }
        }
    }
}

#[test]
fn kernel_interfaces() {
    // SAFETY: moves this thread to a new network namespace, which ends with the process.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        eprintln!("SKIPPED: needs root for a network namespace: {}", io::Error::last_os_error());
        return;
    }
    ip("link add w0 address 02:00:00:00:00:aa type veth peer name k0 address 02:00:00:00:00:bb");
    for interface in ["w0", "k0"] {
        let off = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
        let _ = std::fs::write(off, "1");
        ip(&format!("link set {interface} up"));
    }
    ip("link set k0 mtu 9004");
    let mtu = || {
        let output = Command::new("ip").args(["-o", "link", "show", "w0"]).output().expect("ip");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_whitespace().skip_while(|w| *w != "mtu").nth(1).and_then(|n| n.parse::<u32>().ok())
    };
    let eal = common::eal("af-packet");
    let small = pool(&eal, "small", 1023);
    let config = EthConfig {
        device: "net_af_packet0,iface=w0".into(),
        rx_queues: 2,
        tx_queues: 1,
        rx_desc: 0,
        tx_desc: 0,
        mtu: 1600,
        promiscuous: true,
        rx_checksums: true,
        free_early: true,
        pool: small.clone(),
    };
    let (dev, mut rx, mut tx) = EthDev::open(&eal, &config).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((rx.len(), tx.len()), (1, 1), "as many as qpairs= says, 1 by default");
    assert_eq!(dev.mac(), [2, 0, 0, 0, 0, 0xaa]);
    assert_eq!(dev.driver_name(), "net_af_packet");
    assert_eq!(mtu(), Some(1600), "the interface's own MTU is raised");
    assert!(!dev.caps().rss);
    wait_for("the link", 5, || dev.link().up);

    let wire = Wire::open("k0");
    // Every length up to the MTU: none is cut short.
    for len in [60, 61, 1514, 1600 + 14] {
        send(&mut tx[0], &small, &[frame(len as u32, len)]);
        assert_eq!(wire.receive(), frame(len as u32, len), "weft to kernel, {len}");
        wire.send(&frame(len as u32, len));
        assert_eq!(receive(&mut rx[0], 1), [frame(len as u32, len)], "kernel to weft, {len}");
    }
    tagged(&wire, &mut rx[0]);

    let stats = dev.stats();
    assert_eq!((stats.rx_packets, stats.tx_packets), (5, 4), "{stats:?}");
    let error = dev.set_mac([2, 0, 0, 0, 0, 0xcc]).err().map(|e| e.to_string());
    match error {
        None => assert_eq!(dev.mac(), [2, 0, 0, 0, 0, 0xcc]),
        Some(error) => assert!(error.contains("promiscuous"), "{error}"),
    }
    ip("link set k0 down");
    wait_for("the link to go down", 5, || !dev.link().up);
    ip("link set k0 up");
    // The socket remembers that its interface went down.
    let wire = Wire::open("k0");
    dev.close(rx, tx).expect("close");
    assert_eq!(small.in_use(), 0);

    let jumbo = Mempool::new(&eal, "jumbo", 255, 0, 16_384 + 128, -1).expect("pool");
    let config = EthConfig {
        device: "net_af_packet0,iface=w0,framesz=16384,blocksz=16384,framecnt=64".into(),
        mtu: 9000,
        pool: jumbo.clone(),
        ..config
    };
    let (dev, mut rx, mut tx) = EthDev::open(&eal, &config).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(mtu(), Some(9000));
    let len = 9000 + 14;
    send(&mut tx[0], &jumbo, &[frame(1, len)]);
    assert_eq!(wire.receive(), frame(1, len));
    wire.send(&frame(2, len));
    assert_eq!(receive(&mut rx[0], 1), [frame(2, len)]);
    dev.close(rx, tx).expect("close");

    // The largest MTU that slots of the default size hold.
    let config =
        EthConfig { device: "net_af_packet0,iface=w0".into(), mtu: 1960, pool: small.clone(), ..config };
    let (dev, mut rx, tx) = EthDev::open(&eal, &config).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(mtu(), Some(9000), "a larger MTU of the interface stays");
    let frame = frame(3, 1960 + 14);
    wire.send(&frame);
    assert_eq!(receive(&mut rx[0], 1), [frame]);
    dev.close(rx, tx).expect("close");
}

/// The kernel takes an 802.1Q tag out of the frame and tells it beside. As weft does not ask for stripped tags, the
/// driver puts it back.
fn tagged(wire: &Wire, rx: &mut weft_port::RxQueue) {
    let plain = frame(77, 100);
    let mut with_tag = plain[..12].to_vec();
    with_tag.extend([0x81, 0x00, 0x60, 0x64]);
    with_tag.extend(&plain[12..]);
    wire.send(&with_tag);
    let mut burst = Burst::new();
    let start = std::time::Instant::now();
    while rx.rx_burst(&mut burst, 1) == 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "the tagged frame did not arrive");
    }
    match burst[0].vlan_stripped() {
        None => assert_eq!(bytes(&burst[0]), with_tag),
        // A driver that does not is fine as long as it says so.
        Some(tci) => assert_eq!((tci, bytes(&burst[0])), (0x6064, plain)),
    }
    free_burst(&mut burst);
}
