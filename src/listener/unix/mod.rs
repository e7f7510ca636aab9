//! Connections over Unix domain sockets.

mod file;
#[cfg(test)]
pub(super) mod tests;

use super::{
    Accepted, BindError, Listener,
    adopt::{self, take_over},
    bind_error::{Failed, OrFail},
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
    task::{Context, Poll, ready},
};
use tokio::net::UnixStream;

/// A listening Unix domain socket.
///
/// Like [`TcpListener`](super::TcpListener) it can be bound outside of a runtime; its first poll
/// registers it. The file goes when the listener is dropped, unless another one has taken
/// its place meanwhile. Connecting clients have no address of their own as a rule.
///
/// # Panics
///
/// Accepting panics outside of a tokio runtime, and in one without IO.
#[derive(Debug)]
pub struct UnixListener {
    /// First: the file goes before the socket closes, so that clients see either both or none.
    _file: Option<SocketFile>,
    /// Non-blocking, and the same socket as the registered one.
    socket: std::os::unix::net::UnixListener,
    registered: Option<tokio::net::UnixListener>,
    local: Address,
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

    /// Takes over a listening socket, whose file stays when the listener is dropped.
    ///
    /// Close-on-exec is set on it, as `sd_listen_fds(3)` does: child processes do not inherit it.
    ///
    /// # Errors
    ///
    /// [`BindError`] when the file descriptor is not a Unix socket, or when the socket
    /// [does not listen](BindError::is_not_listening).
    pub fn from_std(socket: std::os::unix::net::UnixListener) -> Result<Self, BindError> {
        let local = socket.local_addr().or_fail("local_address");
        let local = address(local.map_err(|failed| {
            let advice = "the descriptor must be a Unix socket that listens";
            failed.at("an inherited socket", advice)
        })?);
        let taken_over = take_over(&SockRef::from(&socket));
        taken_over.map_err(|failed| explain(failed, &local))?;
        Ok(Self {
            _file: None,
            socket,
            registered: None,
            local,
        })
    }

    /// The path that it is bound to; `None` for an inherited socket without one.
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
            // A clone, so that the socket outlives a registration that fails.
            None => {
                let listener = tokio::net::UnixListener::from_std(self.socket.try_clone()?)?;
                self.registered.insert(listener)
            }
        };
        let (stream, peer) = ready!(listener.poll_accept(cx))?;
        Poll::Ready(Ok(Accepted::new(stream, peer)))
    }

    fn local_address(&self) -> Address {
        self.local.clone()
    }

    fn is_ready(&self) -> io::Result<bool> {
        super::connection_waits(self)
    }

    fn accept_now(&mut self) -> io::Result<Option<Accepted<UnixStream>>> {
        let (stream, peer) = match self.socket.accept() {
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

    /// Free of system calls: the path of the listener.
    fn connection_local_address(&self, _: &UnixStream) -> Address {
        self.local.clone()
    }
}

impl AsFd for UnixListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for UnixListener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Options of a [`UnixListener`].
///
/// Addresses without a file (the abstract ones of Linux) are not offered: every user of the machine
/// may connect to them.
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
    /// The defaults, as each method names them.
    pub const fn new() -> Self {
        Self {
            mode: 0o600,
            backlog: 1024,
        }
    }

    /// Who may connect, as the permission bits of the file; `0o600` by default: the same user.
    ///
    /// `0o660` lets the group in, a proxy in front for example. The umask has no part in it, and the
    /// mode is set before anybody can connect. To connect takes the right to write on Linux
    /// (`unix(7)`); some older systems do not look at the bits, and there the directory's count.
    ///
    /// On Linux the file is created with this mode less the umask, and bits that the umask has removed
    /// are added afterwards, through `/proc` and to a socket only: if a symbolic link or another file has
    /// taken its place, [`bind`](Self::bind) fails and that file keeps its mode. Elsewhere the mode is set
    /// by path once the file is there, without following links; a file that is swapped in at that very
    /// moment gets it. So create the socket in a directory in which only trusted users may write.
    pub const fn with_mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    /// How many connections may wait for accept; 1024 by default.
    ///
    /// Clients beyond it wait or fail, as they chose. Systems cut it as they do with
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
    /// A socket file without a listener, left by a server that was killed, is replaced. To find
    /// that out it connects; a server that is there sees a connection that ends at once. Any other
    /// file is left alone. Two servers that start on the same stale file in the same instant may
    /// replace each other's; start them one by one.
    ///
    /// # Errors
    ///
    /// [`BindError`] when a process listens there ([`AddrInUse`](io::ErrorKind::AddrInUse)), when the
    /// file is not a socket ([`AlreadyExists`](io::ErrorKind::AlreadyExists)), when the path is too
    /// long for a socket (about 100 bytes), or when the system refuses the file.
    pub fn bind(&self, path: impl AsRef<Path>) -> Result<UnixListener, BindError> {
        let path = path.as_ref();
        let local = Address::Unix(UnixAddress::new(path));
        match self.bind_file(path) {
            Ok((socket, file)) => Ok(UnixListener {
                _file: Some(file),
                socket: socket.into(),
                registered: None,
                local,
            }),
            Err(failed) => Err(explain(failed, &local)),
        }
    }

    fn bind_file(&self, path: &Path) -> Result<(Socket, SocketFile), Failed> {
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
        // Before listening: until then nobody can connect.
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
    // Linux takes an empty path for "choose an abstract name", and a leading zero for such a name.
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

fn explain(failed: Failed, address: &Address) -> BindError {
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
        ("path", _) => "choose a path of less than 100 bytes or so",
        ("bind", io::ErrorKind::AddrInUse) => {
            "another program listens there; end it, or choose another path"
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
