//! A whole stack under a server, in memory.

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

/// A stack under a real server, with clients in memory, and a check that nothing is left of it.
///
/// Clients are pipes that the test reads and writes ([`connect`](Self::connect)) or scripts that run by
/// themselves ([`play`](Self::play)), side by side against the same stack. [`finish`](Self::finish) stops
/// the server and holds it to what it owes: no open connection, no task, as many ends as starts.
///
/// The stack has to take a [`TestIo`]; one that is a function of its own is generic:
/// `fn stack<Io: Transport>() -> impl Stack<Io>`.
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
    /// Tasks that were there before.
    tasks: usize,
}

impl Harness {
    /// Serves `stack` with a server as it is by default.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn new(stack: impl Stack<TestIo>) -> Self {
        Self::with_server(Server::new(), stack)
    }

    /// Serves `stack` with `server`, which has its drain, its hooks and more listeners by then.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, and where the server cannot start.
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

    /// Connects a client that the test drives, from an address of its own on 127.0.0.1.
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

    /// Connects a client that does what `script` says; what it saw tells how it was served.
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

    /// The remote control of the server.
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// How the server is doing.
    pub fn status(&self) -> Status {
        self.handle.status()
    }

    /// Waits until every client was served to its end, those of other listeners of the server too, and
    /// a millisecond more.
    ///
    /// # Panics
    ///
    /// When that takes longer than ten minutes: a script without an end, or a client that the test
    /// still holds.
    pub async fn idle(&self) {
        let idle = async {
            while !self.is_idle() {
                // Ends are counted, and clients accepted, a moment after that.
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

    /// Stops the server and checks that every connection came to an end by itself, within the drain's
    /// deadline, and that nothing is left.
    ///
    /// # Panics
    ///
    /// When connections had to be cut, or when a connection, a task, or an end that was not counted
    /// is left. Tasks that the test has spawned count: wait for them first.
    pub async fn finish(self) -> End {
        let end = self.force_close().await;
        let cut = end.report.force_closed();
        assert!(
            cut.is_empty(),
            "connections that had to be cut at the drain's deadline: {cut:?}"
        );
        end
    }

    /// Like [`finish`](Self::finish), where connections may have to be cut.
    ///
    /// # Panics
    ///
    /// As [`finish`](Self::finish), but not for connections that were cut.
    pub async fn force_close(self) -> End {
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
        End { status, report }
    }

    fn is_idle(&self) -> bool {
        let status = self.status();
        let ends: u64 = status.outcomes.iter().map(|(_, count)| count).sum();
        // The server may have more listeners, so there may be more ends than clients of ours.
        self.connector.waiting() == 0
            && status.accepted >= self.clients.load(Ordering::Relaxed)
            && status.active == 0
            && ends == status.accepted
    }

    #[track_caller]
    fn deliver(&self, io: TestIo, peer: Address) {
        self.clients.fetch_add(1, Ordering::Relaxed);
        let delivered = self.connector.deliver(io, peer);
        delivered.expect("the server runs, and has room for one more in its queue");
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

/// How it ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct End {
    /// The numbers at the end: how connections ended, how many were refused.
    pub status: Status,
    /// How the drain went.
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

/// Each direction of a client buffers as much.
const BUFFER: usize = 64 * 1024;

/// Ports from 49152 on are not assigned (RFC 6335).
const DYNAMIC_PORTS: u64 = 65_536 - 49_152;

/// How often to look.
const GRAIN: Duration = Duration::from_millis(1);

/// Longer than any time that a test is about.
const PATIENCE: Duration = Duration::from_secs(600);

/// Tasks that are over may have to be polled once more.
const MOMENT: Duration = Duration::from_secs(1);
