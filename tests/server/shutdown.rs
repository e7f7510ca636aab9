//! Graceful shutdown: connections finish, queued clients are served, handlers are notified.

use crate::support::{Fixture, ask, echo, echo_stack, echoed, eventually, read_to_end, scenario};
use portcullis::{
    BoxError, Connection,
    middleware::{connection::Socket, outcome::Outcome, peer_addr::PeerAddrLayer},
    server::{Drain, State},
};
use std::{io, sync::Arc, time::Duration};
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
        assert_eq!(read_to_end(&mut client).await, "bye\n");
        drop(client);
        assert_eq!(server.finish().await.ended(), 1);
    });
}

#[test]
fn during_the_announcement_new_connections_are_still_served() {
    scenario(async {
        let announce = Duration::from_secs(2);
        let drain = Drain::new().with_notice_period(announce);
        let server = Fixture::serve_with(echo_stack(), |server| server.drain(drain));
        server.handle.stop();
        eventually("the drain has begun", || {
            server.handle.state() == State::Draining
        })
        .await;
        assert_eq!(ask(server.connect().await, b"new").await.unwrap(), b"new");
        let report = server.finish().await;
        assert!(report.took() >= announce);
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
        let begun = Instant::now();
        server.handle.stop();
        eventually("the drain has begun", || {
            server.handle.state() == State::Draining
        })
        .await;
        assert!(!server.handle.resume());
        let answer = ask(server.connect().await, b"late").await;
        assert_eq!(answer.unwrap(), b"late");
        assert!(begun.elapsed() >= announce, "{:?}", begun.elapsed());
        assert_eq!(server.finish().await.ended(), 1);
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
        assert_eq!(read_to_end(&mut client).await, "upgraded");
        assert_eq!(server.finish().await.ended(), 1);
    });
}

#[test]
fn a_detached_connection_is_nobody_s_concern() {
    scenario(async {
        let (give, mut take) = tokio::sync::mpsc::channel(1);
        let stack = ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .service_fn(move |connection: Connection<Socket<TcpStream>>| {
                let give = give.clone();
                async move {
                    let stream = connection.detach().into_inner();
                    give.send(stream).await.map_err(BoxError::from)
                }
            });
        let server = Fixture::serve(stack);
        let mut client = server.connect().await;
        let mut stream = take.recv().await.unwrap();
        server.idle().await;
        server.finish().await;
        stream.write_all(b"alive").await.unwrap();
        drop(stream);
        assert_eq!(read_to_end(&mut client).await, "alive");
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
