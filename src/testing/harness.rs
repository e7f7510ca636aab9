//! Runs a whole stack under a server in memory.

use super::TestIo;
use crate::{
    Server,
    listener::{MemoryConnector, MemoryListener},
    server::Stack,
    server::{Handle, Report, State, Status},
};
use portcullis_middleware::{
    connection::{Address, Transport},
    testing::{Peer, Seen},
};
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::{
    io::{DuplexStream, duplex},
    time::{sleep, timeout},
};

/// Runs a stack under a real server with in-memory clients, and checks that everything ends.
///
/// Clients are pipes that the test reads and writes ([`connect`](Self::connect)) or scripts
/// ([`play`](Self::play)), which run concurrently against the same stack. [`finish`](Self::finish) stops the
/// server and checks that connections and tasks have ended, and that as many connections ended as started.
///
/// The stack must accept a [`TestIo`]. A stack in its own function is generic: `fn stack<Io: Transport>() ->
/// impl Stack<Io>`.
///
/// Made for `#[tokio::test(start_paused = true)]`; see the [module docs](super) about time.
///
/// ```
/// use portcullis::{
///     Connection, ServiceBuilderExt,
///     middleware::{error::TimeoutPhase, outcome::Outcome},
///     testing::{Harness, Peer},
/// };
/// use std::time::Duration;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use tower::ServiceBuilder;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> std::io::Result<()> {
/// let stack = ServiceBuilder::new()
///     .peer_addr()
///     .io_timeout() // 60 s
///     .service_fn(|mut connection: Connection<_>| async move {
///         let byte = connection.read_u8().await?;
///         connection.write_u8(byte).await?;
///         connection.close().await
///     });
/// let harness = Harness::new(stack);
///
/// let slow = harness.play(Peer::new().stalls(Duration::from_secs(59)).sends("x"));
/// let silent = harness.play(Peer::new());
/// let mut client = harness.connect();
/// client.write_u8(7).await?;
/// assert_eq!(client.read_u8().await?, 7);
/// drop(client);
///
/// harness.idle().await;
/// assert_eq!(slow.written(), b"x");
/// assert_eq!(silent.written(), b"");
///
/// let end = harness.finish().await;
/// let timed_out = Outcome::TimedOut(TimeoutPhase::READ);
/// assert_eq!(end.status.outcomes, [(Outcome::Completed, 2), (timed_out, 1)]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "`finish` is what checks that nothing is left"]
pub struct Harness {
    handle: Handle,
    connector: MemoryConnector<TestIo>,
    clients: AtomicU64,
    /// The number of tasks before the start.
    tasks: usize,
}

impl Harness {
    /// Serves `stack` with a default server.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn new(stack: impl Stack<TestIo>) -> Self {
        Self::with_server(Server::new(), stack)
    }

    /// Serves `stack` with `server`, which may have hooks, a drain and more listeners.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, and if the server cannot start.
    #[track_caller]
    pub fn with_server(server: Server, stack: impl Stack<TestIo>) -> Self {
        let tasks = alive_tasks();
        let (listener, connector) = MemoryListener::pair_of();
        let listener = listener.with_local_address(loopback(80));
        let handle = server.listen(listener, stack).spawn();
        Self {
            handle: handle.expect("the server starts"),
            connector,
            clients: AtomicU64::new(0),
            tasks,
        }
    }

    /// Connects a client that the test drives, from its own address on 127.0.0.1.
    ///
    /// # Panics
    ///
    /// When the server has stopped, or 1024 connections wait to be accepted.
    #[track_caller]
    pub fn connect(&self) -> DuplexStream {
        self.connect_from(self.next_address())
    }

    /// Connects a client from the address `peer`.
    ///
    /// # Panics
    ///
    /// As [`connect`](Self::connect).
    #[track_caller]
    pub fn connect_from(&self, peer: impl Into<Address>) -> DuplexStream {
        let (client, server) = duplex(BUFFER);
        self.deliver(server.into(), peer.into());
        client
    }

    /// Connects a client that runs `script`; the result reports what it received.
    ///
    /// # Panics
    ///
    /// As [`connect`](Self::connect).
    #[track_caller]
    pub fn play(&self, script: Peer) -> Seen {
        let (io, seen) = script.pair();
        let peer = match io.peer_address() {
            Address::Unknown => self.next_address(),
            known => known,
        };
        self.deliver(io.into(), peer);
        seen
    }

    /// Returns the server's handle.
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Returns the server's status.
    pub fn status(&self) -> Status {
        self.handle.status()
    }

    /// Waits until all clients, also those of other listeners, have been served, and one millisecond more.
    ///
    /// # Panics
    ///
    /// When that takes longer than ten minutes, because of an endless script or a client that the test still
    /// holds.
    pub async fn idle(&self) {
        let idle = async {
            while !self.is_idle() {
                // Ends are counted, and clients accepted, a moment later.
                self.handle.shared().registry.emptied().await;
                sleep(GRAIN).await;
            }
        };
        if timeout(PATIENCE, idle).await.is_err() {
            panic!(
                "after {PATIENCE:?} connections are still being served: {:?}",
                self.handle.connections()
            );
        }
    }

    /// Stops the server and checks that every connection ended on its own before the drain's deadline.
    ///
    /// # Panics
    ///
    /// When connections were force-closed, or when a connection, a task or an uncounted end remains. Tasks
    /// that the test has spawned count, so wait for them first.
    pub async fn finish(self) -> HarnessOutcome {
        let end = self.force_close().await;
        let cut = end.report.force_closed();
        assert!(
            cut.is_empty(),
            "connections that were force-closed at the drain's deadline: {cut:?}"
        );
        end
    }

    /// Like [`finish`](Self::finish), but allows connections to be force-closed.
    ///
    /// # Panics
    ///
    /// As [`finish`](Self::finish), except for force-closed connections.
    pub async fn force_close(self) -> HarnessOutcome {
        self.handle.stop();
        let report = self.handle.wait().await;
        let status = self.handle.status();
        assert_eq!(status.state, State::Stopped);
        assert_eq!(status.active, 0, "connections are still open");
        let ends: u64 = status.outcomes.iter().map(|(_, count)| count).sum();
        assert_eq!(ends, status.accepted, "as many ends as starts: {status:?}");
        let gone = async {
            while alive_tasks() > self.tasks {
                sleep(GRAIN).await;
            }
        };
        if timeout(MOMENT, gone).await.is_err() {
            panic!(
                "{} tasks are left that were not there before",
                alive_tasks() - self.tasks
            );
        }
        HarnessOutcome { status, report }
    }

    fn is_idle(&self) -> bool {
        let status = self.status();
        let ends: u64 = status.outcomes.iter().map(|(_, count)| count).sum();
        // The server may have more listeners, so it may count more ends than the harness has clients.
        self.connector.waiting() == 0
            && status.accepted >= self.clients.load(Ordering::Relaxed)
            && status.active == 0
            && ends == status.accepted
    }

    #[track_caller]
    fn deliver(&self, io: TestIo, peer: Address) {
        self.clients.fetch_add(1, Ordering::Relaxed);
        let delivered = self.connector.deliver(io, peer);
        delivered.expect("the server runs and its queue has capacity");
    }

    fn next_address(&self) -> Address {
        let client = self.clients.load(Ordering::Relaxed) % DYNAMIC_PORTS;
        loopback(u16::MAX - client as u16)
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        self.handle.stop_at_once();
    }
}

/// How the server ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HarnessOutcome {
    /// The final counts of connections, by outcome.
    pub status: Status,
    /// The drain's report.
    pub report: Report,
}

fn loopback(port: u16) -> Address {
    SocketAddr::from(([127, 0, 0, 1], port)).into()
}

fn alive_tasks() -> usize {
    tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks()
}

/// The buffer of each direction of a client.
const BUFFER: usize = 64 * 1024;

/// Ports from 49152 on are unassigned (RFC 6335).
const DYNAMIC_PORTS: u64 = 65_536 - 49_152;

/// The interval between checks.
const GRAIN: Duration = Duration::from_millis(1);

/// Longer than any time that a test covers.
const PATIENCE: Duration = Duration::from_secs(600);

/// Finished tasks may need one more poll.
const MOMENT: Duration = Duration::from_secs(1);
