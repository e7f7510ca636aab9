//! Serves the connections of listeners with stacks, and shuts down gracefully.
//!
//! A [`Server`] holds (listener, stack) pairs under one [`Handle`] and one drain. Configure it, then either
//! [`run`](Server::run) it until it stops or [`spawn`](Server::spawn) it. Both consume the server, so it cannot
//! be started twice.
//!
//! ```
//! use portcullis::{Connection, Server, listener::TcpListener, middleware::peer_addr::PeerAddrLayer};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use tower::ServiceBuilder;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), portcullis::BoxError> {
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let address = listener.local_addr()?;
//! let stack = ServiceBuilder::new()
//!     .layer(PeerAddrLayer::new())
//!     .service_fn(|mut connection: Connection<_>| async move { connection.write_all(b"hello").await });
//!
//! let handle = Server::new().listen(listener, stack).spawn()?;
//!
//! let mut received = String::new();
//! let mut client = tokio::net::TcpStream::connect(address).await?;
//! client.read_to_string(&mut received).await?;
//! assert_eq!(received, "hello");
//!
//! handle.stop();
//! let report = handle.wait().await;
//! assert!(report.force_closed().is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! # Graceful shutdown
//!
//! A server shuts down on [`Handle::stop`], when a future given to [`stop_on`](Server::stop_on) resolves, or on a
//! signal ([`stop_on_signals`](Server::stop_on_signals)). It then goes through the stages of [`Drain`]: it notifies
//! the connections, stops accepting, waits, and force-closes the remaining connections at the deadline.
//!
//! # Listeners that come and go
//!
//! Each listener has its own state, counters and drain. Its [`ListenerHandle`] pauses, closes or drains it while
//! the others go on, and [`Handle::listen_as`] adds one to a running server. What the server's [`Handle`] does
//! applies to all of them. A server shuts down when its last listener has closed, unless it runs
//! [until it is stopped](Server::until_stopped).

mod acceptor;
mod acceptors;
mod clock;
mod config;
mod drain;
mod error;
mod frontend;
mod handle;
mod heartbeat;
mod lifecycle;
mod listener_drain;
mod listener_handle;
mod listener_state;
mod listeners;
mod ongoing_log;
mod recorder;
mod registry;
pub(crate) mod shared;
mod shutdown;
pub(crate) mod spawn;
mod stack;
mod status;
mod task;
mod triggers;
mod workers;

pub use self::{
    config::{Config, ListenerConfig},
    drain::{BrokenListener, Drain, Report},
    error::ServeError,
    handle::Handle,
    listener_handle::ListenerHandle,
    stack::Stack,
    status::{State, Status},
    workers::Workers,
};

use self::{
    frontend::{Environment, Frontend, TypedFrontend},
    shutdown::{ServerDrainer, StoppedGuard},
    triggers::Trigger,
    workers::WorkerThread,
};
use crate::{listener::Listener, listener::accept_error::AcceptErrorPolicy};
use portcullis_middleware::limit::LimitHandle;
use std::{collections::HashSet, fmt, time::Duration};
use tokio::{sync::mpsc, task::JoinSet};

/// Serves connections of listeners with stacks; see the [module docs](self).
#[must_use = "a server does nothing until it is run or spawned"]
pub struct Server {
    frontends: Vec<Box<dyn Frontend>>,
    workers: Workers,
    drain: Drain,
    policy: AcceptErrorPolicy,
    triggers: Vec<Trigger>,
    stop_when_idle: Option<Duration>,
    until_stopped: bool,
    on_start: Vec<Hook<Handle>>,
    on_stop: Vec<Hook<Report>>,
    handle: Handle,
    stopped_guard: StoppedGuard,
}

impl Server {
    /// Creates a server without listeners, on the caller's runtime.
    pub fn new() -> Self {
        let handle = Handle::new();
        Self {
            stopped_guard: StoppedGuard(handle.shared().clone()),
            frontends: Vec::new(),
            workers: Workers::Caller,
            drain: Drain::new(),
            policy: AcceptErrorPolicy::new(),
            triggers: Vec::new(),
            stop_when_idle: None,
            until_stopped: false,
            on_start: Vec::new(),
            on_stop: Vec::new(),
            handle,
        }
    }

    /// Serves the connections of `listener` with `stack`. The listener's name is its address, with a number if it
    /// is not the first one of that name.
    pub fn listen<L, S>(self, listener: L, stack: S) -> Self
    where
        L: Listener,
        S: Stack<L::Io>,
    {
        let address = listener.local_address().to_string();
        let has_name = |name: &str| self.frontends.iter().any(|other| other.name() == name);
        let numbered = (2..).map(|number| format!("{address} ({number})"));
        let mut names = [address.clone()].into_iter().chain(numbered);
        let name = names.find(|name| !has_name(name)).unwrap_or(address);
        self.listen_as(name, listener, stack)
    }

    /// Serves the connections of `listener` with `stack`, under a name.
    ///
    /// The name appears in logs and in
    /// [`ConnectionInfo::listener`](portcullis_middleware::ConnectionInfo::listener), and finds the listener's
    /// [handle](Handle::listener). Two listeners with one name are an error when the server starts.
    ///
    /// To add a listener to a running server, see [`Handle::listen_as`].
    pub fn listen_as<L, S>(mut self, name: impl Into<String>, listener: L, stack: S) -> Self
    where
        L: Listener,
        S: Stack<L::Io>,
    {
        let name = name.into();
        self.frontends.push(Box::new(TypedFrontend {
            name,
            listeners: vec![listener],
            stack,
        }));
        self
    }

    /// Serves the connections of several listeners with one stack, whose limits they share.
    pub fn listen_all<L, S>(mut self, listeners: impl IntoIterator<Item = L>, stack: S) -> Self
    where
        L: Listener,
        S: Stack<L::Io>,
    {
        for listener in listeners {
            self = self.listen(listener, stack.clone());
        }
        self
    }

    /// Sets which threads serve. The default is the caller's runtime.
    pub fn workers(mut self, workers: Workers) -> Self {
        self.workers = workers;
        self
    }

    /// Sets how the server shuts down.
    pub fn drain(mut self, drain: Drain) -> Self {
        self.drain = drain;
        self
    }

    /// Sets how the server handles accept errors.
    pub fn accept_errors(mut self, policy: AcceptErrorPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Stops the server when `trigger` resolves. With several triggers, the first one counts.
    pub fn stop_on(mut self, trigger: impl Future<Output = ()> + Send + 'static) -> Self {
        self.triggers.push(Trigger::Future(Box::pin(trigger)));
        self
    }

    /// Stops the server on SIGINT (Ctrl-C) and SIGTERM. A second signal force-closes the connections.
    ///
    /// On systems other than Unix it stops on Ctrl-C. Once the server has started, these signals no longer end
    /// the process, even after the server has stopped, because tokio keeps its signal handlers.
    pub fn stop_on_signals(mut self) -> Self {
        self.triggers.push(Trigger::Signals);
        self
    }

    /// Stops the server after `limit` without any connection alive or accepted. A paused listener, which may have
    /// clients in its queue, keeps the server running.
    ///
    /// Off by default. For a bare listener, see
    /// [`accept_within`](crate::listener::Listener::accept_within).
    pub fn stop_when_idle(mut self, limit: Duration) -> Self {
        self.stop_when_idle = Some(limit);
        self
    }

    /// Runs the server until it is stopped, also while it has no listener.
    ///
    /// By default a server without a listener does not start, and a server shuts down when its last listener has
    /// closed or is broken.
    pub fn until_stopped(mut self) -> Self {
        self.until_stopped = true;
        self
    }

    /// Lets the server's [`Handle`] show and change `limit`.
    ///
    /// It belongs to a [`ConnectionLimitLayer`](portcullis_middleware::limit::ConnectionLimitLayer) in a stack. Only
    /// the first one given counts.
    pub fn limit(self, limit: LimitHandle) -> Self {
        self.handle.shared().limit.get_or_init(|| limit);
        self
    }

    /// Calls `hook` when all listeners are accepting.
    pub fn on_start(mut self, hook: impl FnOnce(&Handle) + Send + 'static) -> Self {
        self.on_start.push(Box::new(hook));
        self
    }

    /// Calls `hook` after the shutdown.
    pub fn on_stop(mut self, hook: impl FnOnce(&Report) + Send + 'static) -> Self {
        self.on_stop.push(Box::new(hook));
        self
    }

    /// The handle of this server, for example for a stack that stops it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs the server until it stops, on the caller's runtime with I/O and time enabled.
    ///
    /// # Errors
    ///
    /// Fails if the server cannot start, or if it shuts down because all listeners are broken.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the listeners immediately. Connections on the caller's runtime go on without a
    /// server, and those on workers are dropped.
    ///
    /// ```compile_fail,E0382
    /// # async fn twice(server: portcullis::Server) -> Result<(), portcullis::BoxError> {
    /// server.run().await?;
    /// server.run().await?; // the server is gone
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run(self) -> Result<Report, ServeError> {
        self.start()?.finish().await
    }

    /// Starts the server on the caller's runtime and leaves it running in the background.
    ///
    /// # Errors
    ///
    /// Fails if the server cannot start.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn spawn(self) -> Result<Handle, ServeError> {
        let handle = self.handle();
        let running = self.start()?;
        // The result is in the handle's report.
        drop(tokio::spawn(running.finish()));
        Ok(handle)
    }

    fn start(mut self) -> Result<RunningServer, ServeError> {
        // First, because this fails if the caller's configuration is wrong, and nothing runs yet.
        self.check_listeners()?;
        let shared = self.handle.shared().clone();
        self.triggers.extend(self.stop_when_idle.map(Trigger::Idle));
        let triggers = std::mem::take(&mut self.triggers);
        let triggers = triggers::arm(triggers, &shared).map_err(ServeError::signals)?;
        let threads = self.workers.start().map_err(ServeError::workers)?;
        shared.registry.start(threads.len());
        shared.clock.start(&shared.registry, &threads);
        shared.config.get_or_init(|| self.config());
        let env = Environment {
            policy: self.policy,
            workers: self.workers,
            caller: tokio::runtime::Handle::current(),
            runtimes: threads.iter().map(WorkerThread::runtime).cloned().collect(),
        };
        let (sender, added) = mpsc::unbounded_channel();
        shared.listeners.start(env, sender);
        for frontend in self.frontends {
            shared.listeners.add(&shared, frontend)?;
        }
        shared.lifecycle.started();
        for hook in self.on_start {
            hook(&self.handle);
        }
        Ok(RunningServer {
            drainer: ServerDrainer::new(self.stopped_guard, self.drain, self.until_stopped, added),
            triggers,
            threads,
            on_stop: self.on_stop,
        })
    }

    /// Splits the listeners for the workers, and checks their names.
    fn check_listeners(&mut self) -> Result<(), ServeError> {
        if self.frontends.is_empty() && !self.until_stopped {
            return Err(ServeError::no_listener());
        }
        let mut names = HashSet::new();
        for frontend in &mut self.frontends {
            if !names.insert(frontend.name().to_owned()) {
                return Err(ServeError::name_taken(frontend.name()));
            }
            frontend.shard(self.workers.listeners())?;
        }
        Ok(())
    }

    fn config(&self) -> Config {
        Config {
            listeners: self
                .frontends
                .iter()
                .map(|frontend| frontend.config())
                .collect(),
            workers: self.workers,
            drain: self.drain.clone(),
            accept_errors: self.policy.clone(),
            stop_when_idle: self.stop_when_idle,
            until_stopped: self.until_stopped,
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("config", &self.config())
            .finish_non_exhaustive()
    }
}

/// A callback that runs once.
type Hook<T> = Box<dyn FnOnce(&T) + Send>;

/// A server that was started.
struct RunningServer {
    drainer: ServerDrainer,
    /// Armed triggers, which this keeps alive.
    triggers: JoinSet<()>,
    threads: Vec<WorkerThread>,
    on_stop: Vec<Hook<Report>>,
}

impl RunningServer {
    async fn finish(mut self) -> Result<Report, ServeError> {
        let report = self.drainer.run().await;
        drop(self.triggers);
        // If every connection has ended, the threads end as soon as they get to run.
        let patience = match report.still_running() {
            0 => Duration::from_secs(5),
            _ => Duration::from_millis(100),
        };
        WorkerThread::end_all(self.threads, patience, self.drainer.clock()).await;
        self.drainer.keep(report.clone());
        for hook in self.on_stop {
            hook(&report);
        }
        let has_broken = self.drainer.has_broken;
        drop(self.drainer);
        match report.broken_listeners() {
            [.., broken] if has_broken => Err(ServeError::listener(broken)),
            _ => Ok(report),
        }
    }
}
