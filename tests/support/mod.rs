//! What the integration tests have in common: a scenario with a runtime of its own, and the
//! invariants that must hold at the end of each.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "tests: each binary uses a part of it, and an unwrap that fails is a test that fails"
)]

#[cfg(unix)]
pub mod child;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub mod tls;

use portcullis::{
    Connection, Server,
    connection::Transport,
    listener::{MemoryConnector, MemoryListener, TcpListener},
    middleware::peer_addr::PeerAddrLayer,
    server::{Handle, Report, Stack, State, Status},
};
use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    net::TcpStream,
    runtime::Builder,
    time::{Instant, sleep, timeout},
};
use tower::{ServiceBuilder, service_fn};

/// Runs a test on a runtime of its own, one test at a time, and checks that it leaves no task
/// running and as many descriptors open as it found.
pub fn scenario(test: impl Future<Output = ()>) {
    let mut threads = Builder::new_multi_thread();
    run(threads.worker_threads(2), test);
}

/// Like [`scenario`], on one thread with time that stands still and leaps.
pub fn paused_scenario(test: impl Future<Output = ()>) {
    run(Builder::new_current_thread().start_paused(true), test);
}

fn run(builder: &mut Builder, test: impl Future<Output = ()>) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // The first runtime opens what the whole process keeps for signals.
    drop(builder.enable_all().build().unwrap());
    let before = descriptors();
    let runtime = builder.build().unwrap();
    runtime.block_on(async {
        timeout(Duration::from_secs(600), test)
            .await
            .expect("the scenario hangs");
        let metrics = tokio::runtime::Handle::current().metrics();
        eventually("no task is left", || metrics.num_alive_tasks() == 0).await;
    });
    drop(runtime);
    // A thread that watched a deadline lets go of the runtime a moment after it.
    let patience = Instant::now() + Duration::from_secs(2);
    while descriptors() != before && Instant::now() < patience {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    assert_eq!(descriptors(), before, "descriptors leaked");
}

/// Open descriptors of this process; where the system does not tell, always the same.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// Waits until `condition` holds, half a minute at most.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let holds = async {
        while !condition() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = timeout(Duration::from_secs(30), holds).await;
    assert!(waited.is_ok(), "not in time: {what}");
}

/// Gives back what it reads, until the end.
pub async fn echo(
    mut connection: Connection<impl AsyncRead + AsyncWrite + Unpin>,
) -> io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        let read = connection.read(&mut buffer).await?;
        if read == 0 {
            return connection.close().await;
        }
        connection.write_all(&buffer[..read]).await?;
    }
}

/// [`echo`] as a stack.
pub fn echo_stack() -> impl Stack<TcpStream> {
    ServiceBuilder::new()
        .layer(PeerAddrLayer::new())
        .service_fn(echo)
}

/// Writes `hello` and ends the connection.
pub fn hello<Io: Transport>() -> impl Stack<Io> {
    service_fn(|mut io: Io| async move { io.write_all(b"hello").await })
}

/// Reads text until the end.
pub async fn read_to_end(mut client: impl AsyncRead + Unpin) -> String {
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    text
}

/// A server on a port of loopback.
pub struct Fixture {
    pub handle: Handle,
    pub address: SocketAddr,
}

impl Fixture {
    /// Serves `stack` with the settings that `configure` makes.
    pub fn serve_with<S>(stack: S, configure: impl FnOnce(Server) -> Server) -> Self
    where
        S: Stack<TcpStream>,
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = configure(Server::new().listen(listener, stack));
        let handle = server.spawn().unwrap();
        Self { handle, address }
    }

    /// Serves `stack`.
    pub fn serve<S: Stack<TcpStream>>(stack: S) -> Self {
        Self::serve_with(stack, |server| server)
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub fn status(&self) -> Status {
        self.handle.status()
    }

    /// Waits until nothing is being served, and every end is recorded.
    pub async fn idle(&self) {
        idle(&self.handle).await;
    }

    /// Waits until `count` connections are active.
    pub async fn active(&self, count: usize) {
        eventually("connections are active", || self.status().active == count).await;
    }

    /// Stops the server and checks what must hold at every end.
    pub async fn finish(self) -> Report {
        let report = finish(&self.handle).await;
        assert!(
            TcpStream::connect(self.address).await.is_err(),
            "the listener is still open"
        );
        // A part of the server that did not hear of the end is only seen by the time it takes.
        assert!(
            !report.force_closed().is_empty() || report.took() < Duration::from_secs(29),
            "nothing was left, and yet the deadline came"
        );
        report
    }
}

/// Serves `stack` in memory.
pub fn serve_in_memory(stack: impl Stack<DuplexStream>) -> (Handle, MemoryConnector) {
    let (listener, connector) = MemoryListener::pair();
    let handle = Server::new().listen(listener, stack).spawn().unwrap();
    (handle, connector)
}

/// Stops the server and checks the invariants of every end.
pub async fn finish(handle: &Handle) -> Report {
    handle.stop();
    let report = handle.wait().await;
    assert_ended(handle);
    report
}

/// Waits until nothing is being served, and every end is recorded.
pub async fn idle(handle: &Handle) {
    eventually("no connection is active", || {
        let status = handle.status();
        // A connection is gone a moment before its outcome is counted.
        status.active == 0 && ends(&status) == status.accepted
    })
    .await;
}

/// How many connections came to an end so far.
pub fn ends(status: &Status) -> u64 {
    status.outcomes.iter().map(|(_, count)| count).sum()
}

/// The invariants of every end: no open connection, no table entry, as many ends as starts.
pub fn assert_ended(handle: &Handle) {
    let status = handle.status();
    assert_eq!(status.state, State::Stopped);
    assert_eq!(status.active, 0);
    assert!(handle.connections().is_empty());
    assert_eq!(
        ends(&status),
        status.accepted,
        "as many ends as starts: {status:?}"
    );
}

/// Sends `request` and reads all of the answer.
pub async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
) -> io::Result<Vec<u8>> {
    stream.write_all(request).await?;
    stream.shutdown().await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

/// Sends `request` and reads an answer of the same length, as from an echo server.
pub async fn echoed(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &[u8],
) -> io::Result<bool> {
    stream.write_all(request).await?;
    stream.flush().await?;
    let mut answer = vec![0; request.len()];
    stream.read_exact(&mut answer).await?;
    Ok(answer == request)
}
