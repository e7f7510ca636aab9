//! The file of a Unix socket: ours to remove, and nobody else's.

use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{self, Path, PathBuf},
};

/// A socket file that we made. Its drop removes the file, if it is still the same.
#[derive(Debug)]
pub(super) struct SocketFile {
    /// Absolute: the working directory may change.
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path::absolute(path)?,
            identity: identity(&fs::symlink_metadata(path)?),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Nobody is there to hear of a failure; the next bind finds a stale file and replaces it.
        drop(remove_if(&self.path, self.identity));
    }
}

/// Removes the socket file at `path` if nobody listens on it.
///
/// An error of kind `AddrInUse` when somebody does, `AlreadyExists` when it is not a socket,
/// `PermissionDenied` when we may not find out, or not remove it.
pub(super) fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A listener whose queue is full would hold a blocking connect.
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            remove_if(path, identity(&found))
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        // Also a socket of another type: somebody may use it.
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

fn remove_if(path: &Path, expected: (u64, u64)) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if identity(&found) == expected => fs::remove_file(path),
        // Gone, or somebody else's by now.
        _ => Ok(()),
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}
