//! Timeouts that are checked by the clock of a server.

use super::*;
use crate::{
    BoxError, ConnectionInfo,
    connection::Socket,
    internal::{begin_watch, end_watch, expire},
};
use std::task::Waker;
use tower::Service;

const READ: Duration = Duration::from_secs(8);

type Io = TimeoutIo<Socket<DuplexStream>>;

/// A clock that checks one connection when the test says so.
struct Clock(ConnectionInfo);

impl Clock {
    /// The number of operations that it wakes.
    fn check(&self) -> usize {
        let mut wakers = Vec::new();
        expire(&self.0, Instant::now(), &mut wakers);
        wake(wakers)
    }

    fn end(&self) -> usize {
        let mut wakers = Vec::new();
        end_watch(&self.0, &mut wakers);
        wake(wakers)
    }
}

fn wake(wakers: Vec<Waker>) -> usize {
    let count = wakers.len();
    wakers.into_iter().for_each(Waker::wake);
    count
}

/// The layer around `handler`, with a clock for its connection, and the peer.
fn served<H, F>(
    handler: H,
) -> (
    task::Spawn<impl Future<Output = Result<(), BoxError>>>,
    Clock,
    DuplexStream,
)
where
    H: FnMut(Connection<Io>) -> F,
    F: Future<Output = Result<(), BoxError>>,
{
    let layer = IoTimeoutLayer::new().with_read_timeout(READ);
    let mut stack = ServiceBuilder::new().layer(layer).service_fn(handler);
    let (ours, theirs) = duplex(64);
    let connection = Connection::accept(ours);
    let info = connection.info().clone();
    begin_watch(&info);
    (task::spawn(stack.call(connection)), Clock(info), theirs)
}

async fn read_once(mut connection: Connection<Io>) -> Result<(), BoxError> {
    read(&mut connection).await?;
    Ok(())
}

fn is_by_clock(io: &Io) -> bool {
    io.read.is_by_clock()
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_times_out_by_the_clock_alone() {
    let (mut call, clock, _peer) = served(read_once);
    assert_pending!(call.poll());
    let start = Instant::now();
    for quarter in 1..=4 {
        advance(start + READ / 4 * quarter - MOMENT - Instant::now()).await;
        assert_eq!(clock.check(), 0);
        assert!(!call.is_woken());
        assert_pending!(call.poll());
        advance(MOMENT).await;
        assert_eq!(clock.check(), 1);
        assert!(call.is_woken());
        if let Poll::Ready(result) = call.poll() {
            let error = result.unwrap_err();
            let elapsed = find::<Elapsed>(&*error).unwrap();
            assert_eq!(elapsed, &Elapsed::new(TimeoutPhase::READ, READ));
            return;
        }
    }
    panic!("should have timed out");
}

#[tokio::test(start_paused = true)]
async fn the_clock_is_used_for_an_operation_of_the_connection_s_own_future() {
    let (mut call, clock, mut peer) = served(|mut connection| async move {
        poll_fn(|cx| {
            let polled = poll_read(&mut connection, cx);
            assert!(polled.is_ready() || is_by_clock(connection.get_ref()));
            polled
        })
        .await?;
        Ok(())
    });
    assert_pending!(call.poll());
    peer.write_all(b"x").await.unwrap();
    assert_ready!(call.poll()).unwrap();
    // The deadline remains, but the socket is gone.
    drop(call);
    advance(READ).await;
    assert_eq!(clock.check(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_operation_arms_a_timer_when_the_clock_ends() {
    let (mut call, clock, _peer) = served(|mut connection| async move {
        let mut before_end = true;
        poll_fn(|cx| {
            let polled = poll_read(&mut connection, cx);
            if polled.is_pending() {
                assert_eq!(is_by_clock(connection.get_ref()), before_end);
                before_end = false;
            }
            polled
        })
        .await?;
        Ok(())
    });
    let start = Instant::now();
    assert_pending!(call.poll());
    assert_eq!(clock.end(), 1);
    assert!(call.is_woken());
    assert_pending!(call.poll());
    assert_eq!(clock.check(), 0);
    let error = call.await.unwrap_err();
    assert!(find::<Elapsed>(&*error).is_some());
    assert_eq!(start.elapsed(), READ);
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_is_polled_elsewhere_arms_a_timer() {
    let (mut call, clock, _peer) = served(|mut connection| async move {
        tokio::spawn(async move {
            let (late, took) = timed(read(&mut connection)).await;
            assert_elapsed(late, TimeoutPhase::READ, READ);
            assert_eq!(took, READ);
            assert!(!is_by_clock(connection.get_ref()));
        })
        .await?;
        Ok(())
    });
    assert_pending!(call.poll());
    assert_eq!(clock.check(), 0);
    call.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_socket_waits_with_another_waker_arms_a_timer() {
    /// Polls the socket as another task would.
    #[derive(Debug)]
    struct Elsewhere(Socket<DuplexStream>);

    impl AsyncRead for Elsewhere {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(&mut Context::from_waker(Waker::noop()), buf)
        }
    }

    let (ours, _theirs) = duplex(64);
    let connection = Connection::accept(ours);
    let clock = Clock(connection.info().clone());
    begin_watch(&clock.0);
    let layer = IoTimeoutLayer::new().with_read_timeout(READ);
    let mut stack = ServiceBuilder::new().layer(layer).service_fn(
        |mut connection: Connection<TimeoutIo<Elsewhere>>| async move {
            let (late, took) = timed(poll_fn(|cx| poll_read(connection.get_mut(), cx))).await;
            assert_elapsed(late, TimeoutPhase::READ, READ);
            assert_eq!(took, READ);
            Ok::<_, BoxError>(())
        },
    );
    stack.call(connection.map_io(Elsewhere)).await.unwrap();
    assert_eq!(clock.check(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_second_timeout_of_the_same_direction_arms_a_timer() {
    let (ours, _theirs) = duplex(64);
    let connection = Connection::accept(ours);
    let clock = Clock(connection.info().clone());
    begin_watch(&clock.0);
    let mut stack = ServiceBuilder::new()
        .layer(IoTimeoutLayer::new().with_read_timeout(2 * READ))
        .layer(IoTimeoutLayer::new().with_read_timeout(READ))
        .service_fn(|mut connection: Connection<TimeoutIo<Io>>| async move {
            let start = Instant::now();
            let late = poll_fn(|cx| {
                let polled = poll_read(connection.get_mut(), cx);
                if polled.is_pending() {
                    let outer = connection.get_ref();
                    assert_ne!(outer.read.is_by_clock(), outer.get_ref().read.is_by_clock());
                }
                polled
            })
            .await;
            // The outer one is in the future that is polled outside, the inner one in its own.
            assert_elapsed(late, TimeoutPhase::READ, READ);
            assert!(start.elapsed() < READ + MOMENT * 2);
            Ok::<_, BoxError>(())
        });
    let mut call = task::spawn(stack.call(connection));
    assert_pending!(call.poll());
    let mut checks = 0;
    loop {
        advance(MOMENT).await;
        checks += clock.check();
        if call.is_woken() && call.poll().is_ready() {
            break;
        }
    }
    assert!(checks > 0);
}

#[tokio::test(start_paused = true)]
async fn only_timeouts_of_a_second_and_more_are_left_to_the_clock() {
    for (limit, by_clock) in [(999, false), (1000, true)] {
        let (ours, _theirs) = duplex(64);
        let connection = Connection::accept(ours);
        begin_watch(connection.info());
        let layer = IoTimeoutLayer::new().with_read_timeout(Duration::from_millis(limit));
        let mut stack = ServiceBuilder::new().layer(layer).service_fn(
            move |mut connection: Connection<Io>| async move {
                poll_fn(|cx| Poll::Ready(poll_read(connection.get_mut(), cx).is_pending())).await;
                assert_eq!(is_by_clock(connection.get_ref()), by_clock);
                Ok::<_, BoxError>(())
            },
        );
        stack.call(connection).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_is_set_again_stays_where_it_is() {
    let (mut call, clock, _peer) = served(|mut connection| async move {
        poll_fn(|cx| {
            // More than once in a turn, as in a loop around `select!`.
            for _ in 0..10_000 {
                assert_pending!(poll_read(&mut connection, cx));
            }
            poll_read(&mut connection, cx)
        })
        .await?;
        Ok(())
    });
    assert_pending!(call.poll());
    advance(READ / 4 + MOMENT).await;
    assert_eq!(clock.check(), 1);
}
