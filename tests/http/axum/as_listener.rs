//! A stack as the listener of `axum::serve`: permits, and the end.

use super::{OtherWay, Plain, answer, curious, incoming, request};
use crate::support::{eventually, paused_scenario, scenario};
use axum::{
    Router,
    http::StatusCode,
    routing::{get, post},
};
use portcullis::{
    BoxError, Connection, Server, ServiceBuilderExt,
    axum::Info,
    connection::Linger,
    listener::{MemoryListener, TcpListener},
    middleware::{
        handler::{Next, from_fn},
        limit::ConnectionLimitLayer,
    },
    server::{Drain, Workers},
};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};
use tower::ServiceBuilder;

#[test]
fn permits_follow_the_connection_until_axum_drops_it() {
    scenario(async {
        let (layer, limit) = ConnectionLimitLayer::pair(1);
        let layers = ServiceBuilder::new().peer_addr().layer(layer);
        let server = OtherWay::serve(incoming::<_, Plain>(layers), curious());
        let mut first = server.connect().await;
        first
            .write_all(b"GET /info HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        assert!(first.read(&mut [0; 4]).await.unwrap() > 0);
        let second = server.connect().await;
        eventually("the second waits", || server.handle.status().waiting == 1).await;
        assert_eq!(limit.active(), 1);
        drop(first);
        assert_eq!(request(second, "/info").await.0, StatusCode::OK);
        server.finish().await;
        assert_eq!(limit.active(), 0);
    });
}

/// Each answer is 3 MB, and does not wait for the body of its request.
#[test]
fn an_answer_arrives_although_the_body_of_its_request_comes_late() {
    const ANSWER: usize = 3_000_000;
    scenario(async {
        let router = Router::new().route("/", post(async || vec![b'a'; ANSWER]));
        let layers = ServiceBuilder::new().peer_addr();
        let server = OtherWay::serve(incoming::<_, Plain>(layers), router);
        for _ in 0..5 {
            let mut client = server.connect().await;
            client
                .write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 20\r\n\r\n")
                .await
                .unwrap();
            let mut answer = Vec::new();
            let (mut from_server, mut to_server) = client.split();
            let late = async {
                for _ in 0..20 {
                    sleep(Duration::from_millis(10)).await;
                    to_server.write_all(b"x").await.unwrap();
                }
            };
            let (read, ()) = tokio::join!(from_server.read_to_end(&mut answer), late);
            read.expect("an end in order");
            assert!(answer.len() > ANSWER);
        }
        server.finish().await;
    });
}

#[test]
fn the_bounds_of_the_linger_are_set_where_connections_come_from() {
    paused_scenario(async {
        let (listener, connector) = MemoryListener::pair();
        let layers = ServiceBuilder::new().peer_addr();
        let incoming = Server::new().incoming(listener, layers).unwrap();
        let linger = Linger::new().with_idle_timeout(Duration::from_secs(7));
        let server = OtherWay::serve(incoming.with_linger(linger), curious());
        let mut client = connector.connect().unwrap();
        let head = b"GET /info HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        client.write_all(head).await.unwrap();
        client.read_to_end(&mut Vec::new()).await.unwrap();
        sleep(Duration::from_millis(6900)).await;
        assert_eq!(server.handle.status().active, 1);
        sleep(Duration::from_millis(200)).await;
        assert_eq!(server.handle.status().active, 0);
        server.finish().await;
    });
}

#[test]
fn a_request_in_flight_when_the_server_is_stopped_is_answered() {
    static GATE: Semaphore = Semaphore::const_new(0);
    scenario(async {
        let router = Router::new().route(
            "/",
            get(|Info(info): Info| async move {
                info.drain().await;
                GATE.acquire().await.unwrap().forget();
                "patience pays"
            }),
        );
        let layers = ServiceBuilder::new().peer_addr();
        let server = OtherWay::serve(incoming::<_, Plain>(layers), router);
        let mut busy = server.connect().await;
        busy.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        // Idle ones must not hold up the end.
        let mut idle = server.connect().await;
        eventually("both are there", || server.handle.status().active == 2).await;
        server.handle.stop();
        assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
        assert!(!server.axum.is_finished() && !server.handle.is_stopped());
        GATE.add_permits(1);
        assert_eq!(
            answer(busy).await,
            (StatusCode::OK, "patience pays".to_owned())
        );
        let report = server.ended().await;
        assert_eq!((report.ended(), report.force_closed().len()), (2, 0));
    });
}

#[test]
fn whoever_is_on_the_way_when_the_server_is_stopped_is_served() {
    static GATE: Semaphore = Semaphore::const_new(0);
    scenario(async {
        /// A handshake that takes as long as the test likes.
        async fn slowly(
            connection: Connection<Plain>,
            next: Next<Plain, ()>,
        ) -> Result<(), BoxError> {
            GATE.acquire().await?.forget();
            next.run(connection).await
        }
        let layers = ServiceBuilder::new().peer_addr().layer(from_fn(slowly));
        let server = OtherWay::serve(incoming::<_, Plain>(layers), curious());
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(tokio::spawn(request(server.connect().await, "/info")));
        }
        eventually("all are there", || server.handle.status().active == 20).await;
        server.handle.stop();
        // The listener is closed then.
        eventually("no more are accepted", || {
            std::net::TcpStream::connect(server.address).is_err()
        })
        .await;
        assert!(!server.axum.is_finished());
        // Some for those that asked whether the listener is closed, too.
        GATE.add_permits(10_000);
        for client in clients {
            assert_eq!(client.await.unwrap().0, StatusCode::OK);
        }
        let report = server.ended().await;
        assert!(report.force_closed().is_empty());
    });
}

#[test]
fn who_came_last_has_half_a_second_to_begin() {
    paused_scenario(async {
        let (listener, connector) = MemoryListener::pair();
        let layers = ServiceBuilder::new().peer_addr();
        let incoming = Server::new().incoming(listener, layers).unwrap();
        let server = OtherWay::serve(incoming, curious());
        let late = connector.connect().unwrap();
        let mut silent = connector.connect().unwrap();
        eventually("both are there", || server.handle.status().active == 2).await;
        server.handle.stop();
        let stopped = Instant::now();
        sleep(Duration::from_millis(499)).await;
        assert_eq!(request(late, "/info").await.0, StatusCode::OK);
        assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
        let took = stopped.elapsed();
        assert!((500..510).contains(&took.as_millis()), "{took:?}");
        server.ended().await;
    });
}

#[test]
fn the_deadline_cuts_requests_that_never_end_and_axum_returns() {
    scenario(async {
        let router = Router::new().route("/", get(std::future::pending::<()>));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let incoming = Server::new()
            .drain(Drain::new().with_deadline(Duration::from_millis(50)))
            .incoming(listener, ServiceBuilder::new().peer_addr())
            .unwrap();
        let server = OtherWay::serve(incoming, router);
        let mut client = server.connect().await;
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        eventually("it is there", || server.handle.status().active == 1).await;
        let report = server.finish().await;
        assert_eq!((report.ended(), report.force_closed().len()), (0, 1));
        assert_eq!(client.read(&mut [0; 1]).await.unwrap_or(0), 0);
    });
}

#[test]
fn axum_returns_although_a_layer_blocks_its_thread_for_longer_than_the_deadline() {
    let (unblock, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = std::sync::Arc::new(std::sync::Mutex::new(blocked));
    scenario(async {
        let block = move |connection: Connection<Plain>, next: Next<Plain, ()>| {
            let blocked = blocked.clone();
            async move {
                let _ = blocked.lock().unwrap().recv();
                next.run(connection).await
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let layers = ServiceBuilder::new().peer_addr().layer(from_fn(block));
        // On a thread of its own: one of the runtime would block what lies in its queue, too.
        let incoming = Server::new()
            .workers(Workers::LeastBusy(1))
            .drain(Drain::new().with_deadline(Duration::from_millis(50)))
            .incoming::<_, _, Plain>(listener, layers)
            .unwrap();
        let server = OtherWay::serve(incoming, curious());
        let _client = server.connect().await;
        eventually("it is there", || server.handle.status().active == 1).await;
        server.handle.stop();
        let axum = timeout(Duration::from_secs(60), server.axum).await;
        axum.expect("it returns").unwrap().unwrap();
        assert_eq!(server.handle.wait().await.still_running(), 1);
        drop(unblock);
    });
}

/// The preface of HTTP/2, empty settings, the acknowledgement of the server's, and a ping.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
    \0\0\0\x04\x01\0\0\0\0\0\0\x08\x06\0\0\0\0\0preface!";

#[test]
fn clients_that_ask_for_nothing_do_not_hold_the_drain() {
    paused_scenario(async {
        for sent in [0, 1, 23, 24, 33, 42, HELLO.len()] {
            let (listener, connector) = MemoryListener::pair();
            let layers = ServiceBuilder::new().peer_addr();
            let incoming = Server::new().incoming(listener, layers).unwrap();
            let server = OtherWay::serve(incoming, curious());
            let mut deaf = connector.connect().unwrap();
            deaf.write_all(&HELLO[..sent]).await.unwrap();
            eventually("it is there", || server.handle.status().active == 1).await;
            sleep(Duration::from_millis(10)).await;
            let begun = Instant::now();
            let report = server.finish().await;
            assert_eq!(
                (report.ended(), report.force_closed().len()),
                (1, 0),
                "{sent}"
            );
            let latest = if sent < 24 { 1100 } else { 4000 };
            let took = begun.elapsed().as_millis();
            assert!((500..latest).contains(&took), "{sent}: {took}");
            deaf.read_to_end(&mut Vec::new()).await.unwrap();
        }
    });
}

#[test]
fn a_call_over_http2_that_takes_longer_than_the_patience_with_silent_clients_is_answered() {
    paused_scenario(async {
        let router = Router::new().route(
            "/",
            get(async || {
                sleep(Duration::from_secs(20)).await;
                "patience pays"
            }),
        );
        let (listener, connector) = MemoryListener::pair();
        let layers = ServiceBuilder::new().peer_addr();
        let incoming = Server::new().incoming(listener, layers).unwrap();
        let server = OtherWay::serve(incoming, router);
        let mut client = connector.connect().unwrap();
        // `:method GET`, `:scheme http`, `:path /` of the static table.
        let request = b"\0\0\x03\x01\x05\0\0\0\x01\x82\x86\x84";
        client.write_all(&[HELLO, request].concat()).await.unwrap();
        sleep(Duration::from_millis(10)).await;
        // It answers no ping: only its open stream keeps the connection.
        let begun = Instant::now();
        let report = server.finish().await;
        assert_eq!((report.ended(), report.force_closed().len()), (1, 0));
        let took = begun.elapsed().as_secs();
        assert!((21..24).contains(&took), "{took}");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert!(answer.windows(13).any(|part| part == b"patience pays"));
    });
}
