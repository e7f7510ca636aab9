//! The server's stream of plaintext.

use super::{
    plaintext::Plaintext,
    rustls::{ServerConnection, server::UnbufferedServerConnection},
    unbuffered::Unbuffered,
    wire::Wire,
};
use crate::{
    ConnectionInfo,
    departure::poll_plaintext,
    io::{Passthrough, forward_io},
};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;

/// The plaintext of a TLS connection.
///
/// Writes may be buffered until a flush. A shutdown sends `close_notify` and ends the write side; reading
/// continues. A drop sends nothing, so that a truncated response cannot look complete.
///
/// If the peer closes without `close_notify`, a read returns everything that was received before and then
/// fails with [`UnexpectedEof`](io::ErrorKind::UnexpectedEof). [`is_truncated`](ConnectionInfo::is_truncated)
/// records it, unless this side has sent its own `close_notify` before, because many peers close without a
/// response to that.
///
/// Its size is two pointers.
#[derive(Debug)]
pub struct TlsIo<IO>(Plaintext<ServerStream<IO>>);

forward_io!([IO: AsyncRead + AsyncWrite + Unpin] TlsIo<IO>, io => [Self(io)]);

impl<IO: AsyncRead + AsyncWrite + Passthrough + Unpin> Passthrough for TlsIo<IO> {
    /// Reads ahead, because a peer sends `close_notify` before it disconnects.
    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        poll_plaintext(self.poll_fill_buf(cx))
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_sent(cx)
    }
}

impl<IO> TlsIo<IO> {
    pub(super) fn new(stream: TlsStream<Wire<IO>>, info: ConnectionInfo) -> Self {
        Self(Plaintext::new(ServerStream::Buffered(stream), info))
    }

    pub(super) fn unbuffered(
        stream: Unbuffered<IO, UnbufferedServerConnection>,
        info: ConnectionInfo,
    ) -> Self {
        Self(Plaintext::new(ServerStream::Unbuffered(stream), info))
    }

    /// Reads ahead and returns what the next read will return; empty when the peer has ended its side.
    pub(crate) fn poll_fill_buf(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        match self.0.get_mut() {
            ServerStream::Buffered(stream) => Pin::new(stream).poll_fill_buf(cx),
            ServerStream::Unbuffered(stream) => stream.poll_fill_buf(cx),
        }
    }

    /// The stream underneath, which carries ciphertext.
    pub fn get_ref(&self) -> &IO {
        match self.0.get_ref() {
            ServerStream::Buffered(stream) => &stream.get_ref().0.0,
            ServerStream::Unbuffered(stream) => stream.get_ref(),
        }
    }

    /// The stream underneath, mutably. Reading or writing it directly breaks TLS.
    pub fn get_mut(&mut self) -> &mut IO {
        match self.0.get_mut() {
            ServerStream::Buffered(stream) => &mut stream.get_mut().0.0,
            ServerStream::Unbuffered(stream) => stream.get_mut(),
        }
    }

    /// The session, for exported keys, key updates and everything that [`TlsInfo`] leaves out; `None` if it is
    /// [unbuffered](super::TlsLayer::unbuffered).
    ///
    /// [`TlsInfo`]: crate::connection::TlsInfo
    pub fn session(&self) -> Option<&ServerConnection> {
        match self.0.get_ref() {
            ServerStream::Buffered(stream) => Some(stream.get_ref().1),
            ServerStream::Unbuffered(_) => None,
        }
    }

    /// The session, mutably, for example to change its buffer limits.
    pub fn session_mut(&mut self) -> Option<&mut ServerConnection> {
        match self.0.get_mut() {
            ServerStream::Buffered(stream) => Some(stream.get_mut().1),
            ServerStream::Unbuffered(_) => None,
        }
    }

    /// What an unbuffered session holds besides its keys.
    #[cfg(all(test, any(feature = "aws-lc-rs", feature = "ring")))]
    pub(super) fn held_bytes(&self) -> Option<usize> {
        match self.0.get_ref() {
            ServerStream::Buffered(_) => None,
            ServerStream::Unbuffered(stream) => Some(stream.held_bytes()),
        }
    }

    /// Splits into the stream and the session. The session may hold unread input and unsent output; what an
    /// unbuffered one holds is dropped.
    pub fn into_inner(self) -> (IO, Option<ServerConnection>) {
        match self.0.into_inner() {
            ServerStream::Buffered(stream) => {
                let (wire, session) = stream.into_inner();
                (wire.0, Some(session))
            }
            ServerStream::Unbuffered(stream) => (stream.into_inner(), None),
        }
    }
}

/// Either kind of session with its stream.
#[derive(Debug)]
enum ServerStream<IO> {
    Buffered(TlsStream<Wire<IO>>),
    Unbuffered(Unbuffered<IO, UnbufferedServerConnection>),
}

forward_io!(
    [IO: AsyncRead + AsyncWrite + Unpin] ServerStream<IO>,
    io => [Self::Buffered(io), Self::Unbuffered(io)]
);
