//! Connections over TCP.

mod bind;
mod keepalive;
mod options;
#[cfg(test)]
mod tests;
mod user_timeout;

pub(crate) use self::user_timeout::UserTimeout;
pub use self::{keepalive::Keepalive, options::TcpOptions};

#[cfg(unix)]
use super::WeakSocket;
use super::{Accepted, BindError, Listener};
use portcullis_middleware::connection::{Address, Transport};
use socket2::SockRef;
use std::{
    fmt, io,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::net::TcpStream;

/// A listening TCP socket.
///
/// It can be bound outside of a runtime and moved between threads. Its first poll registers it with the
/// current runtime, where it stays. `TCP_NODELAY` and keepalive are on by default; see [`TcpOptions`].
///
/// On Linux and Android an accepted connection inherits its options from the listening socket (`tcp(7)`),
/// without extra system calls. Elsewhere they are set on each connection. A connection that has already ended
/// may reject them; this is ignored, because its service notices the end anyway.
///
/// It holds two file descriptors, one for the runtime and one with which [`Listener::accept_now`] asks the
/// kernel.
///
/// # Panics
///
/// Accepting panics outside of a tokio runtime, and in a runtime without I/O.
#[derive(Debug)]
pub struct TcpListener {
    /// Non-blocking; a duplicate of the registered socket.
    socket: Arc<std::net::TcpListener>,
    registered: Option<tokio::net::TcpListener>,
    local: SocketAddr,
    options: TcpOptions,
}

impl TcpListener {
    /// Listens on the first address that can be bound, with the default options.
    ///
    /// # Errors
    ///
    /// As [`TcpOptions::bind`].
    pub fn bind(address: impl ToSocketAddrs + fmt::Debug) -> Result<Self, BindError> {
        TcpOptions::new().bind(address)
    }

    /// Adopts a listening socket, with the default options; see [`TcpOptions::adopt`].
    ///
    /// # Errors
    ///
    /// As [`TcpOptions::adopt`].
    pub fn from_std(listener: std::net::TcpListener) -> Result<Self, BindError> {
        TcpOptions::new().adopt(listener)
    }

    /// Returns the bound address; port 0 is replaced by the port that the system chose.
    ///
    /// # Errors
    ///
    /// Always `Ok`, because the address was read when the socket was bound. The signature follows tokio.
    pub const fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    /// Returns the options that it was bound or adopted with.
    ///
    /// For an adopted socket, `reuse_port` and `only_v6` are read from the socket.
    pub const fn options(&self) -> &TcpOptions {
        &self.options
    }

    fn set_stream_options(&self, stream: SockRef<'_>) {
        if !STREAMS_INHERIT_OPTIONS {
            let _ended_already = self.options.set_stream_options(&stream);
        }
    }
}

impl Listener for TcpListener {
    type Io = TcpStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted<TcpStream>>> {
        let listener = match &self.registered {
            Some(listener) => listener,
            // A duplicate, so that the socket survives a failed registration.
            None => {
                let listener = tokio::net::TcpListener::from_std(self.socket.try_clone()?)?;
                self.registered.insert(listener)
            }
        };
        let (stream, peer) = ready!(listener.poll_accept(cx)).map_err(accept_error)?;
        self.set_stream_options(SockRef::from(&stream));
        Poll::Ready(Ok(Accepted::new(stream, peer)))
    }

    fn local_address(&self) -> Address {
        self.local.into()
    }

    #[cfg(unix)]
    fn socket(&self) -> Option<WeakSocket> {
        Some(WeakSocket::new(&self.socket))
    }

    #[cfg(unix)]
    fn is_ready(&self) -> io::Result<bool> {
        super::connection_waits(self)
    }

    fn accept_now(&mut self) -> io::Result<Option<Accepted<TcpStream>>> {
        let (stream, peer) = match self.socket.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(accept_error(error)),
        };
        stream.set_nonblocking(true)?;
        self.set_stream_options(SockRef::from(&stream));
        Ok(Some(Accepted::new(TcpStream::from_std(stream)?, peer)))
    }

    /// Makes a system call only if the listener is bound to a wildcard address.
    fn connection_local_address(&self, io: &TcpStream) -> Address {
        if self.local.ip().is_unspecified() {
            io.local_address()
        } else {
            self.local.into()
        }
    }

    /// Binds another socket to the same address, with the same options.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) without [`TcpOptions::with_reuse_port`]; else as
    /// [`TcpOptions::bind`].
    fn shard(&self) -> io::Result<Self> {
        if !self.options.reuse_port() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!(
                    "cannot shard the listener on {}: bind with reuse_port (TcpOptions::with_reuse_port)",
                    self.local
                ),
            ));
        }
        Ok(self.options.bind(self.local)?)
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for TcpListener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(unix)]
impl std::os::fd::AsRawFd for TcpListener {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

#[cfg(windows)]
impl std::os::windows::io::AsSocket for TcpListener {
    fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
        self.socket.as_socket()
    }
}

#[cfg(windows)]
impl std::os::windows::io::AsRawSocket for TcpListener {
    fn as_raw_socket(&self) -> std::os::windows::io::RawSocket {
        self.socket.as_raw_socket()
    }
}

/// Distinguishes a connection that was already reset from a broken listener.
///
/// On macOS, accepting on an IPv6 listener returns an empty peer address if the client has already reset the
/// connection. The standard library reports this as an invalid input without an error number.
fn accept_error(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::InvalidInput && error.raw_os_error().is_none() {
        return io::ErrorKind::ConnectionAborted.into();
    }
    error
}

/// Other systems inherit some of the options, but do not document which.
const STREAMS_INHERIT_OPTIONS: bool = cfg!(any(target_os = "android", target_os = "linux"));
