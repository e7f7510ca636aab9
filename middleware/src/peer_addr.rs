//! Turns the bare stream at the edge of a stack into a [`Connection`].
//!
//! It stands near the outside: outside of it layers see the stream as the listener yielded it
//! (tower's own layers that do not look at the request work there), inside of it everything speaks
//! `Service<Connection<IO>>`. Addresses come from the acceptor where there is one, without a system
//! call; in an accept loop of the application's own the stream is asked for them. A layer that calls
//! its inner service in another task (tower's `Buffer`) belongs inside; one that calls it later in the
//! same task (tower's `AsyncFilter`) may stand outside.
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
    /// Makes connections of bare streams.
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

/// Calls the inner service with a [`Connection`] for each bare stream.
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
