//! Controls and observes one listener of a running server.

use super::{Drain, Report, State, Status, listener_state::ListenerState};
#[cfg(unix)]
use crate::listener::WeakSocket;
use portcullis_middleware::{ConnectionInfo, limit::LimitHandle};
use std::sync::Arc;
use tokio::time::Instant;

/// Controls and observes one listener, while the others go on. Clones refer to the same listener.
///
/// [`Handle::listener`](super::Handle::listener) and [`Handle::listen_as`](super::Handle::listen_as) return it. It
/// stays valid after the listener has stopped, and then shows its last counters.
#[derive(Clone, Debug)]
pub struct ListenerHandle(Arc<ListenerState>);

impl ListenerHandle {
    pub(super) const fn new(state: Arc<ListenerState>) -> Self {
        Self(state)
    }

    #[cfg(test)]
    pub(super) fn inner(&self) -> &ListenerState {
        &self.0
    }

    /// The name, for logs and handlers.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// A snapshot of state, counters and limit of this listener.
    pub fn status(&self) -> Status {
        self.0.status()
    }

    /// The state alone, which counts nothing.
    pub fn state(&self) -> State {
        self.0.lifecycle.state()
    }

    /// The connections of this listener that are alive, including upgraded and handed-off ones.
    ///
    /// Walks the whole table of the server, so call it rarely.
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.0.registry.connections_of(self.0.key)
    }

    /// Leaves new connections of this listener in the kernel's queue, while accepted ones go on.
    ///
    /// A listener that is [added](super::Handle::listen_as) while the server is paused can be paused before it accepts
    /// anything.
    /// False if it is paused already, closed or shuts down. It is independent of [`Handle::pause`](super::Handle::pause).
    /// A listener accepts while neither it nor its server is paused.
    pub fn pause(&self) -> bool {
        self.0.lifecycle.pause()
    }

    /// Accepts again, if the server is not paused. False if the listener was not paused on its own.
    pub fn resume(&self) -> bool {
        self.0.lifecycle.resume()
    }

    /// Lets this handle show and change `limit`. False if it has one already.
    ///
    /// It belongs to a [`ConnectionLimitLayer`](portcullis_middleware::limit::ConnectionLimitLayer) in the stack of
    /// this listener.
    pub fn use_limit(&self, limit: LimitHandle) -> bool {
        self.0.limit.set(limit).is_ok()
    }

    /// The limit given to [`use_limit`](Self::use_limit), if any.
    pub fn limit(&self) -> Option<&LimitHandle> {
        self.0.limit.get()
    }

    /// Changes the limit given to [`use_limit`](Self::use_limit). False without one.
    ///
    /// See [`LimitHandle::set_limit`].
    pub fn set_limit(&self, limit: usize) -> bool {
        self.limit()
            .inspect(|handle| handle.set_limit(limit))
            .is_some()
    }

    /// Stops accepting on this listener and returns immediately; see [`closed`](Self::closed).
    ///
    /// Connections that wait in the kernel's accept queue are served, also if the listener was paused. Then the
    /// socket closes. Accepted connections go on without a notification; [`drain`](Self::drain) may follow. False
    /// if it is closed already.
    ///
    /// A server whose last listener has closed shuts down, unless it runs
    /// [until it is stopped](super::Server::until_stopped).
    pub fn close(&self) -> bool {
        self.0.lifecycle.close()
    }

    /// Resolves when the socket has closed, after [`close`](Self::close), during a drain or after a fatal accept
    /// error.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub async fn closed(&self) {
        self.0.lifecycle.has_closed_socket().await;
    }

    /// The listening sockets, to pass them to another process: one, or one for each worker.
    ///
    /// Empty for listeners without a socket of the system. After the listener has closed,
    /// [`WeakSocket::duplicate`] returns `None`. See [`hand_over`](Self::hand_over).
    #[cfg(unix)]
    pub fn sockets(&self) -> &[WeakSocket] {
        self.0.sockets.get().map_or(&[], |sockets| sockets)
    }

    /// Stops accepting on this listener and leaves its accept queue to another process, which has received its
    /// [`sockets`](Self::sockets).
    ///
    /// In contrast to [`close`](Self::close), the clients in the queue stay there, and the file of a Unix socket
    /// is not removed. Accepted connections go on; [`drain`](Self::drain) or a stop of the server may follow. If no
    /// other process has the sockets, the clients in the queue are reset. False if the listener is closed or drains
    /// already.
    ///
    /// ```
    /// use portcullis::{Connection, Server, listener::TcpListener};
    /// use tower::service_fn;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), portcullis::BoxError> {
    /// let server = Server::new().until_stopped().spawn()?;
    /// let stack = service_fn(async |stream| {
    ///     drop(stream);
    ///     Ok::<_, std::convert::Infallible>(())
    /// });
    /// let front = server.listen_as("front", TcpListener::bind("127.0.0.1:0")?, stack)?;
    ///
    /// let socket = front.sockets()[0].duplicate()?.expect("it is open");
    /// // Send the socket to the new process, over a Unix socket, and wait until that is ready. Then:
    /// assert!(front.hand_over());
    /// front.closed().await;
    /// server.stop();
    /// # drop(socket);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(unix)]
    pub fn hand_over(&self) -> bool {
        let keep_files = |keep| {
            for socket in self.sockets() {
                socket.keep_file(keep);
            }
        };
        // First, because the acceptors may end immediately.
        keep_files(true);
        let handed_over = self.0.lifecycle.hand_over();
        if !handed_over {
            keep_files(self.0.lifecycle.is_handed_over());
        }
        handed_over
    }

    /// Shuts down this listener and its connections by the stages of [`Drain`], while the others go on.
    ///
    /// The drain begins with this call. The future resolves with the report when it has ended. A second drain, or
    /// that of the server, can bring the stages forward and never puts them off; the report is the same.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the drain.
    pub fn drain(&self, drain: Drain) -> impl Future<Output = Report> + Send + use<> {
        let schedule = drain.schedule(Instant::now());
        self.0.lifecycle.drain(schedule);
        let listener = self.0.clone();
        async move {
            listener.lifecycle.stopped().await;
            // The report is stored before the state changes.
            listener.report.get().cloned().unwrap_or_default()
        }
    }
}
