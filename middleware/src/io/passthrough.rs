//! What a forwarder needs of a stream beyond reads and writes.

use super::Pipe;
use crate::departure::unless_sent;
use std::{
    io,
    task::{Context, Poll},
};

/// A stream that may allow its bytes to move directly between its socket and a [`Pipe`].
///
/// A forwarder uses this to move bytes from one socket to another without copying them, by `splice(2)` on Linux.
/// The operations have the semantics of `poll_read` and `poll_write`, with a pipe in place of a buffer. So a
/// wrapper that counts, times out or limits operations also sees these.
///
/// The default is a stream that allows neither, whose bytes are copied. A wrapper that changes the bytes, such
/// as TLS, keeps the default:
///
/// ```
/// use portcullis_middleware::io::Passthrough;
///
/// struct Compressed<IO>(IO);
///
/// impl<IO> Passthrough for Compressed<IO> {}
///
/// assert!(!Compressed(tokio::io::empty()).is_passthrough());
/// ```
///
/// A wrapper that leaves the bytes unchanged forwards all methods to the stream inside, and every other wrapper forwards
/// [`poll_departure`](Self::poll_departure) and [`poll_sent`](Self::poll_sent). To forward a stream of a foreign type,
/// which cannot implement this trait, put it into a [`BoxIo`](super::BoxIo). That and tokio's `Join` have the
/// defaults, because they accept any stream.
pub trait Passthrough {
    /// Whether this stream is currently a socket with nothing in between.
    ///
    /// Each byte that the socket receives is then the next byte of this stream, and dropping the stream ends
    /// the connection as a shutdown does. The value may change after a read, for example when a
    /// [`PrefixedIo`](super::PrefixedIo) has returned its prefix.
    fn is_passthrough(&self) -> bool {
        false
    }

    /// Ready with the reason once the peer has disconnected, for a connection that is not read at the moment.
    ///
    /// The reason is a reset, or [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if the peer has ended its side. A peer
    /// that has sent something before may be waiting for a response, so a plain socket then only reports a reset, and stays
    /// pending after the end. The input stays in the stream, and while some is unread, the peer
    /// counts as connected.
    ///
    /// The default is always pending, so that the peer counts as connected until the stream is read or written. Each
    /// wrapper forwards this method, whether it changes the bytes or not.
    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let _ = cx;
        Poll::Pending
    }

    /// Whether input has arrived at the socket that was not read, as far as the system can tell.
    ///
    /// The default is that none has. Each wrapper that leaves the bytes unchanged forwards this method.
    fn has_unread(&self) -> bool {
        false
    }

    /// Moves bytes from the socket into `pipe`, which must be empty; `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    ///
    /// As `poll_read`; also [`Unsupported`](io::ErrorKind::Unsupported) or
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if the stream or the system does not support it, or the
    /// next byte is urgent data of TCP. No byte was moved then, and `poll_read` goes on.
    ///
    /// # Panics
    ///
    /// If `pipe` contains bytes.
    fn poll_read_to_pipe(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        let _ = (cx, pipe);
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    /// Moves bytes from `pipe` to the socket and returns their number.
    ///
    /// # Errors
    ///
    /// As `poll_write`; also [`Unsupported`](io::ErrorKind::Unsupported) if the stream does not support it.
    fn poll_write_from_pipe(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        let _ = (cx, pipe);
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    /// Ready once the system has sent everything that was written to the socket, after a flush.
    ///
    /// A reset then no longer discards it. The network may still lose it, as the system does not wait for its
    /// acknowledgement. Afterwards the socket accepts bytes only once all others are sent, so this is for the end of a
    /// connection. Other streams, and TCP on systems other than Linux, are always ready. Each wrapper forwards this
    /// method, whether it changes the bytes or not.
    ///
    /// # Errors
    ///
    /// As `poll_flush`.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = cx;
        Poll::Ready(Ok(()))
    }
}

/// Implements [`Passthrough`] for a type that only passes calls on.
///
/// Each pattern of `Self` binds the stream inside.
///
/// ```text
/// forward_passthrough!([IO: Passthrough] Wrapper<IO>, io => [Self(io)]);
/// ```
macro_rules! forward_passthrough {
    ([$($generics:tt)*] $wrapper:ty, $io:ident => [$($(#[$attribute:meta])* $pattern:pat),* $(,)?]) => {
        impl<$($generics)*> $crate::io::Passthrough for $wrapper {
            #[inline]
            fn is_passthrough(&self) -> bool {
                match self {
                    $($(#[$attribute])* $pattern => $io.is_passthrough(),)*
                }
            }

            #[inline]
            fn poll_departure(
                &mut self,
                cx: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<::std::io::Error> {
                match self {
                    $($(#[$attribute])* $pattern => $io.poll_departure(cx),)*
                }
            }

            #[inline]
            fn has_unread(&self) -> bool {
                match self {
                    $($(#[$attribute])* $pattern => $io.has_unread(),)*
                }
            }

            #[inline]
            fn poll_read_to_pipe(
                &mut self,
                cx: &mut ::std::task::Context<'_>,
                pipe: &mut $crate::io::Pipe,
            ) -> ::std::task::Poll<::std::io::Result<usize>> {
                match self {
                    $($(#[$attribute])* $pattern => $io.poll_read_to_pipe(cx, pipe),)*
                }
            }

            #[inline]
            fn poll_write_from_pipe(
                &mut self,
                cx: &mut ::std::task::Context<'_>,
                pipe: &mut $crate::io::Pipe,
            ) -> ::std::task::Poll<::std::io::Result<usize>> {
                match self {
                    $($(#[$attribute])* $pattern => $io.poll_write_from_pipe(cx, pipe),)*
                }
            }

            #[inline]
            fn poll_sent(
                &mut self,
                cx: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                match self {
                    $($(#[$attribute])* $pattern => $io.poll_sent(cx),)*
                }
            }
        }
    };
}

pub(crate) use forward_passthrough;

impl<IO: Passthrough + ?Sized> Passthrough for Box<IO> {
    fn is_passthrough(&self) -> bool {
        (**self).is_passthrough()
    }

    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        (**self).poll_departure(cx)
    }

    fn has_unread(&self) -> bool {
        (**self).has_unread()
    }

    fn poll_read_to_pipe(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        (**self).poll_read_to_pipe(cx, pipe)
    }

    fn poll_write_from_pipe(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        (**self).poll_write_from_pipe(cx, pipe)
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_sent(cx)
    }
}

impl Passthrough for tokio::io::DuplexStream {}
impl<R, W> Passthrough for tokio::io::Join<R, W> {}

/// Implements [`Passthrough`] for a foreign type that changes the bytes or buffers them.
macro_rules! forward_ends {
    ($wrapper:ty, $self:ident => $io:expr $(, $unread:item)?) => {
        impl<IO> Passthrough for $wrapper
        where
            IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Passthrough,
        {
            fn poll_departure(&mut $self, cx: &mut Context<'_>) -> Poll<io::Error> {
                // Input may lie in this stream. A client that has ended its side then counts as connected.
                unless_sent(true, $io.poll_departure(cx))
            }

            fn poll_sent(&mut $self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                $io.poll_sent(cx)
            }

            $($unread)?
        }
    };
}

forward_ends!(tokio::io::BufStream<IO>, self => self.get_mut(), fn has_unread(&self) -> bool {
    self.get_ref().has_unread()
});
#[cfg(feature = "tls")]
forward_ends!(tokio_rustls::TlsStream<IO>, self => self.get_mut().0);
#[cfg(feature = "tls")]
forward_ends!(tokio_rustls::client::TlsStream<IO>, self => self.get_mut().0);
#[cfg(feature = "tls")]
forward_ends!(tokio_rustls::server::TlsStream<IO>, self => self.get_mut().0);
