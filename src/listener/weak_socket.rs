//! A listening socket that can be passed to another process while its listener serves.

use std::{
    fmt, io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Weak},
};

/// The socket of a listener, which it does not keep open.
///
/// A server exposes those of a listener as
/// [`ListenerHandle::sockets`](crate::server::ListenerHandle::sockets). A duplicate refers to the same accept queue,
/// also in another process that receives it over a Unix socket (`SCM_RIGHTS`, `unix(7)`). As long as one of them is
/// open, the port stays in use and clients stay in the queue.
#[derive(Clone)]
pub struct WeakSocket(Weak<dyn Shared>);

impl WeakSocket {
    pub(super) fn new<S: Shared>(socket: &Arc<S>) -> Self {
        let socket: Weak<S> = Arc::downgrade(socket);
        Self(socket)
    }

    /// Duplicates the file descriptor, with close-on-exec. `None` after the listener has closed.
    ///
    /// # Errors
    ///
    /// Those of `fcntl(2)` with `F_DUPFD_CLOEXEC`, such as too many open files.
    pub fn duplicate(&self) -> io::Result<Option<OwnedFd>> {
        let socket = self.0.upgrade();
        socket
            .map(|socket| socket.as_fd().try_clone_to_owned())
            .transpose()
    }

    /// Sets whether the file of a Unix socket stays when the listener closes, because another process uses it.
    ///
    /// By default a listener removes the file that it created or [took
    /// over](super::UnixListener::take_over). [`hand_over`](crate::server::ListenerHandle::hand_over) keeps it.
    pub fn keep_file(&self, keep: bool) {
        if let Some(socket) = self.0.upgrade() {
            socket.keep_file(keep);
        }
    }

    /// Sets the permission bits of the file of a Unix socket, as [`UnixOptions::with_mode`](super::UnixOptions::with_mode)
    /// does for a new one.
    ///
    /// A socket that was [taken over](super::UnixListener::take_over) has the mode that its holder before has set.
    /// Sockets without a file that belongs to the listener, and listeners that have closed, are left alone.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound) if the file has been removed,
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if another file has replaced it, and those of `chmod(2)`.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        let socket = self.0.upgrade();
        socket.map_or(Ok(()), |socket| socket.set_mode(mode))
    }
}

impl fmt::Debug for WeakSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.0.strong_count() > 0;
        f.debug_struct("WeakSocket")
            .field("open", &open)
            .finish_non_exhaustive()
    }
}

/// A socket that a listener shares with its [`WeakSocket`]s.
pub(super) trait Shared: AsFd + Send + Sync + 'static {
    fn keep_file(&self, _keep: bool) {}

    fn set_mode(&self, _mode: u32) -> io::Result<()> {
        Ok(())
    }
}

impl Shared for std::net::TcpListener {}
