//! Connections over Unix domain sockets.

mod file;
#[cfg(test)]
pub(super) mod tests;

use super::{
    Accepted, BindError, Listener,
    adopt::{self, take_over},
    bind_error::{FailedStep, OrFail},
    weak_socket::{Shared, WeakSocket},
};
use file::SocketFile;
use portcullis_middleware::connection::{Address, UnixAddress};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::net::UnixStream;

/// A listening Unix domain socket.
///
/// Like [`TcpListener`](super::TcpListener) it can be bound outside of a runtime; its first poll registers
/// it. Dropping the listener removes the file, unless another file has replaced it. Connecting clients
/// usually have an unnamed address.
///
/// # Panics
///
/// Accepting panics outside of a tokio runtime, and in a runtime without I/O.
#[derive(Debug)]
pub struct UnixListener {
    bound: Arc<Bound>,
    registered: Option<tokio::net::UnixListener>,
    local: Address,
}

/// A listening socket, and its file if that was created with it.
#[derive(Debug)]
struct Bound {
    /// Declared first, so that the file is removed before the socket closes and clients see either both or
    /// neither.
    file: Option<SocketFile>,
    /// Non-blocking; a duplicate of the registered socket.
    socket: std::os::unix::net::UnixListener,
}

impl Shared for Bound {
    fn keep_file(&self, keep: bool) {
        if let Some(file) = &self.file {
            file.keep(keep);
        }
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        let file = self.file.as_ref();
        file.map_or(Ok(()), |file| file.set_mode(mode))
    }
}

impl AsFd for Bound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl UnixListener {
    /// Listens on `path`, with the default options.
    ///
    /// # Errors
    ///
    /// As [`UnixOptions::bind`].
    pub fn bind(path: impl AsRef<Path>) -> Result<Self, BindError> {
        UnixOptions::new().bind(path)
    }

    /// Adopts a listening socket, whose file stays when the listener is dropped.
    ///
    /// Close-on-exec is set on it, as `sd_listen_fds(3)` does, so that child processes do not inherit it.
    ///
    /// # Errors
    ///
    /// [`BindError`] when the file descriptor is not a Unix socket, or when the socket
    /// [does not listen](BindError::is_not_listening).
    pub fn from_std(socket: std::os::unix::net::UnixListener) -> Result<Self, BindError> {
        Self::adopt(socket, false)
    }

    /// Adopts a listening socket that [another process handed
    /// over](crate::server::ListenerHandle::hand_over). Its file is removed when the listener is dropped, as if it had
    /// been bound by this process.
    ///
    /// A file that is missing or that is no socket is left alone.
    ///
    /// # Errors
    ///
    /// As [`from_std`](Self::from_std).
    pub fn take_over(socket: std::os::unix::net::UnixListener) -> Result<Self, BindError> {
        Self::adopt(socket, true)
    }

    fn adopt(socket: std::os::unix::net::UnixListener, owns_file: bool) -> Result<Self, BindError> {
        let local = socket.local_addr().or_fail("local_address");
        let local = address(local.map_err(|failed| {
            let advice = "the file descriptor must be a Unix socket that listens";
            failed.at("an inherited socket", advice)
        })?);
        let taken_over = take_over(&SockRef::from(&socket));
        taken_over.map_err(|failed| explain(failed, &local))?;
        let file = match &local {
            Address::Unix(address) if owns_file => address.as_pathname().and_then(SocketFile::find),
            _ => None,
        };
        Ok(Self::new(socket, file, local))
    }

    fn new(
        socket: std::os::unix::net::UnixListener,
        file: Option<SocketFile>,
        local: Address,
    ) -> Self {
        Self {
            bound: Arc::new(Bound { file, socket }),
            registered: None,
            local,
        }
    }

    /// Returns the bound path; `None` for an inherited socket without a path.
    pub fn path(&self) -> Option<&Path> {
        match &self.local {
            Address::Unix(address) => address.as_pathname(),
            _ => None,
        }
    }
}

impl Listener for UnixListener {
    type Io = UnixStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted<UnixStream>>> {
        let listener = match &self.registered {
            Some(listener) => listener,
            // A duplicate, so that the socket survives a failed registration.
            None => {
                let listener = tokio::net::UnixListener::from_std(self.bound.socket.try_clone()?)?;
                self.registered.insert(listener)
            }
        };
        let (stream, peer) = ready!(listener.poll_accept(cx))?;
        Poll::Ready(Ok(Accepted::new(stream, peer)))
    }

    fn local_address(&self) -> Address {
        self.local.clone()
    }

    fn socket(&self) -> Option<WeakSocket> {
        Some(WeakSocket::new(&self.bound))
    }

    fn is_ready(&self) -> io::Result<bool> {
        super::connection_waits(self)
    }

    fn accept_now(&mut self) -> io::Result<Option<Accepted<UnixStream>>> {
        let (stream, peer) = match self.bound.socket.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        stream.set_nonblocking(true)?;
        Ok(Some(Accepted::new(
            UnixStream::from_std(stream)?,
            address(peer),
        )))
    }

    /// Returns the listener's path without a system call.
    fn connection_local_address(&self, _: &UnixStream) -> Address {
        self.local.clone()
    }
}

impl AsFd for UnixListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bound.as_fd()
    }
}

impl AsRawFd for UnixListener {
    fn as_raw_fd(&self) -> RawFd {
        self.bound.socket.as_raw_fd()
    }
}

/// Options of a [`UnixListener`].
///
/// Addresses without a file (Linux's abstract ones) are not supported, because every user of the machine may
/// connect to them.
///
/// ```
/// use portcullis::listener::UnixOptions;
///
/// # let path = std::env::temp_dir().join(format!("portcullis-doc-{}", std::process::id()));
/// let listener = UnixOptions::new().with_mode(0o660).bind(&path)?;
/// assert!(path.exists());
///
/// drop(listener);
/// assert!(!path.exists());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct UnixOptions {
    mode: u32,
    backlog: u32,
}

impl UnixOptions {
    /// Uses the default of each option.
    pub const fn new() -> Self {
        Self {
            mode: 0o600,
            backlog: 1024,
        }
    }

    /// Sets the permission bits of the file; `0o600`, the same user, by default.
    ///
    /// `0o660` also admits the group, for example a reverse proxy. The umask is ignored, and the mode is set
    /// before a client can connect. Connecting takes write permission on Linux (`unix(7)`). Some older
    /// systems ignore the bits of the file and check only the directory.
    ///
    /// Linux creates the file with this mode less the umask. Bits that the umask removed are added
    /// afterwards, through `/proc` and to a socket only. If a symbolic link or another file has replaced it,
    /// [`bind`](Self::bind) fails and that file keeps its mode. Elsewhere the mode is set by path after the
    /// file is created, without following links, so a file swapped in at that moment would get it. Create the
    /// socket in a directory that only trusted users can write to.
    pub const fn with_mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    /// Sets how many connections may wait to be accepted; 1024 by default.
    ///
    /// Clients beyond it wait or fail, depending on their socket. Systems cap it as with
    /// [TCP](super::TcpOptions::with_backlog).
    pub const fn with_backlog(self, backlog: u32) -> Self {
        Self { backlog, ..self }
    }

    /// See [`with_mode`](Self::with_mode).
    pub const fn mode(&self) -> u32 {
        self.mode
    }

    /// See [`with_backlog`](Self::with_backlog).
    pub const fn backlog(&self) -> u32 {
        self.backlog
    }

    /// Listens on `path`.
    ///
    /// A stale socket file, left by a killed server, is replaced. To detect one, this connects to the file; a
    /// running server sees a connection that ends immediately. Other files are left as they are. Two servers
    /// that start concurrently on the same stale file may replace each other's file, so start them one after
    /// the other.
    ///
    /// # Errors
    ///
    /// [`BindError`] when a process listens there ([`AddrInUse`](io::ErrorKind::AddrInUse)), when the file is
    /// not a socket ([`AlreadyExists`](io::ErrorKind::AlreadyExists)), when the path is too long for a socket
    /// (about 100 bytes), or when the system rejects the file.
    pub fn bind(&self, path: impl AsRef<Path>) -> Result<UnixListener, BindError> {
        let path = path.as_ref();
        let local = Address::Unix(UnixAddress::new(path));
        match self.bind_file(path) {
            Ok((socket, file)) => Ok(UnixListener::new(socket.into(), Some(file), local)),
            Err(failed) => Err(explain(failed, &local)),
        }
    }

    fn bind_file(&self, path: &Path) -> Result<(Socket, SocketFile), FailedStep> {
        let address = socket_address(path).or_fail("path")?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).or_fail("socket")?;
        socket.set_nonblocking(true).or_fail("nonblocking")?;
        file::limit_mode(&socket, self.mode);
        let mut bound = socket.bind(&address);
        if matches!(&bound, Err(error) if error.kind() == io::ErrorKind::AddrInUse) {
            file::remove_stale(path, &address).or_fail("bind")?;
            bound = socket.bind(&address);
        }
        bound.or_fail("bind")?;
        // Done before listening, while clients cannot connect yet.
        let file = SocketFile::new(path, self.mode)?;
        let backlog = i32::try_from(self.backlog).unwrap_or(i32::MAX);
        socket.listen(backlog).or_fail("listen")?;
        Ok((socket, file))
    }
}

impl Default for UnixOptions {
    fn default() -> Self {
        Self::new()
    }
}

fn socket_address(path: &Path) -> io::Result<SockAddr> {
    // Linux treats an empty path as a request for an abstract name, and a leading zero as such a name.
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() || bytes.contains(&0) {
        let invalid = "the path is empty or contains a zero byte";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, invalid));
    }
    SockAddr::unix(path)
}

fn address(address: std::os::unix::net::SocketAddr) -> Address {
    tokio::net::unix::SocketAddr::from(address).into()
}

fn explain(failed: FailedStep, address: &Address) -> BindError {
    let advice = advice(failed.step(), failed.kind());
    failed.at(address, advice)
}

fn advice(step: &str, kind: io::ErrorKind) -> &'static str {
    match (step, kind) {
        ("adopt", _) => adopt::ADVICE,
        ("mode", _) => {
            "a mode that the umask does not permit takes a mounted /proc on Linux; \
             mount it, or change the umask"
        }
        ("path", _) => "choose a path of less than about 100 bytes",
        ("bind", io::ErrorKind::AddrInUse) => {
            "another program listens there; stop it, or choose another path"
        }
        ("bind", io::ErrorKind::AlreadyExists) => {
            "a file that is not a socket has this name; remove it, or choose another path"
        }
        ("bind", io::ErrorKind::NotFound) => "create the directory first",
        ("bind", io::ErrorKind::PermissionDenied) => {
            "the program needs the right to write in the directory, \
             and to connect to a socket that is there"
        }
        _ => "",
    }
}
