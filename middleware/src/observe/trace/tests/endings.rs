//! Each connection is closed exactly once, with its outcome.

use super::{log::Log, *};
use crate::{
    connection::Phase,
    error::{Elapsed, Refused, TimeoutPhase},
};
use std::{
    fmt,
    future::{Future, Ready, pending, ready},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::service_fn;
use tracing::Level;

/// The outcome of a connection whose service ends with the result of `end`.
async fn outcome<T>(info: &ConnectionInfo, end: impl Fn(Conn) -> Result<T, BoxError>) -> Outcome {
    let notes = Notes::default();
    let end = &end;
    let service = service_fn(move |connection| async move { end(connection) });
    let (connection, _peer) = connection(info);
    let _response = notes.layer().layer(service).call(connection).await;
    notes.outcome()
}

async fn failure(error: impl Into<BoxError> + Clone) -> Outcome {
    outcome::<()>(&info(), |_| Err(error.clone().into())).await
}

#[tokio::test]
async fn what_a_service_returns_tells_the_outcome() {
    assert_eq!(outcome(&info(), |_| Ok(())).await, Outcome::Completed);
    assert_eq!(outcome(&info(), Ok).await, Outcome::HandedOff);
    let detached = outcome(&info(), |connection| Ok(connection.detach())).await;
    assert_eq!(detached, Outcome::HandedOff);
    assert_eq!(failure("no").await, Outcome::Failed);
    let elapsed = Elapsed::new(TimeoutPhase::READ, Duration::from_secs(1));
    let timed_out = Outcome::TimedOut(TimeoutPhase::READ);
    assert_eq!(failure(elapsed).await, timed_out);
    let refused = |_| Err::<(), _>(Refused::new("connection_limit", "limit reached").into());
    assert_eq!(outcome(&info(), refused).await, Outcome::Refused);
    let reset = |_| Err::<(), _>(io::Error::from(io::ErrorKind::ConnectionReset).into());
    assert_eq!(outcome(&info(), reset).await, Outcome::Disconnected);
}

#[tokio::test]
async fn what_others_found_out_tells_the_outcome_too() {
    let info = info();
    info.set_truncated();
    let ended = |_| Err::<(), _>(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    assert_eq!(outcome(&info, ended).await, Outcome::Truncated);
    info.force_close();
    assert_eq!(outcome(&info, |_| Ok(())).await, Outcome::Forced);
}

#[tokio::test(start_paused = true)]
async fn callbacks_are_called_without_a_subscriber() {
    let notes = Notes::default();
    let service = service_fn(|_: Conn| async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        Err::<(), _>("no")
    });
    let (connection, _peer) = connection(&info());
    let result = notes.layer().layer(service).call(connection).await;
    assert_eq!(result.unwrap_err().to_string(), "no");
    let duration = Duration::from_secs(3);
    let closed = Note::Closed(Outcome::Failed, duration, Some("no".to_owned()));
    assert_eq!(notes.all(), [Note::Opened, closed]);
}

#[tokio::test]
async fn the_callback_sees_what_is_known_at_the_end() {
    log::settle_interest();
    let bytes = Arc::new(Mutex::new(None));
    let note = bytes.clone();
    let layer = TraceLayer::new().on_close(move |closed| {
        let info = closed.info();
        *note.lock().unwrap() = Some((info.bytes_read(), info.bytes_written()));
    });
    let service = service_fn(|mut connection: Conn| async move {
        connection.read_exact(&mut [0; 2]).await?;
        connection.write_all(b"abc").await
    });
    let (connection, mut peer) = connection(&info());
    peer.write_all(b"hi").await.unwrap();
    layer.layer(service).call(connection).await.unwrap();
    assert_eq!(*bytes.lock().unwrap(), Some((2, 3)));
}

#[test]
fn a_future_that_is_dropped_unfinished_was_cancelled() {
    for polls in 0..2 {
        let notes = Notes::default();
        let service = service_fn(|connection: Conn| async move {
            let _held = connection;
            pending::<Result<(), BoxError>>().await
        });
        let (connection, _peer) = connection(&info());
        let mut future = tokio_test::task::spawn(notes.layer().layer(service).call(connection));
        for _ in 0..polls {
            assert!(future.poll().is_pending());
        }
        assert_eq!(notes.all(), [Note::Opened]);
        drop(future);
        assert_eq!(notes.outcome(), Outcome::Cancelled);
    }
}

#[test]
fn the_socket_is_closed_before_the_end_is_reported() {
    let phase = Arc::new(Mutex::new(None));
    let seen = phase.clone();
    let layer = TraceLayer::new().on_close(move |closed| {
        *seen.lock().unwrap() = Some(closed.info().phase());
    });
    log::settle_interest();
    let service = service_fn(|connection: Conn| async move {
        let _held = connection;
        pending::<Result<(), BoxError>>().await
    });
    let (connection, _peer) = connection(&info());
    drop(layer.layer(service).call(connection));
    assert_eq!(*phase.lock().unwrap(), Some(Phase::Closed));
}

#[test]
fn a_future_that_is_dropped_after_a_forced_close_was_forced() {
    let notes = Notes::default();
    let service = service_fn(|_: Conn| pending::<Result<(), BoxError>>());
    let info = info();
    let (connection, _peer) = connection(&info);
    let future = notes.layer().layer(service).call(connection);
    info.force_reset();
    drop(future);
    assert_eq!(notes.outcome(), Outcome::Forced);
}

/// A future that is ready and keeps its connection.
struct Keeps(Option<Conn>);

impl Future for Keeps {
    type Output = Result<(), BoxError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(self.0.is_some());
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_future_that_keeps_the_connection_to_its_end_did_not_hand_it_off() {
    let notes = Notes::default();
    let service = service_fn(|connection: Conn| Keeps(Some(connection)));
    let (connection, _peer) = connection(&info());
    notes.layer().layer(service).call(connection).await.unwrap();
    assert_eq!(notes.outcome(), Outcome::Completed);
}

#[test]
fn async_blocks_let_go_of_the_connection_before_they_return() {
    async fn unused(_: Conn) {}

    fn closed_after(future: impl Future<Output = ()>, info: &ConnectionInfo) {
        let mut future = tokio_test::task::spawn(future);
        assert!(future.poll().is_ready());
        assert_eq!(info.phase(), Phase::Closed);
    }
    let (one, two, three) = (info(), info(), info());
    let (argument, _peer) = connection(&one);
    closed_after(unused(argument), &one);
    let (borrowed, _peer) = connection(&two);
    closed_after(async move { assert!(borrowed.tls().is_none()) }, &two);
    let (moved, _peer) = connection(&three);
    closed_after(async move { drop(moved) }, &three);
}

#[tokio::test]
async fn a_response_that_holds_the_connection_is_a_hand_off_until_it_ends() {
    let notes = Notes::default();
    let service = service_fn(|connection: Conn| async { Ok::<_, BoxError>(connection) });
    let (connection, _peer) = connection(&info());
    let response = notes.layer().layer(service).call(connection).await.unwrap();
    assert_eq!(notes.outcome(), Outcome::HandedOff);
    drop(response);
    assert_eq!(notes.all().len(), 2);
}

#[test]
fn a_panic_in_call_goes_on_and_is_reported() {
    let notes = Notes::default();
    let service = service_fn(|_: Conn| -> Ready<Result<(), BoxError>> { panic!("in call") });
    let mut service = notes.layer().layer(service);
    let (connection, _peer) = connection(&info());
    let panicked = catch_unwind(AssertUnwindSafe(|| drop(service.call(connection))));
    assert_eq!(
        *panicked.unwrap_err().downcast::<&str>().unwrap(),
        "in call"
    );
    assert_eq!(notes.outcome(), Outcome::Panicked);
}

async fn panics(connection: Conn) -> Result<(), BoxError> {
    tokio::task::yield_now().await;
    panic!("in poll of {}", connection.id())
}

#[test]
fn a_panic_in_poll_goes_on_and_is_reported_when_the_future_is_dropped() {
    let notes = Notes::default();
    let (connection, _peer) = connection(&info());
    let future = notes.layer().layer(service_fn(panics)).call(connection);
    let mut future = tokio_test::task::spawn(future);
    assert!(future.poll().is_pending());
    assert!(catch_unwind(AssertUnwindSafe(|| future.poll())).is_err());
    // The panic was caught, so `thread::panicking` is false by now.
    drop(future);
    assert_eq!(notes.outcome(), Outcome::Panicked);
}

#[tokio::test]
async fn a_panic_in_a_task_is_reported() {
    let notes = Notes::default();
    let (connection, _peer) = connection(&info());
    let future = notes.layer().layer(service_fn(panics)).call(connection);
    assert!(tokio::spawn(future).await.unwrap_err().is_panic());
    assert_eq!(notes.outcome(), Outcome::Panicked);
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("in drop");
    }
}

#[test]
fn a_panic_as_the_future_is_dropped_is_reported() {
    let notes = Notes::default();
    let service = service_fn(|connection: Conn| {
        let held = (connection, Bomb);
        async move {
            let _held = held;
            pending::<Result<(), BoxError>>().await
        }
    });
    let (connection, _peer) = connection(&info());
    let future = notes.layer().layer(service).call(connection);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(future))).is_err());
    assert_eq!(notes.outcome(), Outcome::Panicked);
}

#[test]
fn a_connection_that_another_panic_takes_along_was_cancelled() {
    let notes = Notes::default();
    let service = service_fn(|_: Conn| pending::<Result<(), BoxError>>());
    let (connection, _peer) = connection(&info());
    let future = notes.layer().layer(service).call(connection);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _future = future;
        panic!("elsewhere");
    }));
    assert!(panicked.is_err());
    assert_eq!(notes.outcome(), Outcome::Cancelled);
}

/// A layer whose `on_close` counts its calls and panics.
fn panicking() -> (TraceLayer, Arc<AtomicUsize>) {
    log::settle_interest();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let layer = TraceLayer::new().on_close(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        panic!("in on_close");
    });
    (layer, calls)
}

#[tokio::test]
async fn a_panic_of_on_close_goes_on_and_it_is_not_called_again() {
    let (layer, calls) = panicking();
    let service = service_fn(|_: Conn| ready(Ok::<_, BoxError>(())));
    let (connection, _peer) = connection(&info());
    let ended = tokio::spawn(layer.layer(service).call(connection)).await;
    assert!(ended.unwrap_err().is_panic());
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[test]
fn a_panic_of_on_close_does_not_meet_another_one() {
    let (layer, calls) = panicking();
    let (connection, _peer) = connection(&info());
    let mut service = layer.layer(service_fn(panics));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        // On this stack, so that the panic of the service drops the future.
        let mut future = Box::pin(service.call(connection));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let _ = future.as_mut().poll(&mut cx);
        let _ = future.as_mut().poll(&mut cx);
    }));
    let message = panicked.unwrap_err().downcast::<String>().unwrap();
    assert!(message.starts_with("in poll of"), "{message}");
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[test]
fn a_connection_whose_on_open_panics_is_closed_as_well() {
    let notes = Notes::default();
    let layer = notes.layer().on_open(|_| panic!("in on_open"));
    let service = service_fn(|_: Conn| ready(Ok::<_, BoxError>(())));
    let (connection, _peer) = connection(&info());
    let mut service = layer.layer(service);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(service.call(connection)))).is_err());
    let notes = notes.all();
    assert!(matches!(
        notes[..],
        [Note::Opened, Note::Closed(Outcome::Panicked, ..)]
    ));
}

#[derive(Debug)]
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("formatted without a subscriber")
    }
}

impl std::error::Error for Unspeakable {}

#[tokio::test]
async fn nothing_is_formatted_where_nobody_listens() {
    log::settle_interest();
    let service = service_fn(|_: Conn| ready(Err::<(), _>(Unspeakable)));
    let mut service = TraceLayer::new().layer(service);
    let (conn, _peer) = connection(&info());
    assert!(service.call(conn).await.unwrap_err().is::<Unspeakable>());
    // The closing event formats it.
    let _log = Log::start(Level::INFO);
    let (conn, _peer) = connection(&info());
    assert!(
        tokio::task::LocalSet::new()
            .run_until(async { tokio::task::spawn_local(service.call(conn)).await.is_err() })
            .await
    );
}

#[tokio::test]
async fn many_connections_at_once_are_each_closed_once() {
    let notes = Notes::default();
    let service = service_fn(|mut connection: Conn| async move {
        let mut data = Vec::new();
        connection.read_to_end(&mut data).await
    });
    let mut service = notes.layer().layer(service);
    let mut tasks = tokio::task::JoinSet::new();
    let mut peers = Vec::new();
    for _ in 0..100 {
        let (connection, peer) = connection(&info());
        tasks.spawn(service.call(connection));
        peers.push(peer);
    }
    peers.truncate(50);
    for _ in 0..50 {
        tasks.join_next().await.unwrap().unwrap().unwrap();
    }
    tasks.shutdown().await;
    let notes = notes.all();
    let count = |expected| {
        let is = |note: &&Note| matches!(note, Note::Closed(outcome, ..) if *outcome == expected);
        notes.iter().filter(is).count()
    };
    assert_eq!(count(Outcome::Completed), 50);
    assert_eq!(count(Outcome::Cancelled), 50);
    assert_eq!(notes.len(), 200);
}

#[tokio::test]
async fn callbacks_add_up_and_run_in_the_order_in_which_they_were_added() {
    log::settle_interest();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let note = |call: &'static str| {
        let calls = calls.clone();
        move || calls.lock().unwrap().push(call)
    };
    let (open_1, open_2) = (note("open 1"), note("open 2"));
    let (close_1, close_2) = (note("close 1"), note("close 2"));
    let layer = TraceLayer::new()
        .on_open(move |_| open_1())
        .on_close(move |_| close_1())
        .on_open(move |_| open_2())
        .on_close(move |_| close_2());
    let service = service_fn(|_: Conn| async { Ok::<_, BoxError>(()) });
    let (connection, _peer) = connection(&info());
    layer.layer(service).call(connection).await.unwrap();
    assert_eq!(
        *calls.lock().unwrap(),
        ["open 1", "open 2", "close 1", "close 2"]
    );
}
