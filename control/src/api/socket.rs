//! The Unix socket's file: one weftd at a time, and none left behind.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why the socket could not be made.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Another weftd answers there.
    #[error("another weftd is running: {0} answers; stop it first, or give this one another daemon.socket")]
    InUse(PathBuf),
    /// Something that is no socket has the name.
    #[error("{0} exists and is no socket; remove it, or choose another daemon.socket")]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("cannot {action} {path}: {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

/// Removes the socket's file when dropped, provided that it is still the one we made.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Someone may have replaced it: a successor's socket is not ours to remove.
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

/// Listens at `path` with mode 0660, replacing a stale socket; the directory is made if it is missing.
pub(super) fn bind(path: &Path) -> Result<(UnixListener, SocketFile), SocketError> {
    let failed = |action| move |error| SocketError::Io { action, path: path.to_owned(), error };
    if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        fs::create_dir_all(directory).map_err(failed("make the directory of"))?;
    }
    remove_stale(path)?;
    let listener = UnixListener::bind(path).map_err(|error| match error.kind() {
        // Someone was faster between the look and the bind.
        io::ErrorKind::AddrInUse => SocketError::InUse(path.to_owned()),
        _ => failed("listen on")(error),
    })?;
    let file = SocketFile { path: path.to_owned(), identity: identity(path).map_err(failed("look at"))? };
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed("set the mode of"))?;
    listener.set_nonblocking(true).map_err(failed("listen on"))?;
    Ok((listener, file))
}

/// A weftd that was killed leaves its socket behind: nobody listens there, so that connecting is refused.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let failed = |action| move |error| SocketError::Io { action, path: path.to_owned(), error };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at")(error)),
        Ok(meta) if !meta.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed("remove the stale socket"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("probe")(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_socket_is_respected_and_a_stale_one_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/weftd.sock");
        let (listener, file) = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(matches!(bind(&path), Err(SocketError::InUse(_))));
        assert!(path.exists(), "the loser must not remove the winner's socket");

        // As after SIGKILL: the descriptor is gone, the file stays.
        drop(listener);
        std::mem::forget(file);
        assert!(path.exists());
        let (_listener, file) = bind(&path).unwrap();
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn other_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.txt");
        fs::write(&path, "keep").unwrap();
        assert!(matches!(bind(&path), Err(SocketError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "keep");
    }

    #[test]
    fn a_successors_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weftd.sock");
        let (_old, file) = bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let (_new, _new_file) = bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
    }
}
