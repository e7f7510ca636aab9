use super::*;
use crate::{
    BoxError, Connection, Server, ServiceBuilderExt,
    connection::{Address, Transport},
    server::Drain,
    server::Stack,
};
use portcullis_middleware::{error::TimeoutPhase, outcome::Outcome, timeout::IoTimeoutLayer};
use std::{future::pending, io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex},
    time::{Instant, sleep},
};
use tower::{ServiceBuilder, service_fn};

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(1);

/// Echoes one line; a read may take ten seconds.
fn stack<Io: Transport>() -> impl Stack<Io> {
    ServiceBuilder::new()
        .peer_addr()
        .layer(IoTimeoutLayer::new().with_read_timeout(10 * SECOND))
        .service_fn(|mut connection: Connection<_>| async move {
            loop {
                match connection.read_u8().await? {
                    b'\n' => break,
                    byte => connection.write_u8(byte).await?,
                }
            }
            connection.close().await
        })
}

#[test]
fn the_stream_of_a_harness_writes_as_what_is_in_it() {
    let plain = Peer::new().without_vectored_writes().io();
    assert!(!TestIo::from(plain).is_write_vectored());
    assert!(TestIo::from(Peer::new().io()).is_write_vectored());
    assert!(TestIo::from(duplex(8).0).is_write_vectored());
}

#[tokio::test(start_paused = true)]
async fn good_and_bad_clients_are_served_side_by_side() {
    let harness = Harness::new(stack());
    let begun = Instant::now();
    let in_time = harness.play(Peer::new().stalls(10 * SECOND - MOMENT).sends("a\n"));
    let late = harness.play(Peer::new().stalls(10 * SECOND + 2 * MOMENT).sends("a\n"));
    let reset = harness.play(Peer::new().sends("ab").stalls(SECOND).resets());
    let cut_short = harness.play(Peer::new().sends("ab").half_closes());
    let mut client = harness.connect();
    client.write_all(b"hello\n").await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "hello");
    drop(client);

    late.dropped().await;
    assert!(begun.elapsed() <= 10 * SECOND + MOMENT);
    harness.idle().await;
    assert_eq!(in_time.written(), b"a");
    assert_eq!(late.written(), b"");
    assert_eq!(
        (reset.written(), cut_short.written()),
        (b"ab".to_vec(), b"ab".to_vec())
    );

    let end = harness.finish().await;
    let mut outcomes = end.status.outcomes;
    outcomes.sort_by_key(|(_, count)| *count);
    let timed_out = Outcome::TimedOut(TimeoutPhase::READ);
    assert_eq!(outcomes[0], (timed_out, 1));
    assert!(outcomes[1..].contains(&(Outcome::Completed, 2)));
    assert!(outcomes[1..].contains(&(Outcome::Disconnected, 2)));
    assert_eq!(outcomes.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn clients_have_addresses() {
    let service = |mut connection: Connection<_>| async move {
        let peer = connection.peer_addr().ok_or(io::ErrorKind::Other)?;
        let local = connection.local_addr().ok_or(io::ErrorKind::Other)?;
        let addresses = format!("{peer} {local}");
        connection.write_all(addresses.as_bytes()).await?;
        connection.close().await
    };
    let stack = ServiceBuilder::new().peer_addr().service_fn(service);
    let harness = Harness::new(stack);
    let there = std::net::SocketAddr::from(([192, 0, 2, 1], 4));
    let first = harness.play(Peer::new());
    let second = harness.play(Peer::new());
    let given = harness.play(Peer::new().with_peer_address(there));
    let mut client = harness.connect_from(there);
    let mut received = String::new();
    client.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "192.0.2.1:4 127.0.0.1:80");
    drop(client);
    harness.idle().await;
    assert_eq!(first.written(), b"127.0.0.1:65535 127.0.0.1:80");
    assert_eq!(second.written(), b"127.0.0.1:65534 127.0.0.1:80");
    assert_eq!(given.written(), received.as_bytes());
    harness.finish().await;
}

/// Holds every connection indefinitely.
fn stuck() -> impl Stack<TestIo> {
    service_fn(|io: TestIo| async move {
        let _held = io;
        pending::<Result<(), BoxError>>().await
    })
}

#[tokio::test(start_paused = true)]
#[should_panic(
    expected = "connections that were force-closed at the drain's deadline: [ConnectionInfo"
)]
async fn a_connection_that_does_not_end_is_told() {
    let harness = Harness::new(stuck());
    let _client = harness.connect();
    sleep(MOMENT).await;
    harness.finish().await;
}

#[tokio::test(start_paused = true)]
async fn connections_may_be_cut_where_that_is_expected() {
    let server = Server::new().drain(Drain::new().with_deadline(SECOND));
    let harness = Harness::with_server(server, stuck());
    let _client = harness.connect();
    sleep(MOMENT).await;
    let begun = Instant::now();
    let end = harness.force_close().await;
    assert_eq!(end.report.force_closed().len(), 1);
    assert!(begun.elapsed() >= SECOND && begun.elapsed() < 2 * SECOND);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "after 600s connections are still being served: [ConnectionInfo")]
async fn a_stack_that_is_never_idle_is_told() {
    let harness = Harness::new(stuck());
    let _client = harness.connect();
    harness.idle().await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "1 tasks are left that were not there before")]
async fn a_task_that_is_left_is_told() {
    let harness = Harness::new(service_fn(|_: TestIo| async {
        drop(tokio::spawn(pending::<()>()));
        Ok::<_, BoxError>(())
    }));
    let _client = harness.connect();
    harness.idle().await;
    harness.finish().await;
}

#[tokio::test(start_paused = true)]
async fn idle_waits_for_clients_that_nobody_accepted_yet() {
    let harness = Harness::new(stack());
    let seen = harness.play(Peer::new().sends("a\n").half_closes());
    harness.idle().await;
    assert_eq!(seen.written(), b"a");
    harness.finish().await;
}

#[tokio::test(start_paused = true)]
async fn clients_of_other_listeners_are_waited_for_too() {
    let (listener, connector) = MemoryListener::pair_of();
    let server = Server::new().listen(listener, stack());
    let harness = Harness::with_server(server, stack());
    let (io, other) = Peer::new().stalls(SECOND).sends("b\n").half_closes().pair();
    connector.deliver(io, Address::Unknown).unwrap();
    let seen = harness.play(Peer::new().sends("a\n").half_closes());
    harness.idle().await;
    assert_eq!(
        (seen.written(), other.written()),
        (b"a".to_vec(), b"b".to_vec())
    );
    harness.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_harness_that_is_dropped_stops_its_server() {
    let harness = Harness::new(stack());
    let handle = harness.handle().clone();
    drop(harness);
    handle.wait().await;
    assert!(handle.is_stopped());
}
