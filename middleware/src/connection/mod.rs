//! The request type of every layer: bytes, and what is known of where they come from.
//!
//! A stack begins with a bare stream (`tower::Service<TcpStream>`).
//! [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer) turns it into a [`Connection`], and all layers
//! within speak `Service<Connection<IO>>`. A layer that changes the bytes does so with
//! [`Connection::map_io`]: what is known of the connection cannot get lost on the way, and the
//! wrapper needs nothing but `AsyncRead` and `AsyncWrite`.
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
//! let mut said = String::new();
//! theirs.read_to_string(&mut said).await?;
//! assert_eq!(said, "hello");
//! # Ok(())
//! # }
//! ```

mod address;
mod any_stream;
mod close;
mod context;
mod control;
mod extensions;
pub(crate) mod guards;
mod info;
mod listener_info;
mod phase;
mod socket;
#[cfg(test)]
mod tests;
mod tls_info;
#[cfg(feature = "tonic")]
mod tonic;
mod transport;

pub(crate) use self::guards::{Slot, Slots};
#[cfg(feature = "tonic")]
pub use self::tonic::TlsConnectInfo;
#[cfg(feature = "tonic")]
pub(crate) use self::tonic::TonicTls;
pub use self::{
    address::{Address, UnixAddress},
    any_stream::AnyStream,
    close::{Linger, Lingering},
    context::ConnectionContext,
    extensions::Extensions,
    guards::Guards,
    info::{ConnectionId, ConnectionInfo},
    listener_info::ListenerInfo,
    phase::Phase,
    socket::{ForcedClose, Socket},
    tls_info::TlsInfo,
    transport::Transport,
};

use crate::io::BoxIo;
use pin_project::pin_project;
use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One connection: its IO, what is known of it, and what it holds while it lives.
///
/// It is read and written like its IO. Dropping it drops the IO first and releases the guards then.
///
/// Dropping a TCP connection while input lies unread makes the kernel send a reset, and the peer may
/// lose the last output. End a connection with [`close`](Self::close) instead.
#[pin_project]
#[derive(Debug)]
pub struct Connection<IO> {
    #[pin]
    io: IO,
    info: ConnectionInfo,
    extensions: Extensions,
    /// After `io`: what is held must not be free before the socket is closed. Permits are released
    /// earlier only by [`linger`](Self::linger).
    guards: Guards,
}

impl<Io: Transport> Connection<Socket<Io>> {
    /// Takes a bare stream into portcullis' care.
    ///
    /// The [`ConnectionContext`] of `io` around the call tells what is known of it; without one, in an
    /// accept loop of the application's own, the stream itself is asked for its addresses.
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

    /// Takes a bare stream into portcullis' care, with `info` about it.
    pub fn with_info(io: Io, info: ConnectionInfo) -> Self {
        info.set_phase(Phase::Serving);
        Self::new(Socket::new(io, info.clone()), info)
    }
}

impl<IO> Connection<IO> {
    /// A connection over `io`, without extensions and guards.
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

    /// What is known of the connection.
    pub const fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// Number of the connection, unique within the process.
    pub fn id(&self) -> ConnectionId {
        self.info.id()
    }

    /// The peer's IP address and port; `None` where it has none (Unix, memory). On the client side
    /// that is the server's.
    ///
    /// After a PROXY header that a layer believed this is the client's own address, not the proxy's.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.info.peer_addr()
    }

    /// The IP address and port that the client connected to; on the client side, its own.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.info.local_addr()
    }

    /// What TLS agreed on; `None` without TLS.
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.info.tls()
    }

    /// Records what TLS agreed on, for a TLS layer of your own; false when something was recorded already.
    ///
    /// It takes the connection itself: code that only holds a [`ConnectionInfo`] cannot change it.
    pub fn set_tls(&self, tls: TlsInfo) -> bool {
        self.info.set_tls(tls)
    }

    /// Sends small writes at once (`true`) or lets the system gather them, from the next operation
    /// on, wherever the socket is underneath. Does nothing on transports without such a setting.
    pub fn set_nodelay(&self, nodelay: bool) {
        self.info.request_nodelay(nodelay);
    }

    /// Values that layers left for each other and for the handler.
    pub const fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Values that layers left for each other and for the handler, to change.
    pub const fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }

    /// Holds `guard` for as long as the connection lives: until it is dropped or
    /// [detached](Self::detach), wherever it is by then.
    pub fn hold(&mut self, guard: impl Send + Sync + 'static) {
        self.guards.push(guard);
    }

    /// Like [`hold`](Self::hold), for a slot: the first two share an allocation, where nothing else was held
    /// before. Slots for the service of a connection are released when it begins to
    /// [linger](Self::linger).
    #[doc(hidden)]
    pub fn hold_slot(&mut self, slot: Slot) {
        self.guards.push_slot(slot);
    }

    /// The IO.
    pub const fn get_ref(&self) -> &IO {
        &self.io
    }

    /// The IO, to change.
    pub const fn get_mut(&mut self) -> &mut IO {
        &mut self.io
    }

    /// The IO, pinned.
    pub fn get_pin_mut(self: Pin<&mut Self>) -> Pin<&mut IO> {
        self.project().io
    }

    /// Changes the IO and keeps the rest.
    pub fn map_io<T>(self, wrap: impl FnOnce(IO) -> T) -> Connection<T> {
        let (io, rest) = self.into_parts();
        rest.with_io(wrap(io))
    }

    /// Changes the IO by something that takes time and can fail (a handshake), and keeps the rest.
    ///
    /// # Errors
    ///
    /// That of `wrap`; the IO is gone then, and the guards are released.
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

    /// Takes the IO out; the rest goes on holding what the connection held.
    pub fn into_parts(self) -> (IO, Parts) {
        let parts = Parts {
            info: self.info,
            extensions: self.extensions,
            guards: self.guards,
        };
        (self.io, parts)
    }

    /// Takes the IO out of portcullis' care: the guards are released and the drain no longer
    /// waits for it. Nothing is closed.
    ///
    /// Wrappers inside `IO` stay; [`Socket::into_inner`] gives the bare stream. It still belongs to the
    /// runtime that accepted it, a worker's for example, and fails when that ends:
    /// [`Transport::rehome`] moves it.
    pub fn detach(self) -> IO {
        self.info.set_phase(Phase::Detached);
        self.io
    }

    /// Ends the connection at once; a TCP peer sees a reset, and nothing lingers.
    pub fn abort(self) {
        self.info.request_abort();
    }
}

impl<IO: AsyncRead + AsyncWrite + Send + 'static> Connection<IO> {
    /// Erases the type of the IO: one allocation, and one virtual call per operation.
    pub fn box_io(self) -> Connection<BoxIo> {
        self.map_io(BoxIo::new)
    }
}

/// What a connection is besides its IO; see [`Connection::into_parts`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Parts {
    /// What is known of the connection.
    pub info: ConnectionInfo,
    /// Values that layers left for each other.
    pub extensions: Extensions,
    /// What is held while the connection lives.
    pub guards: Guards,
}

impl Parts {
    /// Nothing but `info`.
    pub const fn new(info: ConnectionInfo) -> Self {
        Self {
            info,
            extensions: Extensions::new(),
            guards: Guards::new(),
        }
    }

    /// Makes a connection again.
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
