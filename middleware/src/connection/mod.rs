//! The request type of all layers: a stream with the information about its connection.
//!
//! A stack starts with a raw stream (`tower::Service<TcpStream>`).
//! [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer) turns it into a [`Connection`], and all layers inside
//! use `Service<Connection<IO>>`. A layer that changes the bytes calls [`Connection::map_io`], which keeps
//! the connection's information. Its wrapper only needs `AsyncRead` and `AsyncWrite`.
//!
//! ```
//! use portcullis_middleware::Connection;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let (ours, mut theirs) = tokio::io::duplex(64);
//! let connection = Connection::accept(ours);
//!
//! let mut buffered = connection.map_io(tokio::io::BufStream::new);
//! buffered.write_all(b"hello").await?;
//! buffered.close().await?;
//!
//! let mut output = String::new();
//! theirs.read_to_string(&mut output).await?;
//! assert_eq!(output, "hello");
//! # Ok(())
//! # }
//! ```

mod address;
mod any_stream;
mod certificate;
mod close;
mod context;
pub(crate) mod control;
pub(crate) mod deadline;
mod extensions;
pub(crate) mod guards;
mod hello;
mod info;
pub(crate) mod late_options;
mod listener_info;
mod milestone;
mod notes;
mod phase;
mod socket;
#[cfg(test)]
mod tests;
mod tls_info;
#[cfg(feature = "tonic")]
mod tonic;
mod transport;
mod upstream_info;

pub(crate) use self::guards::{Slot, Slots};
#[cfg(feature = "tonic")]
pub use self::tonic::TlsConnectInfo;
#[cfg(feature = "tonic")]
pub(crate) use self::tonic::TonicTls;
pub use self::{
    address::{Address, UnixAddress},
    any_stream::AnyStream,
    certificate::{CertificateFacts, CertificateName},
    close::{Linger, Lingering},
    context::ConnectionContext,
    extensions::Extensions,
    guards::Guards,
    hello::Hello,
    info::{ConnectionId, ConnectionInfo},
    listener_info::ListenerInfo,
    milestone::Milestone,
    notes::Note,
    phase::Phase,
    socket::{ForcedClose, Socket},
    tls_info::TlsInfo,
    transport::{KernelSocket, Transport},
    upstream_info::{EndedBy, UpstreamInfo},
};

use crate::io::{BoxIo, Passthrough, forward_passthrough};
use pin_project::pin_project;
use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One connection: its stream, its information, and the guards it holds.
///
/// It reads and writes like its stream. Dropping it drops the stream first and then releases the guards.
///
/// Dropping a TCP connection with unread input makes the kernel send a reset, and the peer may lose the last
/// output. End connections with [`close`](Self::close) instead.
#[pin_project]
#[derive(Debug)]
pub struct Connection<IO> {
    #[pin]
    io: IO,
    info: ConnectionInfo,
    extensions: Extensions,
    /// After `io`, because guards must not be released before the socket is closed. Only
    /// [`linger`](Self::linger) releases permits earlier.
    guards: Guards,
}

impl<Io: Transport> Connection<Socket<Io>> {
    /// Wraps a raw stream in a [`Connection`].
    ///
    /// The [`ConnectionContext`] of `io` around the call provides its information. Without one, in a custom
    /// accept loop, the stream provides its addresses.
    pub fn accept(io: Io) -> Self {
        match ConnectionContext::take(&io) {
            Some(ConnectionContext { info, guards, .. }) => {
                let mut connection = Self::with_info(io, info);
                connection.guards = guards;
                connection
            }
            None => {
                let info = ConnectionInfo::of(&io);
                Self::with_info(io, info)
            }
        }
    }

    /// Wraps a raw stream in a [`Connection`] with the given information.
    pub fn with_info(io: Io, info: ConnectionInfo) -> Self {
        info.set_phase(Phase::Serving);
        Self::new(Socket::new(io, info.clone()), info)
    }
}

impl<IO> Connection<IO> {
    /// Creates a connection over `io`, without extensions and guards.
    ///
    /// `info` must be that of the [`Socket`] inside `io`, if there is one.
    pub const fn new(io: IO, info: ConnectionInfo) -> Self {
        Self {
            io,
            info,
            extensions: Extensions::new(),
            guards: Guards::new(),
        }
    }

    /// The connection's information.
    pub const fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// The connection's number, unique within the process.
    pub fn id(&self) -> ConnectionId {
        self.info.id()
    }

    /// The peer's IP address and port; `None` for transports without them (Unix, memory).
    ///
    /// On the client side this is the server's address. After a trusted PROXY header it is the client's own
    /// address and not the proxy's.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.info.peer_addr()
    }

    /// The IP address and port that the client connected to; on the client side, the local address.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.info.local_addr()
    }

    /// The negotiated TLS parameters; `None` without TLS.
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.info.tls()
    }

    /// Records the negotiated TLS parameters, for custom TLS layers.
    ///
    /// Returns false if some were recorded already. This method is on the connection so that code with only a
    /// [`ConnectionInfo`] cannot change them.
    pub fn set_tls(&self, tls: TlsInfo) -> bool {
        self.info.set_tls(tls)
    }

    /// Disables (`true`) or enables (`false`) Nagle's algorithm, which delays small writes.
    ///
    /// It takes effect with the next operation, wherever the socket is, and is ignored by transports without
    /// this setting.
    pub fn set_nodelay(&self, nodelay: bool) {
        self.info.request_nodelay(nodelay);
    }

    /// Values that layers share with each other and with the handler.
    pub const fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Values that layers share with each other and with the handler, mutably.
    pub const fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }

    /// Holds `guard` until the connection is dropped or [detached](Self::detach), wherever it is then.
    pub fn hold(&mut self, guard: impl Send + Sync + 'static) {
        self.guards.push(guard);
    }

    /// Like [`hold`](Self::hold), for a slot. The first four slots share one allocation if they are added
    /// before any other guard. Slots for the service of a connection are released when it starts to
    /// [linger](Self::linger).
    #[doc(hidden)]
    pub fn hold_slot(&mut self, slot: Slot) {
        self.guards.push_slot(slot);
    }

    /// The stream.
    pub const fn get_ref(&self) -> &IO {
        &self.io
    }

    /// The stream, mutably.
    pub const fn get_mut(&mut self) -> &mut IO {
        &mut self.io
    }

    /// The stream, pinned.
    pub fn get_pin_mut(self: Pin<&mut Self>) -> Pin<&mut IO> {
        self.project().io
    }

    /// Replaces the stream by `wrap` of it and keeps the rest.
    pub fn map_io<T>(self, wrap: impl FnOnce(IO) -> T) -> Connection<T> {
        let (io, rest) = self.into_parts();
        rest.with_io(wrap(io))
    }

    /// Replaces the stream by an async function that may fail, such as a handshake.
    ///
    /// # Errors
    ///
    /// The error of `wrap`. The stream is then dropped and the guards are released.
    pub async fn try_map_io<T, E, Fut>(
        self,
        wrap: impl FnOnce(IO) -> Fut,
    ) -> Result<Connection<T>, E>
    where
        Fut: Future<Output = Result<T, E>>,
    {
        let (io, rest) = self.into_parts();
        Ok(rest.with_io(wrap(io).await?))
    }

    /// Splits the connection. The parts continue to hold the guards.
    pub fn into_parts(self) -> (IO, Parts) {
        let parts = Parts {
            info: self.info,
            extensions: self.extensions,
            guards: self.guards,
        };
        (self.io, parts)
    }

    /// Returns the stream and releases the guards. A graceful shutdown does not wait for it.
    ///
    /// The stream stays open, and the wrappers inside `IO` remain; [`Socket::into_inner`] returns the raw
    /// stream. It still belongs to the runtime that accepted it, such as a worker's, and fails when that
    /// runtime ends. [`Transport::rehome`] moves it.
    pub fn detach(self) -> IO {
        self.info.set_phase(Phase::Detached);
        self.io
    }

    /// Closes the connection immediately, without lingering. A TCP peer sees a reset.
    pub fn abort(self) {
        self.info.request_abort();
    }
}

impl<IO: AsyncRead + AsyncWrite + Send + 'static> Connection<IO> {
    /// Erases the type of the stream, with one allocation and one virtual call per operation.
    pub fn box_io(self) -> Connection<BoxIo> {
        self.map_io(BoxIo::new)
    }
}

/// A connection without its stream; see [`Connection::into_parts`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Parts {
    /// The connection's information.
    pub info: ConnectionInfo,
    /// Values that layers share.
    pub extensions: Extensions,
    /// The guards of the connection.
    pub guards: Guards,
}

impl Parts {
    /// Creates parts with `info` only.
    pub const fn new(info: ConnectionInfo) -> Self {
        Self {
            info,
            extensions: Extensions::new(),
            guards: Guards::new(),
        }
    }

    /// Joins the parts and a stream to a connection.
    pub fn with_io<IO>(self, io: IO) -> Connection<IO> {
        Connection {
            io,
            info: self.info,
            extensions: self.extensions,
            guards: self.guards,
        }
    }
}

impl<IO: AsyncRead> AsyncRead for Connection<IO> {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.project().io.poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite> AsyncWrite for Connection<IO> {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.project().io.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().io.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

forward_passthrough!([IO: Passthrough] Connection<IO>, io => [Self { io, .. }]);
