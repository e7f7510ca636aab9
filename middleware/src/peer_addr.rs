//! Turns the raw stream at the edge of a stack into a [`Connection`].
//!
//! The addresses come from the acceptor, without a system call. In a custom accept loop the stream provides
//! them.
//!
//! # Position in the stack
//!
//! Place it at or near the outside. Layers outside see the stream as the listener returned it, and tower's
//! layers that ignore the request work there. Layers inside use `Service<Connection<IO>>`.
//!
//! A layer that calls its inner service in another task, like tower's `Buffer`, must be inside. One that
//! calls it later in the same task, like tower's `AsyncFilter`, may be outside.
//!
//! # Cancellation and drop
//!
//! The layer uses the inner service's future. Dropping it drops the connection.
//!
//! # Performance
//!
//! In a custom accept loop the layer allocates a [`ConnectionInfo`](crate::ConnectionInfo) per connection, and its
//! addresses cost two system calls. Behind an acceptor it does neither. Each operation on the stream costs one
//! relaxed atomic load; see [`Socket`].
//!
//! # Example
//!
//! ```
//! use portcullis_middleware::{Connection, peer_addr::PeerAddrLayer};
//! use tokio::{io::AsyncWriteExt, net::{TcpListener, TcpStream}};
//! use tower::{Service, ServiceBuilder};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let mut stack = ServiceBuilder::new()
//!     .layer(PeerAddrLayer::new())
//!     .service_fn(|mut connection: Connection<_>| async move {
//!         let peer = connection.peer_addr().expect("TCP has addresses");
//!         connection.write_all(peer.to_string().as_bytes()).await
//!     });
//!
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let client = TcpStream::connect(listener.local_addr()?).await?;
//! let (stream, peer) = listener.accept().await?;
//! stack.call(stream).await?;
//!
//! assert_eq!(client.local_addr()?, peer);
//! # Ok(())
//! # }
//! ```

use crate::connection::{Connection, Socket, Transport};
use std::task::{Context, Poll};
use tower::{Layer, Service};

/// Layer for [`PeerAddr`]; see the [module docs](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct PeerAddrLayer(());

impl PeerAddrLayer {
    /// Creates the layer.
    pub const fn new() -> Self {
        Self(())
    }
}

impl<S> Layer<S> for PeerAddrLayer {
    type Service = PeerAddr<S>;

    fn layer(&self, inner: S) -> PeerAddr<S> {
        PeerAddr { inner }
    }
}

/// Calls the inner service with a [`Connection`] for each raw stream.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddr<S> {
    inner: S,
}

impl<S, Io> Service<Io> for PeerAddr<S>
where
    S: Service<Connection<Socket<Io>>>,
    Io: Transport,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, io: Io) -> S::Future {
        self.inner.call(Connection::accept(io))
    }
}
