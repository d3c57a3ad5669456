//! Makes way for a server's socket: a crashed process leaves its file behind, and bind(2) then fails.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::error::PortError;

/// Longest path of a Unix socket in bytes, the terminating zero not counted (unix(7)).
const MAX_PATH: usize = 107;

fn error(path: &Path, why: impl Into<String>) -> PortError {
    PortError::Socket { path: path.to_owned(), why: why.into() }
}

/// Checks what can be checked in either mode.
pub(super) fn check_path(path: &Path) -> Result<(), PortError> {
    if path.as_os_str().is_empty() {
        return Err(error(path, "the path is empty"));
    }
    let len = path.as_os_str().as_bytes().len();
    if len > MAX_PATH {
        return Err(error(
            path,
            format!("the path has {len} bytes, a Unix socket's can have {MAX_PATH}: use a shorter one"),
        ));
    }
    Ok(())
}

/// Removes the socket file that nobody listens on; an error if somebody does, or if it is not a socket.
pub(super) fn make_way(path: &Path) -> Result<(), PortError> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    if !dir.is_dir() {
        return Err(error(path, format!("its folder {} does not exist: create it", dir.display())));
    }
    let kind = match path.symlink_metadata() {
        Ok(metadata) => metadata.file_type(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(error(path, format!("cannot look at it: {e}"))),
    };
    if !kind.is_socket() {
        return Err(error(path, "something that is not a socket is there: remove it, or use another path"));
    }
    match probe(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)
            .map_err(|e| error(path, format!("cannot remove the stale socket: {e}"))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        // A full backlog is a sign of life.
        Ok(()) => Err(in_use(path)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(in_use(path)),
        Err(e) => Err(error(path, format!("cannot tell whether it is in use: {e}"))),
    }
}

fn in_use(path: &Path) -> PortError {
    error(path, "another process listens on it: stop that one (fuser shows it), or use another path")
}

/// Connects without waiting; std's connect would block on a full backlog.
fn probe(path: &Path) -> io::Result<()> {
    // SAFETY: makes a file descriptor that we own.
    let fd = unsafe {
        let fd = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    // SAFETY: all zero is a valid address of this kind, with an empty path.
    let mut address: libc::sockaddr_un = unsafe { core::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (to, from) in address.sun_path.iter_mut().take(MAX_PATH).zip(path.as_os_str().as_bytes()) {
        *to = *from as libc::c_char;
    }
    // SAFETY: an open socket and an address of the size told.
    let ret = unsafe {
        libc::connect(
            fd.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_un>() as libc::socklen_t,
        )
    };
    if ret == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("weft-port-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("folder");
        dir
    }

    #[test]
    fn stale_live_missing_and_foreign() {
        let dir = folder("socket");
        let path = dir.join("s");
        make_way(&path).expect("nothing is there");

        let live = UnixListener::bind(&path).expect("bind");
        let message = make_way(&path).expect_err("live").to_string();
        assert!(message.contains("listens") && message.contains("/s"), "{message}");
        assert!(path.exists(), "a live socket stays");

        drop(live);
        assert!(path.exists(), "a listener leaves its file");
        make_way(&path).expect("stale");
        assert!(!path.exists(), "a stale socket is removed");

        std::fs::write(&path, "x").expect("write");
        assert!(make_way(&path).expect_err("file").to_string().contains("not a socket"));
        assert!(path.exists(), "what is not ours stays");

        assert!(make_way(&dir.join("no/s")).expect_err("folder").to_string().contains("create it"));
        std::fs::remove_dir_all(&dir).expect("clean");
    }

    #[test]
    fn paths_have_a_length() {
        check_path(Path::new(&"x".repeat(107))).expect("fits");
        assert!(check_path(Path::new(&"x".repeat(108))).expect_err("long").to_string().contains("107"));
        check_path(Path::new("")).expect_err("empty");
    }
}
