//! The client's stream of plaintext.

use crate::{
    ConnectionInfo,
    io::{Passthrough, forward_io},
    tls::{plaintext::Plaintext, rustls::ClientConnection},
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
pub struct TlsClientIo<IO>(Plaintext<TlsStream<IO>>);

forward_io!([IO: AsyncRead + AsyncWrite + Unpin] TlsClientIo<IO>, io => [Self(io)]);

impl<IO> Passthrough for TlsClientIo<IO> {}

impl<IO> TlsClientIo<IO> {
    pub(super) fn new(stream: TlsStream<IO>, info: ConnectionInfo) -> Self {
        Self(Plaintext::new(stream, info))
    }

    /// The stream underneath, which carries ciphertext.
    pub fn get_ref(&self) -> &IO {
        self.0.get_ref().get_ref().0
    }

    /// The stream underneath, mutably. Reading or writing it directly breaks TLS.
    pub fn get_mut(&mut self) -> &mut IO {
        self.0.get_mut().get_mut().0
    }

    /// The session, for exported keys, key updates and everything that [`TlsInfo`] leaves out.
    ///
    /// [`TlsInfo`]: crate::connection::TlsInfo
    pub fn session(&self) -> &ClientConnection {
        self.0.get_ref().get_ref().1
    }

    /// The session, mutably, for example to change its buffer limits.
    pub fn session_mut(&mut self) -> &mut ClientConnection {
        self.0.get_mut().get_mut().1
    }

    /// Splits into the stream and the session. The session may hold unread input and unsent output.
    pub fn into_inner(self) -> (IO, ClientConnection) {
        self.0.into_inner().into_inner()
    }
}
