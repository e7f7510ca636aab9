//! The stream of a harness.

use portcullis_middleware::{
    connection::{Address, Transport},
    testing::PeerIo,
};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// The stream that a [`Harness`](super::Harness) gives its stack, a pipe or a scripted peer.
#[derive(Debug)]
pub struct TestIo(TestStream);

#[derive(Debug)]
enum TestStream {
    Client(DuplexStream),
    /// Boxed, because a script is larger than a pipe.
    Peer(Box<PeerIo>),
}

impl From<DuplexStream> for TestIo {
    fn from(io: DuplexStream) -> Self {
        Self(TestStream::Client(io))
    }
}

impl From<PeerIo> for TestIo {
    fn from(io: PeerIo) -> Self {
        Self(TestStream::Peer(Box::new(io)))
    }
}

macro_rules! either {
    ($any:expr, $io:ident => $body:expr) => {
        match $any {
            TestStream::Client($io) => $body,
            TestStream::Peer($io) => $body,
        }
    };
}

impl Transport for TestIo {
    fn peer_address(&self) -> Address {
        either!(&self.0, io => io.peer_address())
    }

    fn local_address(&self) -> Address {
        either!(&self.0, io => io.local_address())
    }

    fn descriptor(&self) -> Option<u64> {
        either!(&self.0, io => io.descriptor())
    }

    fn reset_on_drop(&self) -> io::Result<()> {
        either!(&self.0, io => io.reset_on_drop())
    }
}

impl AsyncRead for TestIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(&mut self.0, io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for TestIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(&mut self.0, io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut self.0, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut self.0, io => Pin::new(io).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(&mut self.0, io => Pin::new(io).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        either!(&self.0, io => io.is_write_vectored())
    }
}
