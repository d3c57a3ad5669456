//! The kernel interface under an af_packet device: its MTU and its link.
//!
//! The driver carries whatever fits its ring's slots, but tells ethdev of 1,518 bytes at most (22.11), so that
//! `rte_eth_dev_set_mtu` refuses more; what counts is the interface's own MTU, beyond which sending fails. And the
//! driver says that its link is up, whatever the interface's is.

use std::ffi::{c_char, c_ulong};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Raises the interface's MTU if it is less than `mtu`. More is left as it is: others may need it.
pub(super) fn at_least(interface: &str, mtu: u16) -> io::Result<()> {
    let mut request = Request::new(interface)?;
    request.call(libc::SIOCGIFMTU)?;
    // SAFETY: the kernel filled in this member.
    if unsafe { request.ifreq.ifr_ifru.ifru_mtu } >= i32::from(mtu) {
        return Ok(());
    }
    request.ifreq.ifr_ifru.ifru_mtu = mtu.into();
    request.call(libc::SIOCSIFMTU)
}

/// True when the interface is up and has a carrier.
pub(super) fn running(interface: &str) -> io::Result<bool> {
    let mut request = Request::new(interface)?;
    request.call(libc::SIOCGIFFLAGS)?;
    // SAFETY: the kernel filled in this member.
    let flags = i32::from(unsafe { request.ifreq.ifr_ifru.ifru_flags });
    Ok(flags & libc::IFF_UP != 0 && flags & libc::IFF_RUNNING != 0)
}

/// A question about an interface (netdevice(7)), asked in the calling thread's network namespace.
struct Request {
    socket: OwnedFd,
    ifreq: libc::ifreq,
}

impl Request {
    fn new(interface: &str) -> io::Result<Self> {
        // SAFETY: makes a file descriptor that we own.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        // SAFETY: all zero is a valid request, with an empty name.
        let mut ifreq: libc::ifreq = unsafe { core::mem::zeroed() };
        if interface.len() >= ifreq.ifr_name.len() {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        for (to, from) in ifreq.ifr_name.iter_mut().zip(interface.bytes()) {
            *to = from as c_char;
        }
        Ok(Self { socket, ifreq })
    }

    fn call(&mut self, request: c_ulong) -> io::Result<()> {
        // SAFETY: an open socket; these requests read and write within the structure passed along.
        match unsafe { libc::ioctl(self.socket.as_raw_fd(), request as _, &raw mut self.ifreq) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
