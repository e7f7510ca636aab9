//! How a server comes to its end, and what becomes of its connections then.

use crate::support::{
    Fixture, ask, assert_ended, echo, echo_stack, echoed, eventually, paused_scenario, scenario,
};
use portcullis::{
    BoxError, Connection, Server,
    listener::{MemoryListener, TcpListener, TcpOptions},
    middleware::{outcome::Outcome, peer_addr::PeerAddrLayer},
    server::{Drain, Handle, State, Workers},
};
use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    time::{Instant, sleep},
};
use tower::ServiceBuilder;

#[test]
fn the_drain_lets_connections_finish_and_serves_the_queue() {
    scenario(async {
        let stack = ServiceBuilder::new()
            .concurrency_limit(1)
            .layer(PeerAddrLayer::new())
            .service_fn(echo);
        let server = Fixture::serve(stack);
        let mut first = server.connect().await;
        assert!(echoed(&mut first, b"begun").await.unwrap());
        // One waits for its turn in the acceptor, two more in the kernel's queue.
        let queued: Vec<_> = [b"a", b"b", b"c"]
            .map(|request| (request, server.address))
            .map(|(request, address)| {
                tokio::spawn(async move {
                    ask(TcpStream::connect(address).await.unwrap(), request).await
                })
            })
            .into();
        eventually("one waits outside the queue", || {
            server.status().accepted == 2
        })
        .await;
        sleep(Duration::from_millis(20)).await;
        server.handle.stop();
        eventually("the drain has begun", || {
            server.handle.state() == State::Draining
        })
        .await;
        assert!(echoed(&mut first, b"still served").await.unwrap());
        drop(first);
        for (task, request) in queued.into_iter().zip([b"a", b"b", b"c"]) {
            assert_eq!(task.await.unwrap().unwrap(), request);
        }
        let report = server.finish().await;
        assert_eq!((report.ended(), report.force_closed().len()), (4, 0));
    });
}

#[test]
fn handlers_learn_of_the_drain_and_can_say_good_bye() {
    scenario(async {
        let stack = ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .service_fn(|mut connection: Connection<_>| async move {
                connection.info().drain().await;
                connection.write_all(b"bye\n").await?;
                connection.close().await
            });
        let server = Fixture::serve(stack);
        let mut client = server.connect().await;
        server.active(1).await;
        let handle = server.handle.clone();
        handle.stop();
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "bye\n");
        drop(client);
        assert_eq!(server.finish().await.ended(), 1);
    });
}

#[test]
fn during_the_announcement_new_connections_are_still_served() {
    scenario(async {
        let drain = Drain::new().with_notice_period(Duration::from_millis(300));
        let server = Fixture::serve_with(echo_stack(), |server| server.drain(drain));
        server.handle.stop();
        eventually("the drain has begun", || {
            server.handle.state() == State::Draining
        })
        .await;
        assert_eq!(ask(server.connect().await, b"new").await.unwrap(), b"new");
        let report = server.finish().await;
        assert!(report.took() >= Duration::from_millis(300));
        assert_eq!(report.ended(), 1);
    });
}

#[test]
fn a_paused_server_stays_paused_in_its_announce_time_and_serves_the_queue_after_it() {
    scenario(async {
        let announce = Duration::from_millis(300);
        let drain = Drain::new().with_notice_period(announce);
        let server = Fixture::serve_with(echo_stack(), |server| server.drain(drain));
        assert!(server.handle.pause());
        server.handle.stop();
        eventually("the drain has begun", || {
            server.handle.state() == State::Draining
        })
        .await;
        let begun = Instant::now();
        assert!(!server.handle.resume());
        let answer = ask(server.connect().await, b"late").await;
        assert_eq!(answer.unwrap(), b"late");
        // A bit of it may be over when the state is seen.
        assert!(begun.elapsed() > announce / 2, "{:?}", begun.elapsed());
        assert_eq!(server.finish().await.ended(), 1);
    });
}

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
fn infos_that_outlive_a_server_do_not_keep_it() {
    scenario(async {
        let server = Fixture::serve(echo_stack());
        let mut client = server.connect().await;
        assert!(echoed(&mut client, b"x").await.unwrap());
        server.handle.stop_at_once();
        let report = server.finish().await;
        let info = report.force_closed()[0].clone();
        eventually("the server is gone", || Handle::of(&info).is_none()).await;
    });
}

#[test]
fn a_trigger_that_panics_stops_the_server() {
    scenario(async {
        let server = Fixture::serve_with(echo_stack(), |server| {
            server.stop_on(async { panic!("told to panic") })
        });
        server.handle.wait().await;
        server.finish().await;
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

#[test]
fn an_upgraded_connection_is_waited_for_although_its_task_has_ended() {
    scenario(async {
        let go_on = Arc::new(Notify::new());
        let gone_on = go_on.clone();
        let stack = ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .service_fn(move |mut connection: Connection<_>| {
                let go_on = gone_on.clone();
                async move {
                    tokio::spawn(async move {
                        go_on.notified().await;
                        connection.write_all(b"upgraded").await.unwrap();
                    });
                    Ok::<_, io::Error>(())
                }
            });
        let server = Fixture::serve(stack);
        let mut client = server.connect().await;
        eventually("the task has ended", || {
            !server.status().outcomes.is_empty()
        })
        .await;
        server.handle.stop();
        let waited = server.handle.wait_for(Duration::from_millis(50)).await;
        assert!(waited.is_none(), "the drain did not wait");
        go_on.notify_one();
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "upgraded");
        assert_eq!(server.finish().await.ended(), 1);
    });
}

#[test]
fn a_detached_connection_is_nobody_s_concern() {
    scenario(async {
        let (give, mut take) = tokio::sync::mpsc::channel(1);
        let stack = ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .service_fn(
                move |connection: Connection<
                    portcullis::middleware::connection::Socket<TcpStream>,
                >| {
                    let give = give.clone();
                    async move {
                        let stream = connection.detach().into_inner();
                        give.send(stream).await.map_err(BoxError::from)
                    }
                },
            );
        let server = Fixture::serve(stack);
        let mut client = server.connect().await;
        let mut stream = take.recv().await.unwrap();
        server.idle().await;
        server.finish().await;
        stream.write_all(b"alive").await.unwrap();
        drop(stream);
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "alive");
    });
}

#[test]
fn a_server_that_may_be_idle_for_a_while_stops_after_it_and_not_before() {
    paused_scenario(async {
        let (listener, connector) = MemoryListener::pair();
        let limit = Duration::from_secs(10);
        let stack = ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .service_fn(echo);
        let server = Server::new().listen(listener, stack).stop_when_idle(limit);
        let begun = Instant::now();
        let handle = server.spawn().unwrap();
        // Nine seconds idle, then a connection that lasts longer than the limit.
        sleep(Duration::from_secs(9)).await;
        let mut client = connector.connect().unwrap();
        client.write_all(b"x").await.unwrap();
        client.read_exact(&mut [0; 1]).await.unwrap();
        sleep(Duration::from_secs(20)).await;
        assert!(!handle.is_stopped());
        drop(client);
        handle.wait().await;
        let took = begun.elapsed();
        let expected = Duration::from_secs(9 + 20 + 10);
        assert!(
            (expected..expected + Duration::from_millis(50)).contains(&took),
            "{took:?}"
        );
        assert_ended(&handle);
    });
}

#[test]
fn the_time_of_idleness_begins_with_the_end_of_the_last_connection() {
    paused_scenario(async {
        let (listener, connector) = MemoryListener::pair();
        let limit = Duration::from_secs(10);
        let stack = ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .service_fn(echo);
        let begun = Instant::now();
        let handle = Server::new()
            .listen(listener, stack)
            .stop_when_idle(limit)
            .spawn()
            .unwrap();
        sleep(Duration::from_secs(1)).await;
        drop(connector.connect().unwrap());
        handle.wait().await;
        let took = begun.elapsed();
        let expected = Duration::from_secs(11);
        assert!(
            (expected..expected + Duration::from_millis(50)).contains(&took),
            "{took:?}"
        );
    });
}

#[test]
fn whoever_waits_for_a_server_that_never_ran_learns_of_its_end() {
    scenario(async {
        let server = Server::new();
        let handle = server.handle();
        drop(server);
        assert!(handle.wait_for(Duration::from_secs(5)).await.is_some());

        let server = Server::new();
        let handle = server.handle();
        server.run().await.unwrap_err();
        assert!(handle.wait_for(Duration::from_secs(5)).await.is_some());
        assert!(handle.is_stopped());
    });
}

#[test]
fn a_server_that_ends_cannot_be_paused_or_resumed() {
    scenario(async {
        let drain = Drain::new().with_notice_period(Duration::from_millis(200));
        let server = Fixture::serve_with(echo_stack(), |server| server.drain(drain));
        server.handle.stop();
        eventually("the drain has begun", || {
            server.handle.state() == State::Draining
        })
        .await;
        assert!(!server.handle.pause());
        assert!(!server.handle.resume());
        assert_eq!(server.handle.state(), State::Draining);
        server.finish().await;
    });
}

#[test]
fn a_server_that_was_told_to_stop_before_its_start_ends_at_once() {
    scenario(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server::new().listen(listener, echo_stack());
        server.handle().stop();
        let report = server.run().await.unwrap();
        assert!(report.force_closed().is_empty());
    });
}

#[test]
fn dropping_a_running_server_closes_its_listener() {
    scenario(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let running = tokio::spawn(Server::new().listen(listener, echo_stack()).run());
        let mut client = TcpStream::connect(address).await.unwrap();
        assert!(echoed(&mut client, b"x").await.unwrap());
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        let mut closed = false;
        for _ in 0..200 {
            closed = TcpStream::connect(address).await.is_err();
            if closed {
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
        assert!(closed);
        assert!(
            echoed(&mut client, b"the connection goes on")
                .await
                .unwrap()
        );
    });
}

#[test]
fn a_stack_of_plain_tower_services_is_served_and_drained() {
    scenario(async {
        let stack = tower::service_fn(|mut stream: TcpStream| async move {
            stream.read_u8().await?;
            stream.write_all(b"plain").await
        });
        let server = Fixture::serve(stack);
        let client = server.connect().await;
        server.active(1).await;
        server.handle.stop();
        eventually("the drain has begun", || {
            server.handle.state() == State::Draining
        })
        .await;
        assert_eq!(ask(client, b"x").await.unwrap(), b"plain");
        let handle = server.handle.clone();
        assert_eq!(server.finish().await.ended(), 1);
        assert_eq!(handle.status().outcomes, [(Outcome::Completed, 1)]);
    });
}
