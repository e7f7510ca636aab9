//! What a graceful shutdown does to forwarded connections.

use super::support::{Forwards, until};
use crate::service::forward::DrainPolicy;
use portcullis_middleware::{
    Connection, ConnectionInfo,
    connection::{Address, EndedBy, ListenerInfo},
    drain::DrainTrigger,
    outcome::Outcome,
    testing,
};
use socket2::SockRef;
use std::{io::ErrorKind, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::{Instant, advance, pause, resume, sleep, timeout},
};

/// A forwarded connection of a server, with the trigger of its drain and both peers.
fn forwards(policy: DrainPolicy) -> (DrainTrigger, Forwards, DuplexStream, DuplexStream) {
    let (trigger, signal) = DrainTrigger::pair();
    let listener = Arc::new(ListenerInfo::new().with_drain(signal));
    let info = ConnectionInfo::from_listener(listener, Address::Unknown, Address::Unknown);
    let (ours, client) = duplex(64);
    let (backend, server) = testing::in_memory(64);
    let connection = Connection::with_info(ours, info);
    let forwards = Forwards::start(connection, backend, |service| service.with_drain(policy));
    (trigger, forwards, client, server)
}

const SECOND: Duration = Duration::from_secs(1);

/// The backend resets, which a write notices, and the client receives slowly.
#[tokio::test]
async fn a_reset_stays_one_while_the_server_drains() {
    for pings in 1..5 {
        let (trigger, signal) = DrainTrigger::pair();
        let listener = Arc::new(ListenerInfo::new().with_drain(signal));
        let info = ConnectionInfo::from_listener(listener, Address::Unknown, Address::Unknown);
        let (client, mut theirs) = testing::over_tcp().await;
        let client = Connection::with_info(client.detach().into_inner(), info);
        let (backend, mut server) = testing::over_tcp().await;
        let forwards = Forwards::start(client, backend, |service| {
            service.with_drain(DrainPolicy::EndWhenIdle(SECOND / 2))
        });
        SockRef::from(&theirs).set_recv_buffer_size(65_536).unwrap();
        server.write_all(&[7; 800_000]).await.unwrap();
        until(|| forwards.info.bytes_written() >= 800_000).await;
        // Which direction is polled first alternates.
        for ping in 1..=pings {
            theirs.write_all(b"p").await.unwrap();
            until(|| forwards.info.bytes_read() >= ping).await;
        }
        trigger.notify();
        theirs.write_all(b"more").await.unwrap();
        server.set_zero_linger().unwrap();
        drop(server);
        until(|| forwards.info.ended_by().is_some()).await;
        pause();
        advance(SECOND).await;
        resume();
        let reading = async { theirs.read_to_end(&mut Vec::new()).await };
        let end = timeout(30 * SECOND, reading).await.unwrap();
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
        forwards.result().await.unwrap_err();
    }
}

#[tokio::test(start_paused = true)]
async fn connections_go_on_by_default() {
    let (trigger, forwards, mut client, mut server) = forwards(DrainPolicy::default());
    trigger.close();
    sleep(3600 * SECOND).await;
    client.write_all(b"still").await.unwrap();
    server.read_exact(&mut [0; 5]).await.unwrap();
    drop((client, server));
    forwards.result().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn connections_end_gracefully_once_they_are_idle_if_that_is_the_policy() {
    let (trigger, forwards, mut client, mut server) =
        forwards(DrainPolicy::EndWhenIdle(2 * SECOND));
    sleep(60 * SECOND).await;
    trigger.notify();
    for _ in 0..5 {
        client.write_all(b"x").await.unwrap();
        server.read_exact(&mut [0]).await.unwrap();
        sleep(Duration::from_millis(1900)).await;
    }
    let begun = Instant::now();
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(begun.elapsed(), Duration::from_millis(100));
    drop((client, server));
    let info = forwards.info.clone();
    let forwarded = forwards.result().await.unwrap();
    assert_eq!(
        (forwarded.to_backend, forwarded.ended_by),
        (5, EndedBy::Gate)
    );
    assert_eq!(Outcome::of(&info, None), Outcome::Completed);
}

#[tokio::test(start_paused = true)]
async fn bytes_in_transit_are_delivered_before_the_end() {
    let (trigger, forwards, mut client, mut server) = forwards(DrainPolicy::EndWhenIdle(SECOND));
    client.write_all(&[7; 64]).await.unwrap();
    client.write_all(&[7; 64]).await.unwrap();
    trigger.close();
    sleep(60 * SECOND).await;
    assert!(!forwards.task.is_finished());
    let mut received = Vec::new();
    server.read_to_end(&mut received).await.unwrap();
    assert_eq!(received.len(), 128);
    drop((client, server));
    forwards.result().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn half_closed_connections_also_end_once_they_are_idle() {
    let policy = DrainPolicy::EndWhenIdle(2 * SECOND);
    let (trigger, half_closed, mut client, server) = forwards(policy);
    client.shutdown().await.unwrap();
    sleep(10 * SECOND).await;
    trigger.notify();
    let begun = Instant::now();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert!(begun.elapsed() <= 2 * SECOND);
    drop((client, server));
    half_closed.result().await.unwrap();

    // The limit of half-closed connections remains if it is the smaller one.
    let policy = DrainPolicy::EndWhenIdle(3600 * SECOND);
    let (trigger, half_closed, mut client, _server) = forwards(policy);
    trigger.notify();
    client.shutdown().await.unwrap();
    let begun = Instant::now();
    half_closed.result().await.unwrap_err();
    assert_eq!(begun.elapsed(), 60 * SECOND);
}
