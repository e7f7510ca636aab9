//! Controls and observes a running server.

use super::{
    Config, Drain, ListenerHandle, Report, ServeError, Stack,
    frontend::TypedFrontend,
    shared::SharedState,
    status::{State, Status},
};
use crate::listener::Listener;
use portcullis_middleware::{ConnectionInfo, connection::ConnectionId, limit::LimitHandle};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::time::{Instant, timeout};

/// Controls and observes a server. Clones refer to the same server.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<SharedState>,
}

impl Handle {
    pub(super) fn new() -> Self {
        Self {
            shared: Arc::new(SharedState::new()),
        }
    }

    pub(crate) const fn shared(&self) -> &Arc<SharedState> {
        &self.shared
    }

    /// The handle of the server that accepted a connection. `None` without a server, or after it was dropped.
    ///
    /// ```
    /// use portcullis::{Connection, server::Handle};
    ///
    /// async fn stop_the_server<IO>(connection: Connection<IO>) {
    ///     if let Some(handle) = Handle::of(connection.info()) {
    ///         handle.stop();
    ///     }
    /// }
    /// ```
    pub fn of(info: &ConnectionInfo) -> Option<Self> {
        // Weak, because the server's report holds connection infos.
        let shared = info.server::<Weak<SharedState>>()?.upgrade()?;
        Some(Self { shared })
    }

    /// The settings that the server started with. `None` before its start.
    pub fn config(&self) -> Option<&Config> {
        self.shared.config.get()
    }

    /// A snapshot of state, counters and limit. The counters include listeners that have closed.
    pub fn status(&self) -> Status {
        let SharedState {
            listeners,
            registry,
            ..
        } = &*self.shared;
        let counters = listeners.counters();
        Status::new(self.state(), &counters, registry.active(), self.limit())
    }

    /// Adds a listener to the running server and serves its connections with `stack`.
    ///
    /// It accepts as soon as this returns, on the threads of the server. A paused server leaves its clients in the
    /// queue. The name can be that of a listener that was [closed](ListenerHandle::close) or
    /// [drained](ListenerHandle::drain), while its last connections go on.
    ///
    /// # Errors
    ///
    /// [`is_name_taken`](ServeError::is_name_taken) if an open listener has this name,
    /// [`is_not_running`](ServeError::is_not_running) if the server has not started or no longer runs. It also
    /// fails if the server has a listener for each worker and `listener` cannot be split
    /// ([`Workers::PerCore`](super::Workers::PerCore)). The listener is closed then.
    ///
    /// ```
    /// use portcullis::{Connection, Server, ServiceBuilderExt, listener::TcpListener, server::Drain};
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// use tower::ServiceBuilder;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), portcullis::BoxError> {
    /// let server = Server::new().until_stopped().spawn()?;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let address = listener.local_addr()?;
    /// let stack = ServiceBuilder::new()
    ///     .peer_addr()
    ///     .service_fn(|mut connection: Connection<_>| async move { connection.write_all(b"hello").await });
    /// let front = server.listen_as("front", listener, stack)?;
    ///
    /// let mut received = String::new();
    /// let mut client = tokio::net::TcpStream::connect(address).await?;
    /// client.read_to_string(&mut received).await?;
    /// assert_eq!(received, "hello");
    ///
    /// let report = front.drain(Drain::new()).await;
    /// assert!(report.force_closed().is_empty());
    /// assert_eq!(front.status().accepted, 1);
    /// # server.stop();
    /// # server.wait().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn listen_as<L, S>(
        &self,
        name: impl Into<String>,
        listener: L,
        stack: S,
    ) -> Result<ListenerHandle, ServeError>
    where
        L: Listener,
        S: Stack<L::Io>,
    {
        self.listen_all_as(name, [listener], stack)
    }

    /// Like [`listen_as`](Self::listen_as), for several sockets under one name, which share a handle and the limits
    /// of `stack`.
    ///
    /// They may be the sockets that [another process handed over](ListenerHandle::hand_over), or addresses that
    /// belong together. With a listener for each worker ([`Workers::PerCore`](super::Workers::PerCore)), sockets
    /// beyond the number of workers share them, and the first one is split if there are fewer.
    ///
    /// # Errors
    ///
    /// As [`listen_as`](Self::listen_as), and if `listeners` is empty.
    pub fn listen_all_as<L, S>(
        &self,
        name: impl Into<String>,
        listeners: impl IntoIterator<Item = L>,
        stack: S,
    ) -> Result<ListenerHandle, ServeError>
    where
        L: Listener,
        S: Stack<L::Io>,
    {
        let frontend = TypedFrontend {
            name: name.into(),
            listeners: listeners.into_iter().collect(),
            stack,
        };
        if frontend.listeners.is_empty() {
            return Err(ServeError::no_listener());
        }
        let shared = &self.shared;
        let added = shared.listeners.add(shared, Box::new(frontend));
        added.map(ListenerHandle::new)
    }

    /// The listener with this name. `None` if there is none, or if it has [stopped](State::Stopped).
    ///
    /// If a listener took the name of another one that still drains, it is the new one. Before the start of the
    /// server there are no listeners.
    pub fn listener(&self, name: &str) -> Option<ListenerHandle> {
        self.shared.listeners.find(name).map(ListenerHandle::new)
    }

    /// The listeners that have not [stopped](State::Stopped), in the order in which they were added.
    pub fn listeners(&self) -> Vec<ListenerHandle> {
        let listeners = self.shared.listeners.all().into_iter();
        listeners.map(ListenerHandle::new).collect()
    }

    /// The state of the server.
    pub fn state(&self) -> State {
        self.shared.lifecycle.state()
    }

    /// Leaves new connections of all listeners in the kernel's queue, while accepted ones go on.
    ///
    /// A single listener is paused by its [handle](ListenerHandle::pause). False if the server is paused already or shuts down. A server that is stopped while it is paused accepts no
    /// connections during its notice period, and can no longer be resumed. After that it serves the clients that
    /// wait in the queue.
    pub fn pause(&self) -> bool {
        self.shared.listeners.set_server_paused(&self.shared, true)
    }

    /// Accepts again, except on listeners that were paused on their own. False if the server is not paused.
    pub fn resume(&self) -> bool {
        self.shared.listeners.set_server_paused(&self.shared, false)
    }

    /// The limit given to [`Server::limit`](super::Server::limit), if any.
    pub fn limit(&self) -> Option<&LimitHandle> {
        self.shared.limit.get()
    }

    /// Changes the limit given to [`Server::limit`](super::Server::limit). False without one.
    ///
    /// See [`LimitHandle::set_limit`].
    pub fn set_limit(&self, limit: usize) -> bool {
        self.limit()
            .inspect(|handle| handle.set_limit(limit))
            .is_some()
    }

    /// The connections that are alive, including upgraded and handed-off ones.
    ///
    /// Walks the whole table, so call it rarely.
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.shared.registry.connections()
    }

    /// The live connection with this number. `None` if there is none.
    pub fn connection(&self, id: ConnectionId) -> Option<ConnectionInfo> {
        self.shared.registry.find(id)
    }

    /// Closes the connection with this number. False if there is none.
    ///
    /// A pending operation and the next one fail, and [`ConnectionInfo::closed`] resolves, which layers with a
    /// queue await. A service that computes or awaits something else notices it at its next read or write.
    ///
    /// See [`ConnectionInfo::force_close`].
    pub fn close(&self, id: ConnectionId) -> bool {
        self.shared
            .registry
            .find(id)
            .inspect(ConnectionInfo::force_close)
            .is_some()
    }

    /// Resets the connection with this number. False if there is none.
    ///
    /// See [`ConnectionInfo::force_reset`].
    pub fn reset(&self, id: ConnectionId) -> bool {
        self.shared
            .registry
            .find(id)
            .inspect(ConnectionInfo::force_reset)
            .is_some()
    }

    /// Changes how the server shuts down. It has no effect on a shutdown that has begun.
    pub fn set_drain(&self, drain: Drain) {
        self.shared.set_drain(drain);
    }

    /// Starts a graceful shutdown and returns immediately; see [`wait`](Self::wait).
    ///
    /// A server that has not started yet shuts down when it starts.
    pub fn stop(&self) {
        self.shared.lifecycle.stop();
    }

    /// Shuts the server down without waiting for its connections, and returns immediately.
    pub fn stop_at_once(&self) {
        self.shared.lifecycle.stop_now();
    }

    /// Whether the server has stopped.
    pub fn is_stopped(&self) -> bool {
        self.state() == State::Stopped
    }

    /// Resolves when the server begins to shut down, whatever the reason.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub async fn draining(&self) {
        self.shared.lifecycle.draining().await;
    }

    /// When connections that are still open are force-closed. `None` before the shutdown begins.
    ///
    /// It is set once [`draining`](Self::draining) resolves, and kept after the server has stopped.
    /// [`stop_at_once`](Self::stop_at_once) does not wait for it.
    pub fn drain_deadline(&self) -> Option<Instant> {
        Some(self.shared.schedule.get()?.deadline)
    }

    /// Waits until the server has stopped and all `on_stop` hooks have run.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time. The server goes on.
    pub async fn wait(&self) -> Report {
        self.shared.lifecycle.stopped().await;
        // The report is stored before the state changes.
        self.shared.report.get().cloned().unwrap_or_default()
    }

    /// Waits until the server has stopped, for up to `limit`.
    ///
    /// Returns `None` after that, and the server goes on.
    pub async fn wait_for(&self, limit: Duration) -> Option<Report> {
        timeout(limit, self.wait()).await.ok()
    }
}
