//! A stack as the listener of `axum::serve`.

use super::{DepartingIo, Info};
use crate::{
    server::Handle,
    service::{Incoming, LingerIo, http::request_context::NOWHERE},
};
use ::axum::{
    extract::connect_info::Connected,
    serve::{self, IncomingStream, ListenerExt, TapIo},
};
use std::{fmt, future::pending, io, net::SocketAddr};
use tokio::io::{AsyncRead, AsyncWrite};

/// A layered stack as `axum::serve` takes it; see [`Incoming::into_axum`].
///
/// It is tapped because of Rust's orphan rule: for tapped listeners, and for no other of ours, axum
/// itself says how a `SocketAddr` is the `ConnectInfo`. The tap does nothing.
pub type Listener<IO> = TapIo<Connections<IO>, fn(&mut DepartingIo<IO>)>;

impl<IO> Incoming<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// Makes this the listener of `axum::serve`.
    ///
    /// Its peers' addresses are those of [`Connection::peer_addr`](crate::Connection::peer_addr), after a PROXY
    /// header the client's own. A peer without an IP address (a Unix socket) is `0.0.0.0:0`, which no client can
    /// have.
    ///
    /// A connection is closed politely however it ends, also when a WebSocket's handler drops it: it is a
    /// [`LingerIo`] with the bounds of [`with_linger`](Self::with_linger).
    ///
    /// Give [`drained`](Self::drained) to `with_graceful_shutdown`: it never stops accepting by itself,
    /// as axum demands. See the [module docs](crate::axum).
    pub fn into_axum(self) -> Listener<IO> {
        Connections { incoming: self }.tap_io(|_| {})
    }
}

/// What lies in a [`Listener`].
pub struct Connections<IO> {
    incoming: Incoming<IO>,
}

impl<IO> serve::Listener for Connections<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Io = DepartingIo<IO>;
    type Addr = SocketAddr;

    /// Handshakes are done when a connection arrives here: nothing that a client does takes time.
    async fn accept(&mut self) -> (DepartingIo<IO>, SocketAddr) {
        match self.incoming.recv().await {
            Some(connection) => {
                let peer = connection.peer_addr().unwrap_or(NOWHERE);
                let io = LingerIo::new(connection, self.incoming.linger());
                (DepartingIo::new(io), peer)
            }
            None => pending().await,
        }
    }

    /// The address that the server's listener is bound to.
    ///
    /// # Errors
    ///
    /// When it is none of IP, or when no [`Server::incoming`](crate::Server::incoming) made this.
    fn local_addr(&self) -> io::Result<SocketAddr> {
        let config = self.incoming.handle().and_then(Handle::config);
        // Added last.
        let listener = config.and_then(|config| config.listeners.last());
        let address = listener.and_then(|listener| listener.address().ip());
        address.ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "no IP address"))
    }
}

impl<IO> fmt::Debug for Connections<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.incoming.fmt(f)
    }
}

impl<IO> Connected<IncomingStream<'_, Listener<IO>>> for Info
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    fn connect_info(stream: IncomingStream<'_, Listener<IO>>) -> Self {
        Self(stream.io().get_ref().info().clone())
    }
}
