//! A TAP device: the way between the uplink and the host's kernel.
//!
//! Used by one control thread, never by a worker: each frame is a system call.

use crate::PortError;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

/// Longest interface name with its final zero (IFNAMSIZ, linux/if.h).
const IFNAMSIZ: usize = 16;

/// `struct ifreq` of linux/if.h: a name and a union of 24 bytes.
#[repr(C)]
struct IfReq {
    name: [u8; IFNAMSIZ],
    data: [u8; 24],
}

impl IfReq {
    fn new(name: &str) -> Self {
        let mut n = [0; IFNAMSIZ];
        n[..name.len()].copy_from_slice(name.as_bytes());
        Self { name: n, data: [0; 24] }
    }

    fn set(mut self, at: usize, bytes: &[u8]) -> Self {
        self.data[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }
}

/// An open TAP; the device disappears when this is dropped.
#[derive(Debug)]
pub struct Tap {
    file: File,
    name: String,
}

impl Tap {
    /// Makes a TAP in this process's network namespace, gives it a MAC and an MTU (bytes, without the Ethernet header)
    /// and sets it up. Addresses and routes are the operator's.
    ///
    /// # Errors
    /// If the name is longer than 15 bytes or taken, or the process may not make devices (CAP_NET_ADMIN).
    pub fn open(name: &str, mac: [u8; 6], mtu: u16) -> Result<Self, PortError> {
        let fail = |what: &str, e: io::Error| PortError::Invalid {
            what: format!("tap '{name}'"),
            why: format!("{what}: {e}"),
        };
        if name.is_empty() || name.len() >= IFNAMSIZ {
            return Err(fail("its name must have 1 to 15 bytes", io::ErrorKind::InvalidInput.into()));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")
            .map_err(|e| fail("can't open /dev/net/tun (is the tun module loaded?)", e))?;
        // Frames as they are, without a header of the kernel's before each; a name in use is an error, not joined.
        let flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_TUN_EXCL) as u16;
        ioctl(&file, libc::TUNSETIFF as libc::c_ulong, IfReq::new(name).set(0, &flags.to_ne_bytes()))
            .map_err(|e| fail("can't make it (needs CAP_NET_ADMIN, and a name not in use)", e))?;
        let control = UdpSocket::bind("0.0.0.0:0").map_err(|e| fail("can't open a socket", e))?;
        let addr = IfReq::new(name).set(0, &libc::ARPHRD_ETHER.to_ne_bytes()).set(2, &mac);
        ioctl(&control, libc::SIOCSIFHWADDR as libc::c_ulong, addr)
            .map_err(|e| fail("can't set its MAC", e))?;
        let size = IfReq::new(name).set(0, &i32::from(mtu).to_ne_bytes());
        ioctl(&control, libc::SIOCSIFMTU as libc::c_ulong, size).map_err(|e| fail("can't set its MTU", e))?;
        let up = (libc::IFF_UP | libc::IFF_RUNNING) as u16;
        ioctl(&control, libc::SIOCSIFFLAGS as libc::c_ulong, IfReq::new(name).set(0, &up.to_ne_bytes()))
            .map_err(|e| fail("can't set it up", e))?;
        Ok(Self { file, name: name.to_owned() })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes one frame that the kernel sent. Never blocks.
    ///
    /// # Errors
    /// `WouldBlock` if there is none.
    pub fn read(&mut self, frame: &mut [u8]) -> io::Result<usize> {
        self.file.read(frame)
    }

    /// Gives one frame to the kernel. Never blocks.
    ///
    /// # Errors
    /// If the kernel does not take it.
    pub fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        self.file.write(frame)
    }
}

fn ioctl(fd: &impl AsRawFd, request: libc::c_ulong, mut arg: IfReq) -> io::Result<()> {
    // SAFETY: `arg` is a valid ifreq (40 bytes on 64-bit Linux) for every request used here, and outlives the call.
    match unsafe { libc::ioctl(fd.as_raw_fd(), request as _, &raw mut arg) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

const _: () = assert!(size_of::<IfReq>() == 40, "struct ifreq of 64-bit Linux");
