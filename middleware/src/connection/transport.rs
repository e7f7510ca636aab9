//! The requirements of a raw stream: bytes, addresses, and a reset.

use super::{Address, AnyStream};
use crate::{
    departure,
    io::{Passthrough, Pipe},
};
use socket2::SockRef;
use std::{
    io,
    mem::MaybeUninit,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream},
    net::TcpStream,
};

/// A raw stream from a listener.
///
/// Implemented for TCP, Unix and in-memory streams and for [`AnyStream`](super::AnyStream). Wrappers around a
/// raw stream only need `AsyncRead` and `AsyncWrite`.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The peer's address; [`Address::Unknown`] if the system cannot provide it (any more).
    ///
    /// Costs a system call on sockets. Listeners already have it from accept.
    fn peer_address(&self) -> Address {
        Address::Unknown
    }

    /// The local address; [`Address::Unknown`] if the system cannot provide it.
    ///
    /// Costs a system call on sockets.
    fn local_address(&self) -> Address {
        Address::Unknown
    }

    /// The number of the file descriptor or socket; `None` if there is none.
    ///
    /// It matches a stream with its [`ConnectionContext`](super::ConnectionContext) and costs no system call.
    /// A wrapper returns the file descriptor of the stream inside.
    fn descriptor(&self) -> Option<u64> {
        None
    }

    /// The stream as a socket of the kernel; `None` if it is not exactly that.
    ///
    /// A forwarder then moves bytes to another socket without copying them; see
    /// [`Passthrough`](crate::io::Passthrough).
    fn kernel_socket(&self) -> Option<KernelSocket<'_>> {
        None
    }

    /// Makes the drop of the stream send a reset, on transports that have one.
    ///
    /// # Errors
    ///
    /// The system's error.
    fn reset_on_drop(&self) -> io::Result<()> {
        Ok(())
    }

    /// Disables (`true`) or enables (`false`) Nagle's algorithm, which delays small writes.
    ///
    /// # Errors
    ///
    /// The system's error.
    fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        let _ = nodelay;
        Ok(())
    }

    /// Registers the stream with the current runtime, if that matters to it.
    ///
    /// A stream belongs to the runtime that accepted it. A server that moves connections to other runtimes
    /// calls this in the serving one. It costs two system calls on sockets.
    ///
    /// # Errors
    ///
    /// The system's error; the stream is then lost.
    fn rehome(self) -> io::Result<Self>
    where
        Self: Sized,
    {
        Ok(self)
    }
}

/// A stream that is a socket of the kernel; see [`Transport::kernel_socket`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum KernelSocket<'a> {
    /// A TCP socket.
    Tcp(&'a TcpStream),
    /// A Unix domain socket.
    #[cfg(unix)]
    Unix(&'a tokio::net::UnixStream),
}

impl KernelSocket<'_> {
    /// Whether the receive buffer contains bytes.
    pub(crate) fn has_unread(self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let peeked = match self {
            Self::Tcp(socket) => SockRef::from(socket).peek(&mut byte),
            #[cfg(unix)]
            Self::Unix(socket) => SockRef::from(socket).peek(&mut byte),
        };
        matches!(peeked, Ok(1..))
    }
}

impl Transport for TcpStream {
    fn kernel_socket(&self) -> Option<KernelSocket<'_>> {
        Some(KernelSocket::Tcp(self))
    }

    fn peer_address(&self) -> Address {
        self.peer_addr().map_or(Address::Unknown, Address::Ip)
    }

    fn local_address(&self) -> Address {
        self.local_addr().map_or(Address::Unknown, Address::Ip)
    }

    #[cfg(unix)]
    fn descriptor(&self) -> Option<u64> {
        u64::try_from(std::os::fd::AsRawFd::as_raw_fd(self)).ok()
    }

    #[cfg(windows)]
    fn descriptor(&self) -> Option<u64> {
        Some(std::os::windows::io::AsRawSocket::as_raw_socket(self))
    }

    fn reset_on_drop(&self) -> io::Result<()> {
        // SO_LINGER with a time of zero (ABORT in RFC 9293, 3.10.5). It never blocks.
        self.set_zero_linger()
    }

    fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        Self::set_nodelay(self, nodelay)
    }

    fn rehome(self) -> io::Result<Self> {
        Self::from_std(self.into_std()?)
    }
}

#[cfg(unix)]
impl Transport for tokio::net::UnixStream {
    fn kernel_socket(&self) -> Option<KernelSocket<'_>> {
        Some(KernelSocket::Unix(self))
    }

    fn peer_address(&self) -> Address {
        self.peer_addr().map_or(Address::Unknown, Into::into)
    }

    fn local_address(&self) -> Address {
        self.local_addr().map_or(Address::Unknown, Into::into)
    }

    fn descriptor(&self) -> Option<u64> {
        u64::try_from(std::os::fd::AsRawFd::as_raw_fd(self)).ok()
    }

    fn rehome(self) -> io::Result<Self> {
        Self::from_std(self.into_std()?)
    }
}

impl Transport for DuplexStream {}

/// [`Passthrough`] of raw streams; that of [`Socket`](super::Socket) also counts.
macro_rules! passthrough {
    ($($(#[$attribute:meta])* $stream:ty),*) => {$(
        $(#[$attribute])*
        impl Passthrough for $stream {
            fn is_passthrough(&self) -> bool {
                self.kernel_socket().is_some()
            }

            fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
                departure::poll_raw(self, cx)
            }

            fn has_unread(&self) -> bool {
                self.kernel_socket().is_some_and(KernelSocket::has_unread)
            }

            fn poll_read_to_pipe(
                &mut self,
                cx: &mut Context<'_>,
                pipe: &mut Pipe,
            ) -> Poll<io::Result<usize>> {
                match self.kernel_socket() {
                    Some(socket) => socket.poll_read_to_pipe(cx, pipe),
                    None => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
                }
            }

            fn poll_write_from_pipe(
                &mut self,
                cx: &mut Context<'_>,
                pipe: &mut Pipe,
            ) -> Poll<io::Result<usize>> {
                match self.kernel_socket() {
                    Some(socket) => socket.poll_write_from_pipe(cx, pipe),
                    None => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
                }
            }

            fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.kernel_socket() {
                    Some(socket) => socket.poll_sent(cx),
                    None => Poll::Ready(Ok(())),
                }
            }
        }
    )*};
}

passthrough!(
    TcpStream,
    AnyStream,
    #[cfg(unix)]
    tokio::net::UnixStream
);
