//! One stream type for stacks that serve several kinds of listeners.

use super::{Address, KernelSocket, Transport};
use crate::io::forward_io;
use std::io;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::{io::DuplexStream, net::TcpStream};

/// A TCP, Unix or in-memory stream, for stacks that serve several kinds of listeners.
#[derive(Debug)]
#[non_exhaustive]
pub enum AnyStream {
    /// A TCP stream.
    Tcp(TcpStream),
    /// A stream of a Unix domain socket.
    #[cfg(unix)]
    Unix(UnixStream),
    /// An in-memory stream.
    Memory(DuplexStream),
}

impl From<DuplexStream> for AnyStream {
    fn from(stream: DuplexStream) -> Self {
        Self::Memory(stream)
    }
}

impl From<TcpStream> for AnyStream {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

#[cfg(unix)]
impl From<UnixStream> for AnyStream {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

macro_rules! either {
    ($any:expr, $stream:ident => $body:expr) => {
        match $any {
            AnyStream::Tcp($stream) => $body,
            #[cfg(unix)]
            AnyStream::Unix($stream) => $body,
            AnyStream::Memory($stream) => $body,
        }
    };
}

impl Transport for AnyStream {
    fn peer_address(&self) -> Address {
        either!(self, stream => stream.peer_address())
    }

    fn local_address(&self) -> Address {
        either!(self, stream => stream.local_address())
    }

    fn descriptor(&self) -> Option<u64> {
        either!(self, stream => stream.descriptor())
    }

    fn kernel_socket(&self) -> Option<KernelSocket<'_>> {
        either!(self, stream => stream.kernel_socket())
    }

    fn reset_on_drop(&self) -> io::Result<()> {
        either!(self, stream => stream.reset_on_drop())
    }

    fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        either!(self, stream => Transport::set_nodelay(stream, nodelay))
    }

    fn rehome(self) -> io::Result<Self> {
        either!(self, stream => stream.rehome().map(Self::from))
    }
}

forward_io!(
    [] AnyStream,
    io => [Self::Tcp(io), #[cfg(unix)] Self::Unix(io), Self::Memory(io)]
);
