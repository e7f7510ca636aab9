//! A connection as tonic's server takes it.

use ::tonic::transport::server::Connected;
use portcullis_middleware::{
    Connection,
    connection::{Linger, Lingering},
};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection of which each request is told `C`; see the [module docs](super).
///
/// It ends politely: after its last byte, input is read and thrown away until the client ends too, for
/// a second at most. A mere close with input unread would take the last responses back.
#[derive(Debug)]
pub struct TonicIo<IO, C> {
    connection: Connection<IO>,
    told: C,
    lingering: Option<Lingering>,
}

impl<IO, C> TonicIo<IO, C> {
    pub(super) const fn new(connection: Connection<IO>, told: C) -> Self {
        Self {
            connection,
            told,
            lingering: None,
        }
    }

    /// The connection.
    pub const fn get_ref(&self) -> &Connection<IO> {
        &self.connection
    }

    /// The connection, to change.
    pub const fn get_mut(&mut self) -> &mut Connection<IO> {
        &mut self.connection
    }

    /// The connection, out of tonic's hands.
    pub fn into_inner(self) -> Connection<IO> {
        self.connection
    }
}

impl<IO, C: Clone + Send + Sync + 'static> Connected for TonicIo<IO, C> {
    type ConnectInfo = C;

    fn connect_info(&self) -> C {
        self.told.clone()
    }
}

impl<IO: AsyncRead + Unpin, C: Unpin> AsyncRead for TonicIo<IO, C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_read(cx, buf)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin, C: Unpin> AsyncWrite for TonicIo<IO, C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.connection).poll_shutdown(cx))?;
        }
        let lingering = this.lingering.get_or_insert_with(|| Linger::new().begin());
        lingering.poll(cx, &mut this.connection).map(Ok)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }
}
