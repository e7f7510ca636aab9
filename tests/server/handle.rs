//! A running server: what its handle tells and does.

use crate::support::{
    Fixture, ask, assert_ended, echo, echo_stack, echoed, eventually, finish, scenario,
};
#[cfg(unix)]
use portcullis::listener::UnixListener;
use portcullis::{
    BoxError, Connection, Server,
    connection::Phase,
    listener::{AnyListener, TcpListener},
    middleware::{
        error::find, limit::ConnectionLimitLayer, outcome::Outcome, peer_addr::PeerAddrLayer,
    },
    server::{Drain, Handle, State},
};
use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};
use tower::ServiceBuilder;

#[test]
fn connections_are_served_and_listed_with_their_peer() {
    scenario(async {
        let server = Fixture::serve(echo_stack());
        let mut client = server.connect().await;
        assert!(echoed(&mut client, b"hello").await.unwrap());

        let listed = server.handle.connections();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].peer_addr(), client.local_addr().ok());
        assert_eq!(listed[0].local_addr(), Some(server.address));
        assert_eq!(
            listed[0].listener(),
            Some(server.address.to_string().as_str())
        );
        assert_eq!((listed[0].bytes_read(), listed[0].bytes_written()), (5, 5));

        drop(client);
        server.idle().await;
        let status = server.status();
        assert_eq!((status.state, status.accepted), (State::Running, 1));
        assert_eq!(status.outcomes, [(Outcome::Completed, 1)]);
        let report = server.finish().await;
        assert_eq!((report.ended(), report.force_closed().len()), (0, 0));
    });
}

#[test]
fn a_panic_in_one_connection_ends_only_that_one() {
    scenario(async {
        let stack = ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .service_fn(|mut connection: Connection<_>| async move {
                let mut byte = [0];
                connection.read_exact(&mut byte).await?;
                assert_ne!(&byte, b"!", "told to panic");
                connection.write_all(&byte).await
            });
        let server = Fixture::serve(stack);
        let bystander = server.connect().await;
        server.active(1).await;
        assert_eq!(ask(server.connect().await, b"!").await.unwrap(), b"");
        assert_eq!(ask(bystander, b"x").await.unwrap(), b"x");
        server.idle().await;
        let status = server.status();
        assert_eq!(
            status.outcomes,
            [(Outcome::Completed, 1), (Outcome::Panicked, 1)]
        );
        server.finish().await;
    });
}

#[test]
fn close_reaches_a_connection_that_waits_and_one_that_is_busy() {
    scenario(async {
        let server = Fixture::serve(echo_stack());
        let mut waiting = server.connect().await;
        assert!(echoed(&mut waiting, b"x").await.unwrap());
        let id = server.handle.connections()[0].id();
        assert!(server.handle.close(id));
        assert_eq!(waiting.read(&mut [0; 1]).await.unwrap(), 0);
        server.idle().await;
        assert!(!server.handle.close(id));

        let busy = server.connect().await;
        let (mut read, mut write) = busy.into_split();
        let flood = tokio::spawn(async move { while write.write_all(&[0; 4096]).await.is_ok() {} });
        let sink =
            tokio::spawn(
                async move { while read.read(&mut [0; 4096]).await.is_ok_and(|n| n > 0) {} },
            );
        eventually("traffic flows", || {
            server
                .handle
                .connections()
                .first()
                .is_some_and(|c| c.bytes_read() > 100_000)
        })
        .await;
        let id = server.handle.connections()[0].id();
        assert!(server.handle.reset(id));
        server.idle().await;
        flood.await.unwrap();
        sink.await.unwrap();
        assert_eq!(server.status().outcomes, [(Outcome::Forced, 2)]);
        server.finish().await;
    });
}

#[test]
fn close_reaches_boxed_split_halves_in_a_task_of_somebody_else() {
    scenario(async {
        let ended = Arc::new(AtomicUsize::new(0));
        let count = ended.clone();
        let stack = ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .service_fn(move |connection: Connection<_>| {
                let count = count.clone();
                async move {
                    let (mut read, mut write) = tokio::io::split(connection.box_io());
                    let other = count.clone();
                    tokio::spawn(async move {
                        assert!(read.read(&mut [0; 1]).await.is_err());
                        count.fetch_add(1, Ordering::SeqCst);
                    });
                    tokio::spawn(async move {
                        while write.write_all(&[0; 4096]).await.is_ok() {}
                        other.fetch_add(1, Ordering::SeqCst);
                    });
                    Ok::<_, io::Error>(())
                }
            });
        let server = Fixture::serve(stack);
        let client = server.connect().await;
        eventually("the task has ended", || {
            !server.status().outcomes.is_empty()
        })
        .await;
        assert_eq!(server.status().outcomes, [(Outcome::HandedOff, 1)]);
        assert_eq!(server.status().active, 1);
        let id = server.handle.connections()[0].id();
        assert!(server.handle.close(id));
        server.idle().await;
        assert_eq!(ended.load(Ordering::SeqCst), 2);
        drop(client);
        server.finish().await;
    });
}

#[test]
fn a_paused_server_leaves_clients_in_the_queue_and_serves_them_later() {
    scenario(async {
        let server = Fixture::serve(echo_stack());
        assert!(server.handle.pause());
        assert!(!server.handle.pause());
        assert_eq!(server.handle.state(), State::Paused);
        let client = server.connect().await;
        let answer = tokio::spawn(ask(client, b"later"));
        sleep(Duration::from_millis(30)).await;
        assert_eq!(server.status().accepted, 0);
        assert!(server.handle.resume());
        assert_eq!(answer.await.unwrap().unwrap(), b"later");
        server.finish().await;
    });
}

#[test]
fn a_server_that_was_just_resumed_hears_of_its_end() {
    // The acceptor goes on while it is still being told to: each time there is another moment for it.
    for _ in 0..100 {
        scenario(async {
            let server = Fixture::serve(echo_stack());
            server.handle.pause();
            // Nothing shows that the acceptor has stopped; where it has not, this round proves less.
            sleep(Duration::from_millis(1)).await;
            server.handle.resume();
            let mut client = server.connect().await;
            assert!(echoed(&mut client, b"hello").await.unwrap());
            drop(client);
            server.finish().await;
        });
    }
}

#[test]
fn several_listeners_and_stacks_end_together() {
    scenario(async {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let second = TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses = [first.local_addr().unwrap(), second.local_addr().unwrap()];
        let server = Server::new();
        let control = server.handle();
        let stop = ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .service_fn(move |mut connection: Connection<_>| {
                let control = control.clone();
                async move {
                    let name = connection.info().listener().unwrap_or_default().to_owned();
                    connection.write_all(name.as_bytes()).await?;
                    control.stop();
                    connection.close().await
                }
            });
        let handle = server
            .listen(first, echo_stack())
            .listen_as("control", second, stop)
            .spawn()
            .unwrap();
        let client = TcpStream::connect(addresses[0]).await.unwrap();
        assert_eq!(ask(client, b"x").await.unwrap(), b"x");
        let client = TcpStream::connect(addresses[1]).await.unwrap();
        assert_eq!(ask(client, b"").await.unwrap(), b"control");
        assert!(handle.wait().await.force_closed().is_empty());
        assert_ended(&handle);
    });
}

#[test]
fn the_handle_shows_and_changes_the_limit() {
    scenario(async {
        let (layer, limit) = ConnectionLimitLayer::pair(1);
        let stack = ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .layer(layer)
            .service_fn(echo);
        let server = Fixture::serve_with(stack, |server| server.limit(limit));
        let mut first = server.connect().await;
        assert!(echoed(&mut first, b"1").await.unwrap());
        let mut second = server.connect().await;
        eventually("the second waits", || server.status().waiting == 1).await;
        assert_eq!(server.status().limit, Some(1));
        assert!(server.handle.set_limit(2));
        assert!(echoed(&mut second, b"2").await.unwrap());
        assert_eq!(server.status().limit, Some(2));
        drop((first, second));
        server.finish().await;
        assert!(!Server::new().handle().set_limit(3));
    });
}

#[test]
fn a_handler_reaches_its_server_and_can_stop_it() {
    scenario(async {
        let stack = ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .service_fn(|mut connection: Connection<_>| async move {
                let handle = Handle::of(connection.info()).unwrap();
                handle.stop();
                let listeners = &handle.config().unwrap().listeners;
                connection.write_all(listeners[0].name().as_bytes()).await?;
                connection.close().await
            });
        let server = Fixture::serve(stack);
        let answer = ask(server.connect().await, b"").await.unwrap();
        assert_eq!(answer, server.address.to_string().as_bytes());
        server.handle.wait().await;
        server.finish().await;
    });
}

#[test]
fn a_handler_that_aborts_on_purpose_has_not_been_forced() {
    scenario(async {
        let stack = ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .service_fn(|mut connection: Connection<_>| async move {
                connection.read_u8().await?;
                connection.abort();
                Ok::<_, io::Error>(())
            });
        let server = Fixture::serve(stack);
        let mut client = server.connect().await;
        client.write_u8(b'!').await.unwrap();
        let error = client.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        server.idle().await;
        assert_eq!(server.status().outcomes, [(Outcome::Completed, 1)]);
        server.finish().await;
    });
}

#[cfg(unix)]
#[test]
fn one_stack_serves_listeners_of_both_kinds() {
    scenario(async {
        let path = std::env::temp_dir().join(format!("portcullis-{}.sock", std::process::id()));
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let unix = UnixListener::bind(&path).unwrap();
        let stack = ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .service_fn(echo);
        let listeners = [AnyListener::Tcp(tcp), AnyListener::Unix(unix)];
        let handle = Server::new().listen_all(listeners, stack).spawn().unwrap();

        let client = TcpStream::connect(address).await.unwrap();
        assert_eq!(ask(client, b"over TCP").await.unwrap(), b"over TCP");
        let mut client = tokio::net::UnixStream::connect(&path).await.unwrap();
        client.write_all(b"over Unix").await.unwrap();
        // The TCP connection may still be in the table: its client saw the end a moment before.
        let connections = handle.connections();
        let mut unix = connections.iter().filter(|info| info.peer_addr().is_none());
        let peer = unix.next().map(|info| info.peer().to_string());
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"over Unix");
        assert!(peer.is_none_or(|peer| peer == "unix"));

        finish(&handle).await;
        assert!(!path.exists());
    });
}

#[test]
fn hooks_are_called_once_at_start_and_at_the_end() {
    scenario(async {
        let log = Arc::new(Mutex::new(Vec::new()));
        let (started, stopped) = (log.clone(), log.clone());
        let (trigger, triggered) = tokio::sync::oneshot::channel::<()>();
        let server = Fixture::serve_with(echo_stack(), |server| {
            server
                .on_start(move |handle| {
                    started
                        .lock()
                        .unwrap()
                        .push(format!("{:?}", handle.state()))
                })
                .on_stop(move |report| stopped.lock().unwrap().push(format!("{}", report.ended())))
                .stop_on(async move { drop(triggered.await) })
        });
        trigger.send(()).unwrap();
        server.handle.wait().await;
        assert_eq!(*log.lock().unwrap(), ["Running", "0"]);
        server.finish().await;
    });
}

#[test]
fn a_drain_that_is_changed_while_the_server_runs_counts_for_its_shutdown() {
    scenario(async {
        let hour = Drain::new().with_deadline(Duration::from_secs(3600));
        let server = Fixture::serve_with(echo_stack(), |server| server.drain(hour));
        let mut client = server.connect().await;
        assert!(echoed(&mut client, b"hello").await.unwrap());
        let mut draining = Box::pin(server.handle.draining());
        assert!(futures_util::poll!(&mut draining).is_pending());
        server
            .handle
            .set_drain(Drain::new().with_deadline(Duration::from_millis(50)));
        server.handle.stop();
        draining.await;
        let report = server.handle.wait().await;
        assert_eq!(report.force_closed().len(), 1);
        assert_eq!(
            report.force_closed()[0].forced_because(),
            Some("the shutdown has reached its deadline")
        );
        assert!(report.took() < Duration::from_secs(60));
        server.finish().await;
    });
}

#[test]
fn a_server_without_listener_says_so() {
    scenario(async {
        let error = Server::new().run().await.unwrap_err();
        assert!(error.is_no_listener());
        assert!(error.to_string().contains("listen"));
    });
}

#[test]
fn errors_keep_their_type_through_the_stack() {
    let elapsed = portcullis::middleware::error::Elapsed::new(
        portcullis::middleware::error::TimeoutPhase::READ,
        Duration::from_secs(1),
    );
    let error: BoxError = io::Error::from(elapsed).into();
    assert_eq!(
        find::<portcullis::middleware::error::Elapsed>(&*error),
        Some(&elapsed)
    );
    assert_eq!(Phase::Serving.to_string(), "serving");
}
