//! The file of a Unix socket, which is removed with its listener.

use crate::listener::bind_error::{FailedStep, OrFail};
use rustix::fs::{Mode, RawMode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{self, Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

/// A socket file that this process created. Dropping it removes the file if it is unchanged.
#[derive(Debug)]
pub(super) struct SocketFile {
    /// Absolute, because the working directory may change.
    path: PathBuf,
    identity: (u64, u64),
    /// Whether another process owns the file now.
    is_kept: AtomicBool,
}

impl SocketFile {
    /// Records the file that `bind` created at `path`, and sets its `mode`.
    ///
    /// A file that is not a socket is left as it is.
    pub(super) fn new(path: &Path, mode: u32) -> Result<Self, FailedStep> {
        let absolute = path::absolute(path).or_fail("bind")?;
        let made = Made::find(path).or_fail("bind")?;
        let file = Self {
            path: absolute,
            identity: identity(&made.metadata),
            is_kept: AtomicBool::new(false),
        };
        // The umask may have removed bits.
        made.change_mode(mode).or_fail("mode")?;
        Ok(file)
    }

    /// The file of a socket that another process bound. `None` if there is none any more.
    pub(super) fn find(path: &Path) -> Option<Self> {
        let metadata = of_socket(fs::symlink_metadata(path).ok()?).ok()?;
        Some(Self {
            path: path::absolute(path).ok()?,
            identity: identity(&metadata),
            is_kept: AtomicBool::new(false),
        })
    }

    /// Sets the mode, unless another file has replaced this one.
    pub(super) fn set_mode(&self, mode: u32) -> io::Result<()> {
        let found = Made::find(&self.path)?;
        if identity(&found.metadata) != self.identity {
            return Err(is_replaced());
        }
        found.change_mode(mode)
    }

    /// Sets whether the file stays when this is dropped.
    pub(super) fn keep(&self, keep: bool) {
        self.is_kept.store(keep, Ordering::Relaxed);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if !self.is_kept.load(Ordering::Relaxed) {
            // Failures are ignored, because the next bind replaces a stale file.
            drop(remove_if(&self.path, self.identity));
        }
    }
}

/// Sets the mode with which the file of `socket` is created, so that it is never more permissive.
///
/// This works on Linux. Other systems reject it, and the mode is set after the file is created.
pub(super) fn limit_mode(socket: &Socket, mode: u32) {
    let _refused_elsewhere = fchmod(socket, Mode::from_raw_mode(mode as RawMode));
}

/// A socket file, found by its path.
struct Made {
    metadata: Metadata,
    /// Refers to this file even if the path changes.
    #[cfg(any(target_os = "android", target_os = "linux"))]
    handle: fs::File,
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    path: PathBuf,
}

impl Made {
    /// Sets the mode, if it is another one.
    fn change_mode(&self, mode: u32) -> io::Result<()> {
        match (self.metadata.mode() ^ mode) & PERMISSIONS {
            0 => Ok(()),
            _ => self.set_mode(mode),
        }
    }
}

#[cfg(any(target_os = "android", target_os = "linux"))]
impl Made {
    fn find(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let mut options = fs::OpenOptions::new();
        let handle = options.read(true).custom_flags(flags).open(path)?;
        let metadata = of_socket(handle.metadata()?)?;
        Ok(Self { metadata, handle })
    }

    /// As in glibc's `fchmodat`, because `fchmod` rejects such handles.
    fn set_mode(&self, mode: u32) -> io::Result<()> {
        use std::os::{fd::AsRawFd, unix::fs::PermissionsExt};
        let path = format!("/proc/self/fd/{}", self.handle.as_raw_fd());
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }
}

#[cfg(not(any(target_os = "android", target_os = "linux")))]
impl Made {
    fn find(path: &Path) -> io::Result<Self> {
        let metadata = of_socket(fs::symlink_metadata(path)?)?;
        let path = path.to_owned();
        Ok(Self { metadata, path })
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        use rustix::fs::{AtFlags, CWD, chmodat};
        let mode = Mode::from_raw_mode(mode as RawMode);
        Ok(chmodat(CWD, &self.path, mode, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

fn of_socket(metadata: Metadata) -> io::Result<Metadata> {
    if metadata.file_type().is_socket() {
        return Ok(metadata);
    }
    Err(is_replaced())
}

fn is_replaced() -> io::Error {
    let replaced = "another file has replaced the socket";
    io::Error::new(io::ErrorKind::AlreadyExists, replaced)
}

/// Removes the socket file at `path` if it is stale, that is, without a listening process.
///
/// Fails with `AddrInUse` if a process listens, `AlreadyExists` if it is not a socket, and `PermissionDenied`
/// if checking or removing it is not permitted.
pub(super) fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A blocking connect would wait for a listener whose queue is full.
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            remove_if(path, identity(&found))
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        // Includes sockets of another type, which may be in use.
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

fn remove_if(path: &Path, expected: (u64, u64)) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if identity(&found) == expected => fs::remove_file(path),
        // Removed or replaced meanwhile.
        _ => Ok(()),
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Permission bits, set-id bits and the sticky bit.
const PERMISSIONS: u32 = 0o7777;
