use super::*;
use crate::{
    BoxError, Connection, ConnectionInfo,
    connection::{Address, ListenerInfo, Phase, Socket},
    drain::DrainTrigger,
    error::{Refused, find},
    observe::trace::tests::log::Log,
    outcome::Outcome,
    testing::{in_memory, over_tcp},
};
use std::{future::poll_fn, io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    time::advance,
};
use tokio_test::{assert_pending, assert_ready, task};
use tower::Service;
use tower_test::mock;
use tracing::Level;

const HOLD: Duration = Duration::from_secs(10);

fn tarpit(at_most: usize) -> Guard {
    let hold = HOLD;
    Guard {
        refusal: Refusal::Tarpit { hold, at_most },
        ..Guard::new("gate")
    }
}

fn refused() -> Refused {
    Refused::new("gate", "shut")
}

/// Rejects `connection`; the inner service would panic.
fn reject<IO>(guard: &Guard, connection: Connection<IO>) -> task::Spawn<RejectFuture<IO>>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut inner = mock::pair::<Connection<IO>, ()>().0;
    task::spawn(guard.call(&mut inner, connection, Err(refused())))
}

type RejectFuture<IO> =
    GuardFuture<<mock::Mock<Connection<IO>, ()> as Service<Connection<IO>>>::Future>;

fn reason(result: Result<(), BoxError>) -> &'static str {
    find::<Refused>(&*result.unwrap_err()).unwrap().reason()
}

#[tokio::test(start_paused = true)]
async fn a_tarpit_holds_a_connection_unread_and_closes_it_after_its_time() {
    let (connection, mut client) = in_memory(64);
    let info = connection.info().clone();
    let mut call = reject(&tarpit(1), connection);
    client.write_all(b"let me in").await.unwrap();
    assert_pending!(call.poll());
    assert_eq!(info.phase(), Phase::Closing);
    advance(HOLD - Duration::from_millis(1)).await;
    assert_pending!(call.poll());
    advance(Duration::from_millis(1)).await;
    assert!(call.is_woken());
    let result = assert_ready!(call.poll());
    assert_eq!(
        Outcome::of(&info, result.as_ref().err().map(|e| &**e as _)),
        Outcome::Refused
    );
    assert_eq!(reason(result), "shut");
    assert_eq!((info.phase(), info.bytes_read()), (Phase::Closed, 0));
}

#[tokio::test(start_paused = true)]
async fn beyond_its_number_a_tarpit_closes_until_a_place_is_free() {
    let guard = tarpit(2);
    let mut held: Vec<_> = (0..2).map(|_| reject(&guard, in_memory(8).0)).collect();
    for call in &mut held {
        assert_pending!(call.poll());
    }
    let (connection, mut client) = in_memory(8);
    assert_eq!(
        reason(assert_ready!(reject(&guard, connection).poll())),
        "shut"
    );
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    // A place is free once its future is dropped, even without a poll.
    held.pop();
    assert_pending!(reject(&guard, in_memory(8).0).poll());
    assert_eq!(guard.refused(), 4);
}

#[tokio::test]
async fn a_client_that_disconnects_leaves_the_tarpit() {
    let (connection, client) = over_tcp().await;
    let guard = tarpit(1);
    let mut call = reject(&guard, connection);
    assert_pending!(call.poll());
    drop(client);
    assert_eq!(reason(call.await), "shut");
    assert_pending!(reject(&guard, in_memory(8).0).poll());
}

#[tokio::test(start_paused = true)]
async fn a_forced_close_and_a_shutdown_end_the_tarpit() {
    let guard = tarpit(1);
    let (connection, _client) = in_memory(8);
    let info = connection.info().clone();
    let mut call = reject(&guard, connection);
    assert_pending!(call.poll());
    info.force_close();
    assert!(call.is_woken());
    assert_eq!(reason(assert_ready!(call.poll())), "shut");

    let (trigger, signal) = DrainTrigger::pair();
    let listener = ListenerInfo::new().with_drain(signal);
    let info =
        ConnectionInfo::from_listener(Arc::new(listener), Address::Unknown, Address::Unknown);
    let (ours, _theirs) = tokio::io::duplex(8);
    let mut call = reject(&guard, Connection::with_info(ours, info));
    assert_pending!(call.poll());
    trigger.notify();
    assert!(call.is_woken());
    assert_eq!(reason(assert_ready!(call.poll())), "shut");
}

#[tokio::test]
async fn a_reset_and_a_close_happen_in_the_call() {
    for (refusal, expected) in [
        (Refusal::Reset, Some(io::ErrorKind::ConnectionReset)),
        (Refusal::Close, None),
    ] {
        let guard = Guard {
            refusal,
            ..Guard::new("gate")
        };
        let (connection, mut client) = over_tcp().await;
        let call = reject(&guard, connection);
        assert_eq!(
            client.read(&mut [0]).await.err().map(|error| error.kind()),
            expected
        );
        assert_eq!(reason(call.await), "shut");
    }
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_observes_admits_counts_and_logs_a_few_per_second() {
    let guard = Guard {
        observe: true,
        ..tarpit(1)
    };
    let log = Log::of_lines(Level::INFO);
    let (mut inner, mut handle) = mock::pair::<Connection<Socket<DuplexStream>>, ()>();
    handle.allow(7);
    for _ in 0..7 {
        assert_ready!(task::spawn(poll_fn(|cx| inner.poll_ready(cx))).poll()).unwrap();
        let connection = in_memory(8).0;
        let info = connection.info().clone();
        let _call = guard.call(&mut inner, connection, Err(refused()));
        let notes: Vec<_> = info.notes().map(ToString::to_string).collect();
        assert_eq!(notes, ["gate: shut"]);
        assert!(assert_ready!(task::spawn(handle.next_request()).poll()).is_some());
    }
    assert_eq!((guard.refused(), guard.observed()), (0, 7));
    let lines = log.lines();
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[0].level, Level::INFO);
    assert_eq!(lines[0].fields["by"], "gate");
    assert_eq!(lines[0].fields["error"], "connection refused: shut");
}
