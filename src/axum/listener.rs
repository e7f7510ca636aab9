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

/// The listener for `axum::serve` that [`Incoming::into_axum`] returns.
///
/// The type is a tapped listener because of Rust's orphan rule. axum itself implements
/// `ConnectInfo<SocketAddr>` for tapped listeners, and only for those among foreign types. The tap is empty.
pub type AxumListener<IO> = TapIo<Connections<IO>, fn(&mut DepartingIo<IO>)>;

impl<IO> Incoming<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// Turns this into the listener of `axum::serve`.
    ///
    /// Peer addresses are those of [`Connection::peer_addr`](crate::Connection::peer_addr), so after a PROXY
    /// header they are the client's own. A peer without an IP address (a Unix socket) appears as `0.0.0.0:0`,
    /// which is not a valid client address.
    ///
    /// Every connection is closed gracefully, including one that a WebSocket handler drops. It is a
    /// [`LingerIo`] with the limits of [`with_linger`](Self::with_linger).
    ///
    /// Pass [`drained`](Self::drained) to `with_graceful_shutdown`, because axum's listeners keep accepting
    /// until axum itself stops. See the [module docs](crate::axum).
    pub fn into_axum(self) -> AxumListener<IO> {
        Connections { incoming: self }.tap_io(|_| {})
    }
}

/// The inner listener of an [`AxumListener`].
pub struct Connections<IO> {
    incoming: Incoming<IO>,
}

impl<IO> serve::Listener for Connections<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Io = DepartingIo<IO>;
    type Addr = SocketAddr;

    /// Handshakes are complete when a connection arrives here, so this waits for accepted connections only.
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
    /// When the listener has no IP address, or when this was made without
    /// [`Server::incoming`](crate::Server::incoming).
    fn local_addr(&self) -> io::Result<SocketAddr> {
        let config = self.incoming.handle().and_then(Handle::config);
        // The listener that was added last.
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

impl<IO> Connected<IncomingStream<'_, AxumListener<IO>>> for Info
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    fn connect_info(stream: IncomingStream<'_, AxumListener<IO>>) -> Self {
        Self(stream.io().get_ref().info().clone())
    }
}
