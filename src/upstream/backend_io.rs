//! The stream of a connection to a server.

#[cfg(feature = "tls")]
use portcullis_middleware::tls::TlsClientIo;
use portcullis_middleware::{
    connection::{AnyStream, Socket},
    io::{Passthrough, Pipe, PrefixedIo},
};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream to a server of a [`Pool`](super::Pool), one type for all kinds of servers.
///
/// Plain streams are stored unboxed, so that a forwarder can reach the socket.
#[derive(Debug)]
#[non_exhaustive]
pub enum BackendIo {
    /// TCP or a Unix domain socket.
    Plain(Socket<AnyStream>),
    /// The same behind bytes that were read already, in a box because it is rare.
    Prefixed(Box<PrefixedIo<Socket<AnyStream>>>),
    /// TLS, in a box because of its size. The prefix is the greeting that a server has sent before TLS.
    #[cfg(feature = "tls")]
    Tls(Box<PrefixedIo<TlsClientIo<Socket<AnyStream>>>>),
}

impl BackendIo {
    /// Returns `bytes` before the rest of the stream.
    pub(super) fn behind(self, bytes: Vec<u8>) -> Self {
        match self {
            Self::Plain(io) if !bytes.is_empty() => {
                Self::Prefixed(Box::new(PrefixedIo::with_prefix(io, bytes)))
            }
            Self::Plain(io) => Self::Plain(io),
            Self::Prefixed(mut io) => {
                io.prepend(&bytes);
                Self::Prefixed(io)
            }
            #[cfg(feature = "tls")]
            Self::Tls(mut io) => {
                io.prepend(&bytes);
                Self::Tls(io)
            }
        }
    }
}

macro_rules! either {
    ($io:expr, $stream:ident => $body:expr) => {
        match $io {
            BackendIo::Plain($stream) => $body,
            BackendIo::Prefixed($stream) => $body,
            #[cfg(feature = "tls")]
            BackendIo::Tls($stream) => $body,
        }
    };
}

impl AsyncRead for BackendIo {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self.get_mut(), io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for BackendIo {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), io => Pin::new(io).poll_write(cx, buf))
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), io => Pin::new(io).poll_flush(cx))
    }

    #[inline]
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), io => Pin::new(io).poll_shutdown(cx))
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), io => Pin::new(io).poll_write_vectored(cx, bufs))
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        either!(self, io => io.is_write_vectored())
    }
}

impl Passthrough for BackendIo {
    #[inline]
    fn is_passthrough(&self) -> bool {
        either!(self, io => io.is_passthrough())
    }

    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        either!(self, io => io.poll_departure(cx))
    }

    fn has_unread(&self) -> bool {
        either!(self, io => io.has_unread())
    }

    #[inline]
    fn poll_read_to_pipe(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        either!(self, io => io.poll_read_to_pipe(cx, pipe))
    }

    #[inline]
    fn poll_write_from_pipe(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        either!(self, io => io.poll_write_from_pipe(cx, pipe))
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_sent(cx))
    }
}
