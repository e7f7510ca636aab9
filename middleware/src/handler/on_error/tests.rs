use super::*;
use crate::{
    BoxError, Connection,
    connection::{Phase, Socket},
    error::Panicked,
};
use std::{
    future::{Future, pending, ready},
    io,
    panic::panic_any,
    pin::Pin,
    sync::{Arc, Mutex, mpsc},
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream, DuplexStream},
    net::{TcpListener, TcpStream},
};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn, util::ServiceFn};

type Io = Socket<DuplexStream>;
type Borrowed = Connection<Lent<Io>>;
type Answer = Result<(), BoxError>;

static_assertions::assert_impl_all!(Lent<TcpStream>: Send, Sync, Unpin);

/// A connection that holds a guard, and its client.
fn in_memory() -> (Connection<Io>, DuplexStream, Guard) {
    let (mut connection, theirs) = crate::testing::in_memory(64);
    let guard = Guard::default();
    connection.hold(guard.0.clone());
    (connection, theirs, guard)
}

#[derive(Default)]
struct Guard(Arc<()>);

impl Guard {
    fn is_held(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

#[track_caller]
fn is_closed(client: &mut DuplexStream) -> bool {
    match task::spawn(client.read(&mut [0; 64])).poll() {
        Poll::Ready(read) => read.unwrap() == 0,
        Poll::Pending => false,
    }
}

/// Answers with the reason, and fails with the error.
async fn apologize<IO>(error: BoxError, connection: Option<Connection<IO>>) -> Answer
where
    Connection<IO>: AsyncWrite + Unpin,
{
    let mut connection = connection.ok_or("no connection")?;
    connection
        .write_all(format!("sorry: {error}\n").as_bytes())
        .await?;
    Err(error)
}

fn panic_in_call(_: Borrowed) -> std::future::Ready<Answer> {
    panic_any("in call")
}

async fn panic_in_poll(mut connection: Borrowed) -> Answer {
    let byte = connection.read_u8().await?;
    panic!("in poll {byte}")
}

async fn fail(_connection: Borrowed) -> Answer {
    tokio::task::yield_now().await;
    Err("no".into())
}

/// `layer` over a service that is a function.
fn over<H, F, Fut>(layer: &OnErrorLayer<H>, serve: F) -> OnError<ServiceFn<F>, H>
where
    H: Clone,
    F: FnMut(Borrowed) -> Fut,
{
    layer.layer(service_fn(serve))
}

fn fail_at_once(_: Borrowed) -> std::future::Ready<Answer> {
    ready(Err("no".into()))
}

async fn output_after<S>(service: S) -> String
where
    S: Service<Borrowed, Response = (), Error = BoxError>,
{
    let stack = ServiceBuilder::new()
        .layer(OnErrorLayer::new(apologize))
        .service(service);
    let (connection, mut client, guard) = in_memory();
    client.write_u8(7).await.unwrap();
    stack.oneshot(connection).await.unwrap_err();
    assert!(!guard.is_held());
    let mut received = String::new();
    client.read_to_string(&mut received).await.unwrap();
    received
}

#[tokio::test]
async fn the_handler_can_speak_to_the_client_after_an_error_and_a_panic() {
    assert_eq!(output_after(service_fn(fail)).await, "sorry: no\n");
    let received = output_after(service_fn(panic_in_call)).await;
    assert_eq!(received, "sorry: service panicked: in call\n");
    let received = output_after(service_fn(panic_in_poll)).await;
    assert_eq!(received, "sorry: service panicked: in poll 7\n");
}

#[tokio::test]
async fn a_tcp_client_gets_the_answer_although_its_input_was_left_unread() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::join!(client, listener.accept());
    let mut client = client.unwrap();
    client.write_all(&[7; 4000]).await.unwrap();
    let stack = ServiceBuilder::new()
        .layer(OnErrorLayer::new(|error, connection| async move {
            let mut connection: Connection<_> = connection.ok_or("no connection")?;
            connection.write_all(b"sorry\n").await?;
            connection.close().await?;
            assert!(error.is::<Panicked>());
            Ok(())
        }))
        .service_fn(|mut connection: Connection<_>| async move {
            let byte = connection.read_u8().await?;
            assert_eq!(byte, 0);
            io::Result::Ok(())
        });
    let connection = Connection::accept(accepted.unwrap().0);
    let (served, received) = tokio::join!(stack.oneshot(connection), async {
        let mut received = String::new();
        client.read_to_string(&mut received).await.unwrap();
        client.shutdown().await.unwrap();
        received
    });
    served.unwrap();
    assert_eq!(received, "sorry\n");
}

#[tokio::test]
async fn the_connection_comes_back_as_it_went_in_and_out_of_any_wrapper() {
    let stack = ServiceBuilder::new()
        .layer(OnErrorLayer::new(|error, connection| async move {
            let connection: Connection<Io> = connection.ok_or(error)?;
            assert_eq!(connection.extensions().get(), Some(&"outside"));
            Ok(connection.id())
        }))
        .layer(crate::stream::map_io::map_io(BufStream::new))
        .service_fn(|mut connection: Connection<_>| async move {
            connection.extensions_mut().insert("inside");
            let (_reader, _writer) = tokio::io::split(connection.box_io());
            Err::<_, BoxError>("no".into())
        });
    let (mut connection, _client, _guard) = in_memory();
    connection.extensions_mut().insert("outside");
    let id = connection.id();
    assert_eq!(stack.oneshot(connection).await.unwrap(), id);
}

#[tokio::test]
async fn the_handler_gets_it_even_when_the_drop_of_the_future_panics() {
    struct Bomb(#[expect(dead_code, reason = "dropped with it")] Borrowed);
    impl Future for Bomb {
        type Output = Answer;
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Answer> {
            panic!("in poll");
        }
    }
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }
    let received = output_after(service_fn(Bomb)).await;
    assert_eq!(received, "sorry: service panicked: in poll\n");
}

#[test]
fn the_result_of_the_handler_is_the_outcome() {
    let (connection, _client, _guard) = in_memory();
    let layer = OnErrorLayer::new(|_, _| ready(Err::<(), _>("another".into())));
    let mut stack = over(&layer, fail_at_once);
    let result = assert_ready!(task::spawn(stack.call(connection)).poll());
    assert_eq!(result.unwrap_err().to_string(), "another");
}

#[test]
fn success_passes_untouched_and_closes_before_it_is_told() {
    let layer = OnErrorLayer::new(|_, _| async { panic!("not called") });
    let mut stack = over(&layer, |_| ready(io::Result::Ok("a response")));
    let (connection, mut client, guard) = in_memory();
    let mut future = task::spawn(stack.call(connection));
    assert_eq!(assert_ready!(future.poll()).unwrap(), "a response");
    assert!(!guard.is_held() && is_closed(&mut client));
}

#[test]
fn a_connection_in_other_hands_keeps_its_guards_and_the_handler_gets_none() {
    for outcome in [|| Ok(()), || Err(BoxError::from("no"))] {
        let (hand_off, other_hands) = mpsc::channel();
        let layer = OnErrorLayer::new(|error, connection| {
            assert!(connection.is_none());
            ready(Err::<(), BoxError>(error))
        });
        let mut stack = over(&layer, move |connection| {
            hand_off.send(connection).unwrap();
            ready(outcome())
        });
        let (connection, mut client, guard) = in_memory();
        let mut future = task::spawn(stack.call(connection));
        assert_eq!(assert_ready!(future.poll()).is_ok(), outcome().is_ok());
        drop((future, stack));

        let connection = other_hands.recv().unwrap();
        assert!(guard.is_held() && !is_closed(&mut client));
        let (io, rest) = connection.into_parts();
        drop(io);
        assert!(is_closed(&mut client), "no task waits for it any more");
        assert!(guard.is_held());
        drop(rest);
        assert!(!guard.is_held());
    }
}

#[test]
fn a_connection_that_returns_from_other_hands_in_time_is_handled() {
    let (hand_off, other_hands) = mpsc::channel();
    let (fail, failed) = tokio::sync::oneshot::channel();
    let mut failed = Some(failed);
    let layer = OnErrorLayer::new(|_, connection| ready(Ok(connection.is_some())));
    let mut stack = over(&layer, move |connection| {
        hand_off.send(connection).unwrap();
        let failed = failed.take().unwrap();
        async { Err(failed.await?) }
    });
    let (connection, mut client, guard) = in_memory();
    let mut future = task::spawn(stack.call(connection));
    assert_pending!(future.poll());
    drop(other_hands.recv().unwrap());
    assert!(guard.is_held() && !is_closed(&mut client));
    fail.send(BoxError::from("no")).unwrap();
    assert!(assert_ready!(future.poll()).unwrap());
    assert!(!guard.is_held());
}

#[test]
fn detach_releases_the_guards_through_nested_layers_and_keeps_the_stream_open() {
    let (give, given) = mpsc::channel();
    let none = |error, connection: Option<_>| {
        assert!(connection.is_none());
        ready(Err::<(), BoxError>(error))
    };
    let mut stack = ServiceBuilder::new()
        .layer(OnErrorLayer::new(none))
        .layer(OnErrorLayer::new(
            move |error, connection: Option<Connection<Lent<Io>>>| {
                assert!(connection.is_none());
                ready(Err::<(), BoxError>(error))
            },
        ))
        .service_fn(move |connection: Connection<Lent<Lent<Io>>>| {
            let info = connection.info().clone();
            give.send(connection.detach()).unwrap();
            assert_eq!(info.phase(), Phase::Detached);
            pending::<Answer>()
        });
    let (connection, mut client, guard) = in_memory();
    let mut future = task::spawn(stack.call(connection));
    assert_pending!(future.poll());
    assert!(!guard.is_held());
    drop(future);
    let stream = given.recv().unwrap().into_inner().into_inner().into_inner();
    assert!(!is_closed(&mut client));
    drop(stream);
    assert!(is_closed(&mut client));
}

#[test]
fn what_was_detached_and_dropped_does_not_come_back() {
    let layer = OnErrorLayer::new(|_, connection| ready(Ok(connection.is_some())));
    let mut stack = over(&layer, |connection| {
        drop(connection.detach());
        ready(Err::<bool, BoxError>("no".into()))
    });
    let (connection, mut client, _guard) = in_memory();
    assert!(!assert_ready!(task::spawn(stack.call(connection)).poll()).unwrap());
    assert!(is_closed(&mut client));
}

#[test]
fn io_that_was_taken_out_keeps_the_guards_of_its_connection() {
    let (hand_off, other_hands) = mpsc::channel();
    let layer = OnErrorLayer::new(|_, _| ready(Ok(())));
    let mut stack = over(&layer, move |connection| {
        hand_off.send(connection.map_io(Lent::into_inner)).unwrap();
        ready(Answer::Ok(()))
    });
    let (connection, mut client, guard) = in_memory();
    assert_ready!(task::spawn(stack.call(connection)).poll()).unwrap();
    let connection = other_hands.recv().unwrap();
    assert!(guard.is_held() && !is_closed(&mut client));
    drop(connection);
    assert!(!guard.is_held() && is_closed(&mut client));
}

#[test]
fn guards_are_held_until_the_handler_is_done_with_the_connection() {
    let layer = OnErrorLayer::new(|_, connection| async move {
        let mut connection: Connection<_> = connection.unwrap();
        connection.read_u8().await?;
        drop(connection);
        pending::<Answer>().await
    });
    let mut stack = over(&layer, fail_at_once);
    let (connection, mut client, guard) = in_memory();
    let mut future = task::spawn(stack.call(connection));
    assert_pending!(future.poll());
    assert!(guard.is_held());
    assert_ready!(task::spawn(client.write_u8(1)).poll()).unwrap();
    assert_pending!(future.poll());
    assert!(!guard.is_held() && is_closed(&mut client));
}

#[test]
fn the_io_closes_before_the_guards_are_released_wherever_it_ends() {
    struct Note(&'static str, Arc<Mutex<Vec<&'static str>>>);
    impl Drop for Note {
        fn drop(&mut self) {
            self.1.lock().unwrap().push(self.0);
        }
    }
    type Serve = fn(Connection<Lent<Note>>) -> Answer;
    let services: [Serve; 5] = [
        |_| Ok(()),
        |_| Err("no".into()),
        |_| panic!("in call"),
        |connection| {
            let (_io, _dropped_before_it) = connection.into_parts();
            Err("no".into())
        },
        |connection| {
            connection.abort();
            Err("no".into())
        },
    ];
    for (number, serve) in services.into_iter().enumerate() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let layer = OnErrorLayer::new(|error, connection| {
            drop(connection);
            ready(Answer::Err(error))
        });
        let mut stack = layer.layer(service_fn(|io| ready(serve(io))));
        let mut connection = in_memory().0.map_io(|_| Note("io", log.clone()));
        connection.hold(Note("guard", log.clone()));
        let _ = assert_ready!(task::spawn(stack.call(connection)).poll());
        assert_eq!(*log.lock().unwrap(), ["io", "guard"], "service {number}");
    }
}

#[tokio::test]
async fn nested_handlers_get_the_connection_one_after_the_other() {
    let stack = ServiceBuilder::new()
        .layer(OnErrorLayer::new(apologize))
        .layer(OnErrorLayer::new(apologize))
        .layer(OnErrorLayer::new(apologize))
        .service_fn(|_: Connection<_>| async { Answer::Err("no".into()) });
    let (connection, mut client, guard) = in_memory();
    stack.oneshot(connection).await.unwrap_err();
    assert!(!guard.is_held());
    let mut received = String::new();
    client.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "sorry: no\n".repeat(3));
}

#[tokio::test]
async fn abort_resets_at_once_through_nested_layers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::join!(client, listener.accept());
    let mut connection = Connection::accept(accepted.unwrap().0);
    let guard = Guard::default();
    connection.hold(guard.0.clone());
    let mut stack = ServiceBuilder::new()
        .layer(OnErrorLayer::new(|error, _| ready(Answer::Err(error))))
        .layer(OnErrorLayer::new(|error, _| ready(Answer::Err(error))))
        .service_fn(|connection: Connection<_>| async move {
            connection.abort();
            pending::<Answer>().await
        });
    let mut future = task::spawn(stack.call(connection));
    assert_pending!(future.poll());
    assert!(!guard.is_held());
    let error = client.unwrap().read_u8().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn dropping_the_future_drops_everything_in_the_service_and_in_the_handler() {
    let layer = OnErrorLayer::new(|_, _connection| pending::<Answer>());
    let waits = over(&layer, |connection: Borrowed| async move {
        let _connection = connection;
        pending::<Answer>().await
    });
    let handles = over(&layer, fail_at_once);
    fn check<S: Service<Connection<Io>>>(mut service: S) {
        for polls in [0, 1] {
            let (connection, mut client, guard) = in_memory();
            let mut future = task::spawn(service.call(connection));
            (0..polls).for_each(|_| assert!(future.poll().is_pending()));
            drop(future);
            assert!(!guard.is_held() && is_closed(&mut client));
        }
    }
    check(waits);
    check(handles);

    let layer = OnErrorLayer::with_retry(|_, _connection| pending::<Result<_, BoxError>>());
    check(over(&layer, |connection: Borrowed| async move {
        let _connection = connection;
        pending::<Answer>().await
    }));
    check(over(&layer, fail_at_once));
}

#[test]
fn a_lent_io_passes_everything_through() {
    crate::testing::assert_transparent(|io| lend::lend(Connection::accept(io)).0);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_lent_stream_knows_what_is_unread() {
    let (connection, mut client) = crate::testing::over_tcp().await;
    let layer = OnErrorLayer::new(|error: BoxError, _| ready(Err(error)));
    let lend = layer.layer(service_fn(async |io: Connection<Lent<_>>| {
        Ok::<_, BoxError>(io)
    }));
    let lent = lend.oneshot(connection).await.unwrap();
    crate::io::splice_tests::assert_sees_unread(lent.get_ref(), &mut client).await;
}
