//! One stream type for stacks that serve TCP and Unix listeners.

use super::{Address, KernelSocket, Transport};
use crate::io::forward_io;
use std::io;
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

/// A TCP or a Unix stream, for stacks that serve both kinds of listeners.
#[derive(Debug)]
#[non_exhaustive]
pub enum AnyStream {
    /// A TCP stream.
    Tcp(TcpStream),
    /// A stream of a Unix domain socket.
    #[cfg(unix)]
    Unix(UnixStream),
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

forward_io!([] AnyStream, io => [Self::Tcp(io), #[cfg(unix)] Self::Unix(io)]);
