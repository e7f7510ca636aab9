//! Hands connections that have passed the layers to another server.
//!
//! The work of the layers is complete (handshakes, addresses). Guards such as permits are held until the
//! connection is dropped by its new owner, and the drain waits for that. Handshakes run concurrently, each in
//! its own task, so a slow one does not delay others.
//!
//! [`Server::incoming`](crate::Server::incoming) sets everything up; with the feature `axum`,
//! `Incoming::into_axum` turns it into the listener of `axum::serve`. To set it up by hand for one of several
//! stacks:
//!
//! ```
//! use portcullis::{Server, ServiceBuilderExt, listener::TcpListener, service::hand_off};
//! use tokio::{io::AsyncReadExt, net::TcpStream};
//! use tower::ServiceBuilder;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), portcullis::BoxError> {
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let client = TcpStream::connect(listener.local_addr()?);
//!
//! let (service, mut incoming) = hand_off(16);
//! let stack = ServiceBuilder::new().peer_addr().connection_limit(100).service(service);
//! let handle = Server::new().listen(listener, stack).spawn()?;
//!
//! let client = client.await?;
//! let connection = incoming.recv().await.expect("the server runs");
//! assert_eq!(connection.peer_addr(), client.local_addr().ok());
//! # drop((client, connection));
//! # handle.stop();
//! # handle.wait().await;
//! # Ok(())
//! # }
//! ```

use crate::{
    listener::Listener,
    server::{Handle, ServeError, Server, Stack},
};
use futures_core::Stream;
use portcullis_middleware::{
    BoxError, Connection,
    connection::{ForcedClose, Linger},
    internal::IDLE_GRACE_PERIOD,
};
use std::{
    error, fmt,
    future::{pending, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::sleep,
};
use tower::{Layer, Service, ServiceBuilder};

impl Server {
    /// Starts the server with another listener and returns its connections, after `layers`, as a stream.
    ///
    /// The connections keep the guards of the layers, such as permits, until they are dropped. Dropping the
    /// stream stops the server. See [`service`](crate::service).
    ///
    /// ```
    /// use portcullis::{Server, ServiceBuilderExt, listener::TcpListener};
    /// use tokio::{io::AsyncWriteExt, net::TcpStream};
    /// use tower::ServiceBuilder;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), portcullis::BoxError> {
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let address = listener.local_addr()?;
    /// let layers = ServiceBuilder::new().peer_addr().connection_limit(5);
    /// let mut incoming = Server::new().incoming(listener, layers)?;
    ///
    /// let client = TcpStream::connect(address).await?;
    /// let mut connection = incoming.recv().await.expect("the server runs");
    /// assert_eq!(connection.peer_addr(), client.local_addr().ok());
    /// connection.write_all(b"hello").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the server cannot start.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn incoming<L, B, IO>(
        self,
        listener: L,
        layers: ServiceBuilder<B>,
    ) -> Result<Incoming<IO>, ServeError>
    where
        L: Listener,
        B: Layer<HandOff<IO>>,
        B::Service: Stack<L::Io>,
    {
        let (service, incoming) = hand_off(HANDED_OVER);
        let handle = self.listen(listener, layers.service(service)).spawn()?;
        Ok(incoming.of(handle))
    }
}

/// How many connections wait in the stream; further ones wait in their tasks.
const HANDED_OVER: usize = 16;

/// Returns a service that hands connections over, and the stream that yields them.
///
/// The stream holds up to `capacity` connections, at least one. Further connections wait in their tasks with
/// their guards, so a limit in the stack bounds them. A waiting connection that is closed from outside, for
/// example with [`Handle::close`], ends immediately and does not appear in the stream.
pub fn hand_off<IO>(capacity: usize) -> (HandOff<IO>, Incoming<IO>) {
    let (sender, connections) = mpsc::channel(capacity.clamp(1, Semaphore::MAX_PERMITS));
    let incoming = Incoming {
        connections,
        end: watch::Sender::new(false),
        server: None,
        linger: Linger::new(),
    };
    (HandOff { sender }, incoming)
}

/// The innermost service of a stack that hands its connections over; see the [module docs](self).
pub struct HandOff<IO> {
    sender: mpsc::Sender<Connection<IO>>,
}

impl<IO> Clone for HandOff<IO> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
        }
    }
}

impl<IO> fmt::Debug for HandOff<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandOff")
            .field("capacity", &self.sender.capacity())
            .finish()
    }
}

impl<IO: Send + 'static> Service<Connection<IO>> for HandOff<IO> {
    type Response = ();
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

    /// The future waits for capacity, because reserving it here would let an unfinished handshake hold it.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(if self.sender.is_closed() {
            Err(HandOffError(()).into())
        } else {
            Ok(())
        })
    }

    fn call(&mut self, connection: Connection<IO>) -> Self::Future {
        let sender = self.sender.clone();
        let closed = connection.info().closed();
        Box::pin(async move {
            tokio::select! {
                biased;
                handed_over = sender.send(connection) => {
                    handed_over.map_err(|_connection_is_dropped| HandOffError(()).into())
                }
                () = closed => Err(ForcedClose::new().into()),
            }
        })
    }
}

/// The [`Incoming`] was dropped, so connections can no longer be handed off.
#[derive(Debug)]
pub struct HandOffError(());

impl fmt::Display for HandOffError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("connections can no longer be handed off")
    }
}

impl error::Error for HandOffError {}

/// A stream of connections that have passed the layers; see the [module docs](self).
///
/// It ends after the server has stopped and all accepted connections have been taken. A stream from
/// [`Server::incoming`](crate::Server::incoming) stops its server when it is dropped.
pub struct Incoming<IO> {
    connections: mpsc::Receiver<Connection<IO>>,
    /// Whether the stream has ended.
    end: watch::Sender<bool>,
    server: Option<StopServerOnDrop>,
    linger: Linger,
}

impl<IO> Incoming<IO> {
    /// Stops `server` when this is dropped.
    pub(crate) fn of(mut self, server: Handle) -> Self {
        self.server = Some(StopServerOnDrop(server));
        self
    }

    /// Returns the handle of the server that [`Server::incoming`](crate::Server::incoming) started.
    pub fn handle(&self) -> Option<&Handle> {
        self.server.as_ref().map(|server| &server.0)
    }

    /// Sets how `axum::serve` and tonic's server linger at the end of a connection.
    ///
    /// The defaults are those of [`Linger::new`]. This applies to `Incoming::into_axum` and the
    /// `Incoming::tonic` methods, which wrap each connection in a [`LingerIo`](super::LingerIo). Connections
    /// from [`recv`](Self::recv) do not linger on their own; end them with [`Connection::close`], or wrap
    /// them likewise.
    #[must_use]
    pub const fn with_linger(mut self, linger: Linger) -> Self {
        self.linger = linger;
        self
    }

    /// Returns the limits set by [`with_linger`](Self::with_linger).
    pub const fn linger(&self) -> Linger {
        self.linger
    }

    /// Waits for the next connection; returns `None` at the end of the stream.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe; dropping the future loses only the wait.
    pub async fn recv(&mut self) -> Option<Connection<IO>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Resolves half a second after the stream has ended.
    ///
    /// Use this as the shutdown signal for `axum::serve` or tonic, which close idle connections as soon as
    /// they are signalled. The half second lets the last client send its request. Any other signal may fire
    /// while accepted connections are still inside the layers; let that signal stop the server
    /// ([`Server::stop_on`](crate::Server::stop_on)), and this follows.
    ///
    /// It resolves immediately if the stream was dropped, or if the server has finished while a task that
    /// blocks its thread keeps the stream open.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe; it may be called any number of times.
    pub fn drained(&self) -> impl Future<Output = ()> + Send + use<IO> {
        let end = self.end.subscribe();
        let server = self.handle().cloned();
        async move {
            tokio::select! {
                () = idle_grace_period(end) => {}
                () = stopped(server) => {}
            }
        }
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Connection<IO>>> {
        loop {
            match ready!(self.connections.poll_recv(cx)) {
                // Closed from outside while it waited here.
                Some(connection) if connection.info().is_forced() => drop(connection),
                Some(connection) => return Poll::Ready(Some(connection)),
                None => {
                    self.end.send_replace(true);
                    return Poll::Ready(None);
                }
            }
        }
    }
}

impl<IO> Stream for Incoming<IO> {
    type Item = Connection<IO>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Connection<IO>>> {
        self.poll_recv(cx)
    }
}

impl<IO> fmt::Debug for Incoming<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("waiting", &self.connections.len())
            .finish_non_exhaustive()
    }
}

struct StopServerOnDrop(Handle);

impl Drop for StopServerOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Resolves after the idle grace period from `end`, or immediately if `end` is unreachable.
async fn idle_grace_period(mut end: watch::Receiver<bool>) {
    if end.wait_for(|end| *end).await.is_ok() {
        sleep(IDLE_GRACE_PERIOD).await;
    }
}

async fn stopped(server: Option<Handle>) {
    match server {
        Some(server) => drop(server.wait().await),
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_middleware::testing;
    use std::time::Duration;
    use tokio::time::advance;
    use tokio_test::{assert_pending, assert_ready, task};

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_drained_half_a_second_after_its_end() {
        let (service, mut connections) = hand_off::<()>(1);
        let mut drained = task::spawn(connections.drained());
        drop(service);
        // The end is still unread, so connections might be waiting.
        assert_pending!(drained.poll());
        advance(Duration::from_secs(9)).await;
        assert_pending!(drained.poll());
        assert!(connections.recv().await.is_none());
        assert_pending!(drained.poll());
        advance(Duration::from_millis(499)).await;
        assert_pending!(drained.poll());
        advance(Duration::from_millis(1)).await;
        assert_ready!(drained.poll());
    }

    fn connection() -> Connection<()> {
        testing::connection(())
    }

    #[test]
    fn a_connection_that_is_closed_while_it_waits_for_room_ends_and_does_not_come_out() {
        let (mut service, mut connections) = hand_off(1);
        let [first, second, third] = [(); 3].map(|()| connection());
        let (closed, last) = (second.info().clone(), third.id());
        assert_ready!(task::spawn(service.call(first)).poll()).unwrap();
        let mut waiting = task::spawn(service.call(second));
        let mut other = task::spawn(service.call(third));
        assert_pending!(waiting.poll());
        assert_pending!(other.poll());
        closed.force_close();
        assert!(waiting.is_woken() && !other.is_woken());
        let error = assert_ready!(waiting.poll()).unwrap_err();
        assert!(error.is::<ForcedClose>(), "{error}");
        assert!(assert_ready!(task::spawn(connections.recv()).poll()).is_some());
        assert_ready!(other.poll()).unwrap();
        let next = assert_ready!(task::spawn(connections.recv()).poll());
        assert_eq!(next.map(|connection| connection.id()), Some(last));
    }

    #[test]
    fn a_connection_that_is_closed_while_it_lies_ready_does_not_come_out() {
        let (mut service, mut connections) = hand_off(3);
        for close in [false, true, false] {
            let connection = connection();
            let info = connection.info().clone();
            assert_ready!(task::spawn(service.call(connection)).poll()).unwrap();
            if close {
                info.force_reset();
            }
        }
        drop(service);
        let mut next = || assert_ready!(task::spawn(connections.recv()).poll());
        assert!(next().is_some() && next().is_some());
        assert!(next().is_none());
    }

    #[test]
    fn a_stream_is_drained_when_it_is_dropped() {
        let (_service, connections) = hand_off::<()>(1);
        let mut drained = task::spawn(connections.drained());
        assert_pending!(drained.poll());
        drop(connections);
        assert!(drained.is_woken());
        assert_ready!(drained.poll());
    }
}
