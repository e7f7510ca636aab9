//! The server's stream of plaintext.

use super::{plaintext::Plaintext, rustls::ServerConnection, wire::Wire};
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
pub struct TlsIo<IO>(Plaintext<TlsStream<Wire<IO>>>);

forward_io!([IO: AsyncRead + AsyncWrite + Unpin] TlsIo<IO>, io => [Self(io)]);

impl<IO: AsyncRead + AsyncWrite + Unpin> Passthrough for TlsIo<IO> {
    /// Reads ahead, because a peer sends `close_notify` before it disconnects.
    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        poll_plaintext(self.poll_fill_buf(cx))
    }
}

impl<IO> TlsIo<IO> {
    pub(super) fn new(stream: TlsStream<Wire<IO>>, info: ConnectionInfo) -> Self {
        Self(Plaintext::new(stream, info))
    }

    /// Reads ahead and returns what the next read will return; empty when the peer has ended its side.
    pub(crate) fn poll_fill_buf(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        Pin::new(self.0.get_mut()).poll_fill_buf(cx)
    }

    /// The stream underneath, which carries ciphertext.
    pub fn get_ref(&self) -> &IO {
        &self.0.get_ref().get_ref().0.0
    }

    /// The stream underneath, mutably. Reading or writing it directly breaks TLS.
    pub fn get_mut(&mut self) -> &mut IO {
        &mut self.0.get_mut().get_mut().0.0
    }

    /// The session, for exported keys, key updates and everything that [`TlsInfo`] leaves out.
    ///
    /// [`TlsInfo`]: crate::connection::TlsInfo
    pub fn session(&self) -> &ServerConnection {
        self.0.get_ref().get_ref().1
    }

    /// The session, mutably, for example to change its buffer limits.
    pub fn session_mut(&mut self) -> &mut ServerConnection {
        self.0.get_mut().get_mut().1
    }

    /// Splits into the stream and the session. The session may hold unread input and unsent output.
    pub fn into_inner(self) -> (IO, ServerConnection) {
        let (wire, session) = self.0.into_inner().into_inner();
        (wire.0, session)
    }
}
