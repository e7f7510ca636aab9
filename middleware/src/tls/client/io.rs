//! The client's stream of plaintext.

use crate::{
    ConnectionInfo,
    departure::unless_sent,
    io::{Passthrough, forward_io},
    tls::{
        plaintext::Plaintext,
        rustls::{ClientConnection, client::UnbufferedClientConnection},
        unbuffered::Unbuffered,
    },
};
use std::{
    io,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;

/// The plaintext of a TLS connection, on the client side.
///
/// It behaves like [`TlsIo`](crate::tls::TlsIo). Writes may be buffered until a flush, and a shutdown sends
/// `close_notify`, unlike a drop. If the server closes without `close_notify`, a read fails with
/// [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof), and [`is_truncated`](ConnectionInfo::is_truncated)
/// records it unless this side has ended before.
///
/// Clients that only write should end with [`close`](crate::Connection::close). The session tickets of TLS
/// 1.3 are then still unread, so a plain drop resets the connection and may lose the last output.
#[derive(Debug)]
pub struct TlsClientIo<IO>(Plaintext<ClientStream<IO>>);

forward_io!([IO: AsyncRead + AsyncWrite + Unpin] TlsClientIo<IO>, io => [Self(io)]);

impl<IO: Passthrough> Passthrough for TlsClientIo<IO> {
    /// A server that has ended its side counts as connected, because its last records may be unread.
    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        unless_sent(true, self.get_mut().poll_departure(cx))
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_sent(cx)
    }
}

impl<IO> TlsClientIo<IO> {
    pub(super) fn new(stream: TlsStream<IO>, info: ConnectionInfo) -> Self {
        Self(Plaintext::new(ClientStream::Buffered(stream), info))
    }

    pub(super) fn unbuffered(
        stream: Unbuffered<IO, UnbufferedClientConnection>,
        info: ConnectionInfo,
    ) -> Self {
        Self(Plaintext::new(ClientStream::Unbuffered(stream), info))
    }

    /// The stream underneath, which carries ciphertext.
    pub fn get_ref(&self) -> &IO {
        match self.0.get_ref() {
            ClientStream::Buffered(stream) => stream.get_ref().0,
            ClientStream::Unbuffered(stream) => stream.get_ref(),
        }
    }

    /// The stream underneath, mutably. Reading or writing it directly breaks TLS.
    pub fn get_mut(&mut self) -> &mut IO {
        match self.0.get_mut() {
            ClientStream::Buffered(stream) => stream.get_mut().0,
            ClientStream::Unbuffered(stream) => stream.get_mut(),
        }
    }

    /// The session, for exported keys, key updates and everything that [`TlsInfo`] leaves out; `None` if it is
    /// [unbuffered](super::TlsConnector::unbuffered).
    ///
    /// [`TlsInfo`]: crate::connection::TlsInfo
    pub fn session(&self) -> Option<&ClientConnection> {
        match self.0.get_ref() {
            ClientStream::Buffered(stream) => Some(stream.get_ref().1),
            ClientStream::Unbuffered(_) => None,
        }
    }

    /// The session, mutably, for example to change its buffer limits.
    pub fn session_mut(&mut self) -> Option<&mut ClientConnection> {
        match self.0.get_mut() {
            ClientStream::Buffered(stream) => Some(stream.get_mut().1),
            ClientStream::Unbuffered(_) => None,
        }
    }

    /// Splits into the stream and the session. The session may hold unread input and unsent output; what an
    /// unbuffered one holds is dropped.
    pub fn into_inner(self) -> (IO, Option<ClientConnection>) {
        match self.0.into_inner() {
            ClientStream::Buffered(stream) => {
                let (io, session) = stream.into_inner();
                (io, Some(session))
            }
            ClientStream::Unbuffered(stream) => (stream.into_inner(), None),
        }
    }
}

/// Either kind of session with its stream.
#[derive(Debug)]
enum ClientStream<IO> {
    Buffered(TlsStream<IO>),
    Unbuffered(Unbuffered<IO, UnbufferedClientConnection>),
}

forward_io!(
    [IO: AsyncRead + AsyncWrite + Unpin] ClientStream<IO>,
    io => [Self::Buffered(io), Self::Unbuffered(io)]
);
