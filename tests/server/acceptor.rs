//! What the accept loop promises: it goes on whatever accept, stacks and clients do, and
//! back-pressure ends up in the kernel's queue.

use crate::support::{Fixture, ask, assert_ended, echoed, eventually, idle, scenario};
use portcullis::{
    BoxError, Connection, Server,
    listener::{MemoryListener, TcpListener, TcpOptions},
    middleware::{outcome::Outcome, peer_addr::PeerAddrLayer},
    server::Stack,
    server::{Handle, Workers},
};
use std::{
    io,
    net::SocketAddr,
    panic::panic_any,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tower::{Service, ServiceBuilder, service_fn};

fn hello<Io: portcullis::connection::Transport>() -> impl Stack<Io> {
    service_fn(|mut io: Io| async move { io.write_all(b"hello").await })
}

async fn said(mut client: DuplexStream) -> String {
    let mut said = String::new();
    client
        .read_to_string(&mut said)
        .await
        .expect("memory does not fail");
    said
}

/// Panics, or fails, when asked whether it is ready, as often as told.
#[derive(Clone)]
struct Unready {
    times: Arc<AtomicUsize>,
    panics: bool,
}

impl Service<DuplexStream> for Unready {
    type Response = ();
    type Error = BoxError;
    type Future = std::future::Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let left = self
            .times
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if left.is_err() {
            return Poll::Ready(Ok(()));
        }
        assert!(!self.panics, "told to panic");
        Poll::Ready(Err("not ready".into()))
    }

    fn call(&mut self, _: DuplexStream) -> Self::Future {
        std::future::ready(Ok(()))
    }
}

#[test]
fn a_stack_that_fails_or_panics_when_asked_if_ready_costs_one_connection_each() {
    scenario(async {
        for (panics, outcome) in [(false, Outcome::Failed), (true, Outcome::Panicked)] {
            let (listener, connector) = MemoryListener::pair();
            let times = Arc::new(AtomicUsize::new(2));
            let handle = Server::new()
                .listen(listener, Unready { times, panics })
                .spawn()
                .unwrap();
            for _ in 0..3 {
                assert_eq!(said(connector.connect().unwrap()).await, "");
            }
            handle.stop();
            handle.wait().await;
            assert_ended(&handle);
            let outcomes = handle.status().outcomes;
            assert!(outcomes.contains(&(outcome, 2)), "{outcomes:?}");
        }
    });
}

/// What a panic may throw: it panics when it is dropped.
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        panic!("thrown, and thrown away");
    }
}

/// Throws a [`Grenade`] when asked whether it is ready, called, polled or dropped, one after the other.
#[derive(Clone)]
struct Thrower(Arc<AtomicUsize>);

impl Service<DuplexStream> for Thrower {
    type Response = ();
    type Error = BoxError;
    type Future = Thrown;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.0.fetch_add(1, Ordering::SeqCst) == 0 {
            panic_any(Grenade);
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, io: DuplexStream) -> Thrown {
        let round = self.0.load(Ordering::SeqCst);
        if round == 2 {
            panic_any(Grenade);
        }
        Thrown {
            round,
            io: Some(io),
        }
    }
}

struct Thrown {
    round: usize,
    io: Option<DuplexStream>,
}

impl Future for Thrown {
    type Output = Result<(), BoxError>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        self.io = None;
        if self.round == 3 {
            panic_any(Grenade);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Thrown {
    fn drop(&mut self) {
        if self.round == 4 {
            panic_any(Grenade);
        }
    }
}

#[test]
fn a_panic_whose_payload_panics_when_dropped_costs_one_connection_wherever_it_comes() {
    scenario(async {
        let (listener, connector) = MemoryListener::pair();
        let stack = Thrower(Arc::default());
        let handle = Server::new().listen(listener, stack).spawn().unwrap();
        for _ in 0..6 {
            assert_eq!(said(connector.connect().unwrap()).await, "");
        }
        handle.stop();
        let report = handle.wait().await;
        assert!(report.broken_listeners().is_empty());
        assert_ended(&handle);
        let outcomes = handle.status().outcomes;
        let counts = [(Outcome::Completed, 2), (Outcome::Panicked, 4)];
        assert_eq!(outcomes, counts);
    });
}

/// Panics when it is cloned the second time, as one does whose lock is poisoned.
struct Fragile(Arc<AtomicUsize>);

impl Clone for Fragile {
    fn clone(&self) -> Self {
        assert_ne!(self.0.fetch_add(1, Ordering::SeqCst), 1, "told to panic");
        Self(self.0.clone())
    }
}

#[test]
fn a_stack_that_panics_when_it_is_cloned_costs_one_connection() {
    scenario(async {
        let fragile = Fragile(Arc::default());
        let stack = service_fn(move |mut io: DuplexStream| {
            let _held = &fragile;
            async move { io.write_all(b"hello").await }
        });
        let (listener, connector) = MemoryListener::pair();
        // The first clone is the acceptor's.
        let handle = Server::new().listen(listener, stack).spawn().unwrap();
        assert_eq!(said(connector.connect().unwrap()).await, "");
        assert_eq!(said(connector.connect().unwrap()).await, "hello");
        handle.stop();
        handle.wait().await;
        assert_ended(&handle);
        assert!(handle.status().outcomes.contains(&(Outcome::Panicked, 1)));
    });
}

/// Counts how many are served at once.
#[derive(Clone, Default)]
struct AtOnce(Arc<(AtomicUsize, AtomicUsize)>);

impl AtOnce {
    async fn serve(
        self,
        mut connection: Connection<impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>,
    ) -> io::Result<()> {
        let (now, most) = &*self.0;
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let byte = connection.read_u8().await;
        tokio::task::yield_now().await;
        now.fetch_sub(1, Ordering::SeqCst);
        connection.write_u8(byte?).await
    }

    fn most(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

async fn forty_clients(address: SocketAddr) {
    let mut clients = JoinSet::new();
    for _ in 0..40 {
        clients.spawn(async move {
            let client = TcpStream::connect(address).await?;
            timeout(Duration::from_secs(20), ask(client, b"x")).await?
        });
    }
    while let Some(answer) = clients.join_next().await {
        assert_eq!(answer.unwrap().unwrap(), b"x");
    }
}

fn sharded(stack: impl Stack<TcpStream>) -> (Handle, SocketAddr) {
    let listener = TcpOptions::new()
        .with_reuse_port(true)
        .bind("127.0.0.1:0")
        .unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::new()
        .listen(listener, stack)
        .workers(Workers::Sharded(4));
    (server.spawn().unwrap(), address)
}

#[test]
fn with_tower_s_limit_of_one_and_four_acceptors_all_are_served_one_at_a_time() {
    scenario(async {
        let at_once = AtOnce::default();
        let serving = at_once.clone();
        let stack = ServiceBuilder::new()
            .concurrency_limit(1)
            .layer(PeerAddrLayer::new())
            .service_fn(move |connection: Connection<_>| serving.clone().serve(connection));
        let (handle, address) = sharded(stack);
        forty_clients(address).await;
        // Idle acceptors hold no readiness: a client alone is served whichever of them it meets.
        for _ in 0..12 {
            let client = TcpStream::connect(address).await.unwrap();
            assert_eq!(ask(client, b"y").await.unwrap(), b"y");
        }
        assert_eq!(at_once.most(), 1);
        handle.stop();
        handle.wait().await;
        assert_ended(&handle);
    });
}

#[test]
fn with_a_connection_limit_of_one_and_four_acceptors_all_are_served_one_at_a_time() {
    scenario(async {
        let at_once = AtOnce::default();
        let serving = at_once.clone();
        let limit = portcullis::middleware::limit::ConnectionLimitLayer::new(1);
        let permits = limit.handle();
        let stack = ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .layer(limit)
            .service_fn(move |connection: Connection<_>| serving.clone().serve(connection));
        let (handle, address) = sharded(stack);
        forty_clients(address).await;
        for _ in 0..12 {
            let client = TcpStream::connect(address).await.unwrap();
            assert_eq!(ask(client, b"y").await.unwrap(), b"y");
        }
        assert_eq!(at_once.most(), 1);
        handle.stop();
        handle.wait().await;
        assert_ended(&handle);
        assert_eq!(permits.active(), 0);
    });
}

/// Connections that wait in the kernel's queue of the listener on `port`.
#[cfg(target_os = "linux")]
fn queued(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux has it");
    let local = format!("0100007F:{port:04X}");
    let listening = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|fields| fields.get(1) == Some(&local.as_str()) && fields.get(3) == Some(&"0A"))
        .expect("the listener is there");
    let (_sent, received) = listening[4].split_once(':').expect("two queues");
    usize::from_str_radix(received, 16).expect("a number")
}

#[cfg(target_os = "linux")]
#[test]
fn back_pressure_of_tower_s_limit_reaches_the_kernel_s_queue() {
    scenario(async {
        let stack = ServiceBuilder::new()
            .concurrency_limit(1)
            .layer(PeerAddrLayer::new())
            .service_fn(|mut connection: Connection<_>| async move {
                let byte = connection.read_u8().await?;
                connection.write_u8(byte).await
            });
        let server = Fixture::serve(stack);
        let mut clients = Vec::new();
        for _ in 0..7 {
            clients.push(server.connect().await);
        }
        eventually("one is served, one waits", || server.status().waiting == 1).await;
        assert_eq!((server.status().accepted, server.status().active), (2, 1));
        assert_eq!(queued(server.address.port()), 5);
        for client in clients {
            assert_eq!(ask(client, b"x").await.unwrap(), b"x");
        }
        server.finish().await;
    });
}

/// tokio lets a task do so much at a time: somewhere here the first wait for a change comes after that.
#[test]
fn a_server_that_begins_with_a_crowd_hears_of_its_end() {
    scenario(async {
        for crowd in 120..140 {
            let (listener, connector) = MemoryListener::pair();
            let mut clients = Vec::new();
            for _ in 0..crowd {
                clients.push(connector.connect().unwrap());
            }
            let handle = Server::new().listen(listener, hello()).spawn().unwrap();
            for client in clients {
                assert_eq!(said(client).await, "hello");
            }
            idle(&handle).await;
            handle.stop();
            let ended = timeout(Duration::from_secs(5), handle.wait()).await;
            ended.unwrap_or_else(|_| panic!("deaf after {crowd}"));
            assert_ended(&handle);
        }
    });
}

#[test]
fn tower_s_load_shed_turns_away_at_the_edge() {
    scenario(async {
        let stack = ServiceBuilder::new()
            .load_shed()
            .concurrency_limit(1)
            .layer(PeerAddrLayer::new())
            .service_fn(|mut connection: Connection<_>| async move {
                let byte = connection.read_u8().await?;
                connection.write_u8(byte).await
            });
        let server = Fixture::serve(stack);
        let first = server.connect().await;
        server.active(1).await;
        let mut second = server.connect().await;
        assert_eq!(second.read(&mut [0; 1]).await.unwrap(), 0);
        assert_eq!(ask(first, b"x").await.unwrap(), b"x");
        server.finish().await;
    });
}

#[test]
fn workers_each_take_their_share_in_threads_of_their_own() {
    scenario(async {
        let stack = ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .service_fn(|mut connection: Connection<_>| async move {
                let thread = std::thread::current().name().unwrap_or_default().to_owned();
                connection.write_all(thread.as_bytes()).await?;
                connection.write_all(b"\n").await?;
                connection.read(&mut [0; 1]).await.map(drop)
            });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new()
            .listen(listener, stack)
            .workers(Workers::LeastBusy(3));
        let handle = server.spawn().unwrap();
        let mut clients = Vec::new();
        let mut threads = std::collections::HashMap::new();
        for number in 1..=9 {
            let mut client = TcpStream::connect(address).await.unwrap();
            let mut name = Vec::new();
            while !name.ends_with(b"\n") {
                name.push(client.read_u8().await.unwrap());
            }
            *threads.entry(name).or_insert(0) += 1;
            clients.push(client);
            assert_eq!(handle.status().active, number);
        }
        assert_eq!(threads.into_values().collect::<Vec<_>>(), [3, 3, 3]);
        drop(clients);
        handle.stop();
        handle.wait().await;
        assert_ended(&handle);
    });
}

#[test]
fn workers_per_core_serve_with_a_listener_each() {
    scenario(async {
        let stack = ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .service_fn(|connection: Connection<_>| AtOnce::default().serve(connection));
        let listener = TcpOptions::new()
            .with_reuse_port(true)
            .bind("127.0.0.1:0")
            .unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new()
            .listen(listener, stack)
            .workers(Workers::PerCore);
        let handle = server.spawn().unwrap();
        forty_clients(address).await;
        handle.stop();
        handle.wait().await;
        assert_ended(&handle);
        assert_eq!(handle.status().accepted, 40);
    });
}

#[test]
fn workers_with_a_listener_each_need_reuse_port_and_say_so() {
    scenario(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server::new()
            .listen(listener, hello())
            .workers(Workers::Sharded(2));
        let error = server.run().await.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("reuse_port"), "{cause}");
    });
}

#[test]
fn the_end_of_workers_cuts_what_is_left_on_them() {
    scenario(async {
        let stack = ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .service_fn(|mut connection: Connection<_>| async move {
                let mut byte = [0];
                while connection.read(&mut byte).await? > 0 {
                    connection.write_all(&byte).await?;
                }
                Ok::<_, io::Error>(())
            });
        let (handle, address) = sharded(stack);
        let mut clients = Vec::new();
        for _ in 0..8 {
            let mut client = TcpStream::connect(address).await.unwrap();
            assert!(echoed(&mut client, b"x").await.unwrap());
            clients.push(client);
        }
        handle.stop_at_once();
        let report = handle.wait().await;
        assert_eq!(report.force_closed().len(), 8);
        assert_ended(&handle);
    });
}
