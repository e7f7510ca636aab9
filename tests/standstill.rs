//! A handler that blocks its thread delays no other connection. In a process of its own, because it measures time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(
    clippy::disallowed_methods,
    reason = "these tests block threads on purpose, and measure real time"
)]

use portcullis::middleware::internal::uses_timers;
use portcullis::{
    Connection, IoTimeoutLayer, Server, ServiceBuilderExt,
    listener::TcpOptions,
    server::{Handle, Stack, Workers},
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::{Builder, Runtime},
    time::Instant,
};
use tower::ServiceBuilder;

/// Longest that another connection may wait beside a blocked worker.
const LONGEST: Duration = Duration::from_millis(100);
const BLOCKED: Duration = Duration::from_secs(2);

#[test]
fn a_handler_that_blocks_its_thread_delays_no_other_connection_of_the_caller_s_runtime() {
    let _alone = alone();
    for threads in [2, 8] {
        is_below(LONGEST, || worst_delay(threads, Workers::Caller));
    }
}

#[test]
fn a_worker_that_is_blocked_gets_no_new_connections_until_it_answers() {
    let _alone = alone();
    is_below(LONGEST, || worst_delay(2, Workers::LeastBusy(4)));
}

#[test]
fn the_log_names_the_connection_that_blocks_its_worker_once() {
    let _alone = alone();
    write_log();
    let server = Fixture::start(2, Workers::Sharded(1));
    let mut blocking = Client::connect(server.address);
    blocking.exchange();
    blocking.0.write_all(b"b").unwrap();
    blocking.0.read_exact(&mut [0]).unwrap();
    // It answers again.
    blocking.exchange();
    let log = String::from_utf8(LOG.lock().unwrap().clone()).unwrap();
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 1, "{log}");
    let peer = blocking.0.local_addr().unwrap().to_string();
    assert!(lines[0].contains("blocks its worker thread"), "{log}");
    assert!(lines[0].contains(&format!("peer={peer}")), "{log}");
}

#[test]
fn a_log_that_blocks_does_not_hold_up_the_shutdown() {
    let _alone = alone();
    write_log();
    let server = Fixture::start(2, Workers::Sharded(1));
    let mut blocking = Client::connect(server.address);
    blocking.exchange();
    blocking.0.write_all(b"b").unwrap();
    let log = LOG.lock().unwrap();
    let before = WRITES.load(Ordering::Relaxed);
    while WRITES.load(Ordering::Relaxed) == before {
        thread::sleep(Duration::from_millis(10));
    }
    server.handle.stop_at_once();
    let stopped = server.handle.wait_for(Duration::from_secs(1));
    let report = server.runtime.block_on(stopped);
    drop(log);
    assert_eq!(report.expect("it stops").still_running(), 1);
}

#[test]
fn silent_clients_time_out_without_a_timer_of_their_runtime() {
    let _alone = alone();
    let limit = Duration::from_secs(1);
    let modes = [Workers::Caller, Workers::Sharded(1), Workers::LeastBusy(2)];
    let servers = modes.map(|workers| Fixture::start_with_timeout(2, workers, limit));
    is_below(limit + 2 * LONGEST, || {
        let clients = servers.each_ref().map(|server| {
            let mut client = Client::connect(server.address);
            thread::spawn(move || {
                // The wait begins anew with each exchange.
                thread::sleep(limit / 2);
                // Taken before, because the server waits before this thread has its answer.
                let begun = Instant::now();
                client.exchange();
                assert_eq!(client.0.read(&mut [0]).unwrap(), 0);
                begun.elapsed()
            })
        });
        let took = clients.map(|client| client.join().unwrap());
        assert!(took.iter().all(|took| *took >= limit), "{took:?}");
        took.into_iter().max().unwrap()
    });
    assert!(!uses_timers());
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_without_connections_makes_no_wake_up() {
    let _alone = alone();
    let server = Fixture::start(2, Workers::Caller);
    Client::connect(server.address).exchange();
    // The clock goes on for a second after the last connection, and its timers for at most one more.
    thread::sleep(Duration::from_millis(2500));
    let before = wake_ups();
    thread::sleep(Duration::from_millis(500));
    assert_eq!(wake_ups(), before);
    // It did sleep, and wakes up for the next connection.
    let mut client = Client::connect(server.address);
    client.exchange();
    thread::sleep(Duration::from_millis(500));
    let clock = |wake_ups: Vec<(String, u64)>| {
        let of_clock = wake_ups
            .into_iter()
            .filter(|(name, _)| name.starts_with("portcullis-cl"));
        of_clock.map(|(_, count)| count).sum::<u64>()
    };
    assert!(clock(wake_ups()) >= clock(before) + 5);
}

/// How often each other thread of this process went to sleep so far.
#[cfg(target_os = "linux")]
fn wake_ups() -> Vec<(String, u64)> {
    let this = std::fs::read_link("/proc/thread-self").unwrap();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let threads = tasks.map(|task| task.unwrap().path());
    let others = threads.filter(|task| task.file_name() != this.file_name());
    let mut counts: Vec<_> = others
        .map(|task| {
            let status = std::fs::read_to_string(task.join("status")).unwrap();
            let count = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
                .unwrap();
            let name = std::fs::read_to_string(task.join("comm")).unwrap();
            (task, name, count.trim().parse().unwrap())
        })
        .collect();
    counts.sort();
    counts
        .into_iter()
        .map(|(_, name, count)| (name, count))
        .collect()
}

/// These tests measure time and look at the whole process, so they run one after the other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes an empty [`LOG`] from now on.
fn write_log() {
    LOG.lock().unwrap_or_else(PoisonError::into_inner).clear();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::WARN)
        .with_writer(|| Log);
    // Another test may have done it.
    let _ = subscriber.try_init();
}

/// The log of this process.
struct Log;

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// How often it was written to, or is about to be.
static WRITES: AtomicUsize = AtomicUsize::new(0);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        WRITES.fetch_add(1, Ordering::Relaxed);
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Measures up to three times. Another program may delay one measurement, but a fault delays each.
fn is_below(bound: Duration, mut measure: impl FnMut() -> Duration) {
    let mut missed = Vec::new();
    while missed.len() < 3 {
        let took = measure();
        if took < bound {
            return;
        }
        missed.push(took);
    }
    panic!("not below {bound:?}: {missed:?}");
}

/// A server on a runtime of its own.
struct Fixture {
    address: SocketAddr,
    handle: Handle,
    runtime: Runtime,
}

impl Fixture {
    fn start(threads: usize, workers: Workers) -> Self {
        let stack = ServiceBuilder::new().peer_addr().service_fn(serve);
        Self::start_stack(threads, workers, stack)
    }

    fn start_with_timeout(threads: usize, workers: Workers, limit: Duration) -> Self {
        let timeout = IoTimeoutLayer::new().with_read_timeout(limit);
        let stack = ServiceBuilder::new()
            .peer_addr()
            .layer(timeout)
            .service_fn(serve);
        Self::start_stack(threads, workers, stack)
    }

    fn start_stack(
        threads: usize,
        workers: Workers,
        stack: impl Stack<tokio::net::TcpStream> + Sync,
    ) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()
            .unwrap();
        let (address, handle) = runtime.block_on(async {
            let options = TcpOptions::new().with_reuse_port(true);
            let listener = options.bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = Server::new().workers(workers).listen(listener, stack);
            (address, server.spawn().unwrap())
        });
        Self {
            address,
            handle,
            runtime,
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.handle.stop_at_once();
        self.runtime.block_on(self.handle.wait());
    }
}

/// The longest time that an exchange took beside a handler that blocks its thread: on connections that were
/// open before, unless they share a worker of their own with it, and on new ones.
fn worst_delay(threads: usize, workers: Workers) -> Duration {
    let server = Fixture::start(threads, workers);
    let address = server.address;
    let shared_threads = workers == Workers::Caller;
    let others: Vec<_> = (0..if shared_threads { 39 } else { 0 })
        .map(|_| Client::connect(address))
        .collect();
    let mut blocking = Client::connect(address);
    blocking.exchange();
    let others: Vec<_> = others
        .into_iter()
        .map(|mut client| {
            thread::spawn(move || {
                (0..60)
                    .map(|_| {
                        thread::sleep(Duration::from_millis(10));
                        client.exchange()
                    })
                    .max()
            })
        })
        .collect();
    blocking.0.write_all(b"b").unwrap();
    // The first beat that is missed shows that the worker is blocked.
    thread::sleep(Duration::from_millis(150));
    let mut new: Vec<_> = (0..20).map(|_| Client::connect(address)).collect();
    let new = new.iter_mut().map(Client::exchange).max();
    others
        .into_iter()
        .map(|other| other.join().unwrap())
        .chain([new])
        .flatten()
        .max()
        .unwrap()
}

/// Echoes bytes; a `b` blocks the thread first.
async fn serve(
    mut connection: Connection<impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>,
) -> std::io::Result<()> {
    let mut byte = [0];
    while connection.read(&mut byte).await? > 0 {
        if byte == *b"b" {
            thread::sleep(BLOCKED);
        }
        connection.write_all(&byte).await?;
    }
    Ok(())
}

struct Client(TcpStream);

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// How long one exchange takes.
    fn exchange(&mut self) -> Duration {
        let begun = Instant::now();
        self.0.write_all(b"a").unwrap();
        self.0.read_exact(&mut [0]).unwrap();
        begun.elapsed()
    }
}
