//! Connections that are forwarded to pools of servers, some of which fail.

use crate::support::{Fixture, ask, eventually, scenario};
use portcullis::{
    Connection, ServiceBuilderExt,
    middleware::outcome::Outcome,
    server::Stack,
    service::ForwardService,
    upstream::{Balance, HealthCheck, OnDown, Pool, Server, ServerState},
};
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    task::{JoinHandle, JoinSet},
    time::sleep,
};
use tower::ServiceBuilder;

/// A server that answers with its name and what it received, and can be stopped and started on its port.
struct Backend {
    address: SocketAddr,
    name: &'static str,
    accepted: Arc<AtomicUsize>,
    /// Reserves the port while the server is stopped.
    _reserved: TcpSocket,
    running: Option<JoinHandle<()>>,
}

impl Backend {
    fn new(name: &'static str) -> Self {
        let reserved = bound("127.0.0.1:0".parse().unwrap());
        Self {
            address: reserved.local_addr().unwrap(),
            name,
            accepted: Arc::default(),
            _reserved: reserved,
            running: None,
        }
    }

    fn started(name: &'static str) -> Self {
        let mut backend = Self::new(name);
        backend.start();
        backend
    }

    fn start(&mut self) {
        let listener = bound(self.address).listen(1024).unwrap();
        let (name, accepted) = (self.name, self.accepted.clone());
        self.running = Some(tokio::spawn(serve(listener, name, accepted)));
    }

    /// Stops the server and its connections.
    async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
            let _aborted = running.await;
        }
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

async fn serve(listener: TcpListener, name: &'static str, accepted: Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        accepted.fetch_add(1, Ordering::Relaxed);
        connections.spawn(answer(stream, name));
    }
}

/// A socket whose address others may be bound to as well.
fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    #[cfg(unix)]
    socket.set_reuseport(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

async fn answer(mut stream: TcpStream, name: &str) -> io::Result<()> {
    let mut request = Vec::new();
    stream.read_to_end(&mut request).await?;
    stream.write_all(name.as_bytes()).await?;
    stream.write_all(&request).await?;
    stream.shutdown().await
}

fn forward_to(pool: &Pool) -> impl Stack<TcpStream> {
    ServiceBuilder::new()
        .peer_addr()
        .service(ForwardService::new(pool.clone()))
}

/// The name of the server that answered.
async fn asked(gate: &Fixture) -> io::Result<String> {
    let answer = ask(gate.connect().await, b"?").await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn one_of_three_is_down_and_no_client_notices() {
    scenario(async {
        let (down, a, b) = (
            Backend::new("down"),
            Backend::started("a"),
            Backend::started("b"),
        );
        for balance in [
            Balance::LeastConnections,
            Balance::RoundRobin,
            Balance::Hash,
            Balance::First,
        ] {
            let pool =
                Pool::builder()
                    .with_balance(balance)
                    .build([down.address, a.address, b.address]);
            let gate = Fixture::serve(forward_to(&pool));
            let mut clients = JoinSet::new();
            for _ in 0..200 {
                let client = gate.connect().await;
                clients.spawn(async move { ask(client, b"?").await });
            }
            while let Some(answered) = clients.join_next().await {
                let answer = answered.unwrap().unwrap();
                assert!(answer == b"a?" || answer == b"b?");
            }
            gate.idle().await;
            assert!(pool.servers().iter().all(|server| server.connections == 0));
            gate.finish().await;
        }
        for mut backend in [a, b] {
            backend.stop().await;
        }
    });
}

#[test]
fn a_server_that_flaps_costs_no_connect() {
    scenario(async {
        let (mut flaps, mut steady) = (Backend::started("flaps"), Backend::started("steady"));
        // Without ejection it is tried each time.
        let pool = Pool::builder().with_ejection(None);
        let pool = pool.build([flaps.address, steady.address]);
        let gate = Fixture::serve(forward_to(&pool));
        let mut failed = 0;
        for round in 0..20 {
            match round % 2 {
                0 => flaps.stop().await,
                _ => flaps.start(),
            }
            for _ in 0..20 {
                // Connections that the stopped server had accepted would end, so each is asked and done.
                failed += usize::from(asked(&gate).await.is_err());
            }
        }
        assert_eq!(failed, 0);
        assert!(flaps.accepted() > 0 && steady.accepted() > 200);
        let statuses = pool.servers();
        assert!(statuses[0].connect_failures >= 5, "{statuses:?}");
        assert_eq!(statuses[1].connect_failures, 0);
        gate.finish().await;
        flaps.stop().await;
        steady.stop().await;
    });
}

#[test]
fn when_all_are_down_clients_are_closed_and_served_again_once_one_is_back() {
    scenario(async {
        let (mut a, b) = (Backend::new("a"), Backend::new("b"));
        let pool = Pool::builder()
            .with_name("shop")
            .build([a.address, b.address]);
        let gate = Fixture::serve(forward_to(&pool));
        for _ in 0..20 {
            let mut client = gate.connect().await;
            let mut answer = Vec::new();
            let _reset = client.read_to_end(&mut answer).await;
            assert!(answer.is_empty());
        }
        gate.idle().await;
        let outcomes = gate.status().outcomes;
        let unreachable = outcomes
            .iter()
            .find(|(outcome, _)| *outcome == Outcome::Unreachable);
        assert_eq!(unreachable.map(|(_, count)| *count), Some(20));
        // One of them is ejected, but it is better than none.
        a.start();
        assert_eq!(asked(&gate).await.unwrap(), "a?");
        gate.finish().await;
        a.stop().await;
    });
}

#[test]
fn a_server_that_resets_in_the_middle_resets_its_client_and_is_released() {
    scenario(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pool = Pool::new([listener.local_addr().unwrap()]);
        let gate = Fixture::serve(forward_to(&pool));
        let mut client = gate.connect().await;
        client.write_all(b"hello").await.unwrap();
        let (mut accepted, _) = listener.accept().await.unwrap();
        accepted.read_exact(&mut [0; 5]).await.unwrap();
        assert_eq!(pool.servers()[0].connections, 1);
        accepted.set_zero_linger().unwrap();
        drop(accepted);
        let error = client.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        eventually("released", || pool.servers()[0].connections == 0).await;
        gate.finish().await;
    });
}

/// Answers health checks on a port of its own with the role of a database.
async fn role(is_primary: Arc<AtomicBool>) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let status = if is_primary.load(Ordering::Relaxed) {
                "200 OK"
            } else {
                "503 No"
            };
            let reply = format!("HTTP/1.1 {status}\r\n\r\n");
            let _read = stream.read(&mut [0; 512]).await;
            let _written = stream.write_all(reply.as_bytes()).await;
        }
    };
    (port, tokio::spawn(serve))
}

#[test]
fn clients_of_a_former_primary_are_closed() {
    scenario(async {
        let mut backend = Backend::started("primary");
        let is_primary = Arc::new(AtomicBool::new(true));
        let (port, role) = role(is_primary.clone()).await;
        let check = HealthCheck::http("/primary")
            .with_port(port)
            .with_statuses(200..=200)
            .with_interval(Duration::from_millis(20))
            .with_on_down(OnDown::Close);
        let server = Server::from(backend.address).with_name("pg1");
        let pool = Pool::builder().with_health_check(check).build([server]);
        let gate = Fixture::serve(forward_to(&pool));
        let state = || pool.servers()[0].state;
        eventually("the server is up", || state() == ServerState::Up).await;
        let mut client = gate.connect().await;
        client.write_all(b"hello").await.unwrap();
        eventually("it is forwarded", || backend.accepted() == 1).await;

        is_primary.store(false, Ordering::Relaxed);
        let mut answer = Vec::new();
        let _reset = client.read_to_end(&mut answer).await;
        assert!(answer.is_empty());
        assert_eq!(state(), ServerState::Down);
        let report = pool.servers()[0].last_check.clone().unwrap();
        assert_eq!(report.text, "status 503");
        // New ones are refused, although the server accepts them.
        let refused = ask(gate.connect().await, b"?").await;
        assert!(refused.is_err() || refused.is_ok_and(|answer| answer.is_empty()));
        assert_eq!(backend.accepted(), 1);

        is_primary.store(true, Ordering::Relaxed);
        eventually("the server is back", || state() == ServerState::Up).await;
        assert_eq!(asked(&gate).await.unwrap(), "primary?");
        gate.finish().await;
        role.abort();
        backend.stop().await;
    });
}

#[test]
fn a_client_that_leaves_while_it_waits_for_capacity_frees_its_place() {
    scenario(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server::from(listener.local_addr().unwrap()).with_max_connections(1);
        let pool = Pool::builder()
            .with_queue(1, Duration::from_secs(30))
            .with_timeout(Duration::from_secs(30));
        let pool = pool.build([server]);
        let gate = Fixture::serve(forward_to(&pool));
        let first = gate.connect().await;
        gate.active(1).await;
        let (accepted, _) = listener.accept().await.unwrap();
        let second = gate.connect().await;
        gate.active(2).await;
        sleep(Duration::from_millis(50)).await;
        drop(second);
        gate.active(1).await;
        let mut third = gate.connect().await;
        gate.active(2).await;
        drop((first, accepted));
        let (mut accepted, _) = listener.accept().await.unwrap();
        accepted.write_all(b"hello").await.unwrap();
        third.read_exact(&mut [0; 5]).await.unwrap();
        drop((third, accepted));
        gate.idle().await;
        assert_eq!(pool.servers()[0].connections, 0);
        gate.finish().await;
    });
}

/// A custom service under the layers gets its connections from the same pool.
#[test]
fn a_pool_serves_other_services_too() {
    scenario(async {
        let mut backend = Backend::started("a");
        let pool = Pool::new([backend.address]);
        let through = pool.clone();
        let stack =
            ServiceBuilder::new()
                .peer_addr()
                .service_fn(move |mut client: Connection<_>| {
                    let pool = through.clone();
                    async move {
                        let mut server = pool
                            .connect(client.info())
                            .await
                            .map_err(io::Error::other)?;
                        server.shutdown().await?;
                        let mut answer = Vec::new();
                        server.read_to_end(&mut answer).await?;
                        client.write_all(&answer).await?;
                        client.close().await
                    }
                });
        let gate = Fixture::serve(stack);
        let mut answer = String::new();
        gate.connect()
            .await
            .read_to_string(&mut answer)
            .await
            .unwrap();
        assert_eq!(answer, "a");
        gate.finish().await;
        backend.stop().await;
    });
}
