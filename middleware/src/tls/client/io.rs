//! The plaintext of a client's connection.

use crate::{
    ConnectionInfo,
    io::forward_io,
    tls::{plaintext::Plaintext, rustls::ClientConnection},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;

/// What a TLS connection says, as plaintext: [`TlsIo`](crate::tls::TlsIo) on the client's side.
///
/// It behaves the same: writes may be held back until a flush, a shutdown sends `close_notify`, a drop
/// sends nothing, and a server that ends without `close_notify` makes a read fail with
/// [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof), which is noted in
/// [`is_truncated`](ConnectionInfo::is_truncated) unless this side has ended before.
///
/// A client that only writes should end with [`close`](crate::Connection::close): with the session
/// tickets of TLS 1.3 unread, a mere drop is a reset, and what was written last may be lost.
#[derive(Debug)]
pub struct TlsClientIo<IO>(Plaintext<TlsStream<IO>>);

forward_io!([IO: AsyncRead + AsyncWrite + Unpin] TlsClientIo<IO>, io => [Self(io)]);

impl<IO> TlsClientIo<IO> {
    pub(super) fn new(stream: TlsStream<IO>, info: ConnectionInfo) -> Self {
        Self(Plaintext::new(stream, info))
    }

    /// The IO underneath, which carries ciphertext.
    pub fn get_ref(&self) -> &IO {
        self.0.get_ref().get_ref().0
    }

    /// The IO underneath; to read or write here breaks TLS.
    pub fn get_mut(&mut self) -> &mut IO {
        self.0.get_mut().get_mut().0
    }

    /// The session: exported keys, key updates, and all that [`TlsInfo`] leaves out.
    ///
    /// [`TlsInfo`]: crate::connection::TlsInfo
    pub fn session(&self) -> &ClientConnection {
        self.0.get_ref().get_ref().1
    }

    /// The session, to change: buffer limits for example.
    pub fn session_mut(&mut self) -> &mut ClientConnection {
        self.0.get_mut().get_mut().1
    }

    /// The IO and the session apart. The session may hold input that was not read yet, and output
    /// that is not sent.
    pub fn into_inner(self) -> (IO, ClientConnection) {
        self.0.into_inner().into_inner()
    }
}
