//! One stream type for a stack that serves TCP and Unix listeners.

use super::{Address, Transport};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A TCP or a Unix stream, for one stack that serves listeners of both kinds.
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

impl AsyncRead for AnyStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for AnyStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        either!(self, stream => stream.is_write_vectored())
    }
}
