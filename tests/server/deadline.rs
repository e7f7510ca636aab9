//! The deadline of a shutdown holds, also when handlers block their threads.

use crate::support::{Fixture, echo_stack, echoed, eventually, scenario};
use portcullis::{
    Connection, Server,
    listener::{TcpListener, TcpOptions},
    middleware::peer_addr::PeerAddrLayer,
    server::{Drain, Workers},
};
use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep},
};
use tower::ServiceBuilder;

#[test]
fn the_deadline_cuts_connections_and_tasks_and_tells_which() {
    scenario(async {
        let stack = ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .service_fn(|mut connection: Connection<_>| async move {
                let mut byte = [0];
                connection.read_exact(&mut byte).await?;
                if &byte == b"s" {
                    // Deaf to its socket: only the end of its task ends it.
                    sleep(Duration::from_secs(3600)).await;
                }
                connection.read_exact(&mut byte).await.map(drop)
            });
        let deadline = Duration::from_millis(100);
        let drain = Drain::new().with_deadline(deadline);
        let server = Fixture::serve_with(stack, |server| server.drain(drain));
        let mut clients = Vec::new();
        for request in [b"r", b"s"] {
            let mut client = server.connect().await;
            client.write_all(request).await.unwrap();
            clients.push(client);
        }
        eventually("both have been read", || {
            server
                .handle
                .connections()
                .iter()
                .filter(|c| c.bytes_read() == 1)
                .count()
                == 2
        })
        .await;
        let begun = Instant::now();
        let report = server.finish().await;
        assert!(begun.elapsed() >= deadline, "{:?}", begun.elapsed());
        assert!(
            begun.elapsed() < deadline + Duration::from_millis(400),
            "{:?}",
            begun.elapsed()
        );
        let mut cut: Vec<_> = report
            .force_closed()
            .iter()
            .map(|c| c.peer_addr())
            .collect();
        let mut peers: Vec<_> = clients.iter().map(|c| c.local_addr().ok()).collect();
        cut.sort();
        peers.sort();
        assert_eq!(cut, peers);
        assert_eq!((report.ended(), report.still_running()), (0, 0));
    });
}

#[test]
fn the_end_comes_at_the_deadline_even_if_a_handler_blocks_its_thread() {
    scenario(async {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let (blocks, blocked) = tokio::sync::oneshot::channel();
        let blocks = Arc::new(Mutex::new(Some(blocks)));
        let stack = ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .service_fn(move |connection: Connection<_>| {
                let (held, blocks) = (held.clone(), blocks.clone());
                async move {
                    let _connection = connection;
                    blocks.lock().unwrap().take().unwrap().send(()).unwrap();
                    let _ = held.lock().unwrap().recv();
                    Ok::<_, io::Error>(())
                }
            });
        let drain = Drain::new().with_deadline(Duration::from_millis(50));
        let server = Fixture::serve_with(stack, |server| server.drain(drain));
        // Not by the runtime: nobody may be left to tell it that it is connected.
        let _client = std::net::TcpStream::connect(server.address).unwrap();
        // Without the help of a timer: the blocked thread may hold those up.
        blocked.await.unwrap();
        server.handle.stop();
        let report = server
            .handle
            .wait_for(Duration::from_secs(2))
            .await
            .unwrap();
        assert_eq!(
            (report.force_closed().len(), report.still_running()),
            (1, 1)
        );
        drop(release);
        server.idle().await;
    });
}

#[test]
fn a_server_run_on_the_main_thread_keeps_its_deadline_beside_a_blocking_handler() {
    for _ in 0..5 {
        scenario(async {
            let (release, held) = std::sync::mpsc::channel::<()>();
            let (blocks, blocked) = std::sync::mpsc::channel();
            let held = Arc::new(Mutex::new(held));
            let stack = ServiceBuilder::new()
                .layer(PeerAddrLayer::new())
                .service_fn(move |_connection: Connection<_>| {
                    let (held, blocks) = (held.clone(), blocks.clone());
                    async move {
                        blocks.send(()).unwrap();
                        let _ = held.lock().unwrap().recv();
                        Ok::<_, io::Error>(())
                    }
                });
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = Server::new()
                .listen(listener, stack)
                .drain(Drain::new().with_deadline(Duration::from_millis(50)));
            let handle = server.handle();
            let client = std::net::TcpStream::connect(address).unwrap();
            std::thread::spawn(move || {
                blocked.recv().unwrap();
                handle.stop();
            });
            // Nothing here waits by a timer of the runtime.
            let report = server.run().await.unwrap();
            assert_eq!(
                (report.force_closed().len(), report.still_running()),
                (1, 1)
            );
            drop((release, client));
        });
    }
}

#[test]
fn a_server_that_is_over_leaves_no_port_open_although_a_handler_blocks_the_thread_of_its_listener()
{
    scenario(async {
        for threads in [1, 2] {
            let (release, held) = std::sync::mpsc::channel::<()>();
            let (blocks, blocked) = std::sync::mpsc::channel();
            let held = Arc::new(Mutex::new(held));
            let stack = ServiceBuilder::new()
                .layer(PeerAddrLayer::new())
                .service_fn(move |_connection: Connection<_>| {
                    let (held, blocks) = (held.clone(), blocks.clone());
                    async move {
                        blocks.send(()).unwrap();
                        let _ = held.lock().unwrap().recv();
                        Ok::<_, io::Error>(())
                    }
                });
            let listener = TcpOptions::new()
                .with_reuse_port(true)
                .bind("127.0.0.1:0")
                .unwrap();
            let address = listener.local_addr().unwrap();
            let server = Server::new()
                .listen(listener, stack)
                .workers(Workers::Sharded(threads))
                .drain(Drain::new().with_deadline(Duration::from_millis(50)));
            let handle = server.handle();
            let client = std::net::TcpStream::connect(address).unwrap();
            std::thread::spawn(move || {
                blocked.recv().unwrap();
                handle.stop();
            });
            let report = server.run().await.unwrap();
            assert_eq!(report.still_running(), 1);
            for _ in 0..10 {
                let refused = std::net::TcpStream::connect(address).unwrap_err();
                assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            }
            // Without SO_REUSEPORT: not one of the old sockets may be left.
            drop(TcpListener::bind(address).unwrap());
            drop((release, client));
        }
    });
}

#[test]
fn a_second_stop_ends_the_drain_at_once() {
    scenario(async {
        let server = Fixture::serve(echo_stack());
        let mut client = server.connect().await;
        assert!(echoed(&mut client, b"x").await.unwrap());
        server.handle.stop();
        server.handle.stop_at_once();
        let report = server.finish().await;
        assert_eq!(report.force_closed().len(), 1);
        assert!(report.took() < Duration::from_secs(5));
    });
}
