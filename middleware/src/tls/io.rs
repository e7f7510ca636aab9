//! The plaintext of a connection.

use super::{plaintext::Plaintext, rustls::ServerConnection, wire::Wire};
use crate::{ConnectionInfo, io::forward_io};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;

/// What a TLS connection says, as plaintext.
///
/// Writes may be held back until a flush. A shutdown sends `close_notify` and ends the write side;
/// reading goes on. A drop sends nothing: a truncated answer must not look complete.
///
/// A peer that ends without `close_notify` makes a read fail with
/// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof); everything that it sent before is read first. It is
/// noted in [`is_truncated`](ConnectionInfo::is_truncated), unless this side has sent its own
/// `close_notify` before: many peers end the connection upon that, without another word.
///
/// It is two pointers in size.
#[derive(Debug)]
pub struct TlsIo<IO>(Plaintext<TlsStream<Wire<IO>>>);

forward_io!([IO: AsyncRead + AsyncWrite + Unpin] TlsIo<IO>, io => [Self(io)]);

impl<IO> TlsIo<IO> {
    pub(super) fn new(stream: TlsStream<Wire<IO>>, info: ConnectionInfo) -> Self {
        Self(Plaintext::new(stream, info))
    }

    pub(super) fn stream(&self) -> &TlsStream<Wire<IO>> {
        self.0.get_ref()
    }

    /// Reads ahead, and yields what the next read will return; empty when the peer has ended its side.
    pub(crate) fn poll_fill_buf(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        Pin::new(self.0.get_mut()).poll_fill_buf(cx)
    }

    /// The IO underneath, which carries ciphertext.
    pub fn get_ref(&self) -> &IO {
        &self.0.get_ref().get_ref().0.0
    }

    /// The IO underneath; to read or write here breaks TLS.
    pub fn get_mut(&mut self) -> &mut IO {
        &mut self.0.get_mut().get_mut().0.0
    }

    /// The session: exported keys, key updates, and all that [`TlsInfo`] leaves out.
    ///
    /// [`TlsInfo`]: crate::connection::TlsInfo
    pub fn session(&self) -> &ServerConnection {
        self.0.get_ref().get_ref().1
    }

    /// The session, to change: buffer limits for example.
    pub fn session_mut(&mut self) -> &mut ServerConnection {
        self.0.get_mut().get_mut().1
    }

    /// The IO and the session apart. The session may hold input that was not read yet, and output
    /// that is not sent.
    pub fn into_inner(self) -> (IO, ServerConnection) {
        let (wire, session) = self.0.into_inner().into_inner();
        (wire.0, session)
    }
}
