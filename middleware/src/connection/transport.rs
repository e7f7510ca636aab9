//! What portcullis asks of a bare stream: bytes, addresses, and a hard close.

use super::Address;
use std::io;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream},
    net::TcpStream,
};

/// A bare stream as a listener yields it.
///
/// Implemented for TCP, Unix and in-memory streams and for [`AnyStream`](super::AnyStream). Only
/// bare streams need it: what wraps them needs nothing but `AsyncRead` and `AsyncWrite`.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Address of the other end; [`Address::Unknown`] where the system does not tell (any more).
    ///
    /// Costs a system call on sockets. A listener knows it already from accept.
    fn peer_address(&self) -> Address {
        Address::Unknown
    }

    /// Address of our end; [`Address::Unknown`] where the system does not tell.
    ///
    /// Costs a system call on sockets.
    fn local_address(&self) -> Address {
        Address::Unknown
    }

    /// Number of the descriptor or socket by which the system knows the stream; `None` where there is none.
    ///
    /// It matches a stream with its [`ConnectionContext`](super::ConnectionContext) and costs no system call.
    /// A wrapper returns the descriptor of the stream inside.
    fn descriptor(&self) -> Option<u64> {
        None
    }

    /// Makes the drop of the stream a reset instead of an orderly close, where there is such a
    /// thing.
    ///
    /// # Errors
    ///
    /// The system's, when it refuses.
    fn reset_on_drop(&self) -> io::Result<()> {
        Ok(())
    }

    /// Sends small writes at once (`true`) or lets the system gather them (`false`).
    ///
    /// # Errors
    ///
    /// The system's, when it refuses.
    fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        let _ = nodelay;
        Ok(())
    }

    /// Registers the stream with the runtime that calls this, if that matters to it.
    ///
    /// A stream belongs to the runtime that accepted it; a server that hands connections to other
    /// runtimes calls this in the one that serves. Two system calls on sockets.
    ///
    /// # Errors
    ///
    /// The system's, when it refuses; the stream is gone then.
    fn rehome(self) -> io::Result<Self>
    where
        Self: Sized,
    {
        Ok(self)
    }
}

impl Transport for TcpStream {
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
        // SO_LINGER with a time of zero: RFC 9293, 3.10.5 (ABORT). It never blocks.
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
