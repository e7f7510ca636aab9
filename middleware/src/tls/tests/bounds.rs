//! Bounds in time and number, and that nothing is held beyond them.

use super::*;
use crate::{
    connection::{Address, Origin},
    drain::DrainTrigger,
    error::{Elapsed, TimeoutPhase},
    testing::Peer,
};
use std::{
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::ReadBuf,
    time::{Instant, sleep, timeout},
};
use tokio_test::{assert_pending, assert_ready, task};

const BOUND: Duration = Duration::from_secs(10);

fn is_timeout(served: Result<(), BoxError>) -> bool {
    let elapsed = Elapsed::new(TimeoutPhase::Handshake, BOUND);
    served.is_err_and(|error| error.downcast_ref() == Some(&elapsed))
}

#[tokio::test(start_paused = true)]
async fn a_client_may_start_late_within_the_bound() {
    let (connection, io) = in_memory();
    let served = serve(tls_layer(), connection, echo);
    let client = async {
        sleep(BOUND - Duration::from_millis(1)).await;
        talk(connect(client(), io).await?, b"hello").await
    };
    let (served, heard) = tokio::join!(served, client);
    served.unwrap();
    assert_eq!(heard.unwrap(), b"hello");
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_cut_at_the_bound() {
    is_cut_at_the_bound(Peer::new()).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_of_one_byte_a_second_is_cut_at_the_bound() {
    // The head of a record of 512 bytes that never gets complete.
    let record: Vec<u8> = [0x16, 0x03, 0x01, 0x02, 0x00]
        .into_iter()
        .chain([1; 511])
        .collect();
    is_cut_at_the_bound(Peer::new().dribbles(record, 1, Duration::from_secs(1))).await;
}

async fn is_cut_at_the_bound(client: Peer) {
    let layer = tls_layer();
    let (connection, seen) = client.connection();
    let start = Instant::now();
    let served = serve(layer.clone(), connection, echo);
    assert!(is_timeout(timeout(2 * BOUND, served).await.unwrap()));
    assert!(start.elapsed() >= BOUND && start.elapsed() < BOUND + Duration::from_millis(2));
    assert_eq!(layer.handshakes_in_flight(), 0);
    assert!(seen.is_dropped());
}

#[tokio::test(start_paused = true)]
async fn without_a_bound_a_silent_client_may_stay() {
    let layer = tls_layer().with_handshake_timeout(None);
    let (connection, _io) = in_memory();
    let day = Duration::from_secs(86_400);
    assert!(timeout(day, serve(layer, connection, echo)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn those_beyond_the_cap_wait_within_their_own_bound() {
    let layer = tls_layer().with_max_handshakes(1);
    let patient = layer.clone().with_handshake_timeout(None);
    let (first, _silent) = in_memory();
    let mut first = task::spawn(serve(patient, first, echo));
    assert_pending!(first.poll());
    sleep(BOUND / 2).await;

    let start = Instant::now();
    let (second, io) = in_memory();
    let served = serve(layer.clone(), second, echo);
    let counts = async {
        tokio::task::yield_now().await;
        (layer.handshakes_in_flight(), layer.handshakes_waiting())
    };
    let served = timeout(2 * BOUND, served);
    let (served, client, counts) = tokio::join!(served, connect(client(), io), counts);
    assert!(is_timeout(served.unwrap()));
    assert!(client.is_err());
    assert!(start.elapsed() >= BOUND && start.elapsed() < BOUND + Duration::from_millis(2));
    assert_eq!(counts, (1, 1));
    assert_eq!(layer.handshakes_waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_next_proceeds_once_a_handshake_is_done_though_the_first_is_still_served() {
    let layer = tls_layer().with_max_handshakes(1);
    let (first, first_io) = in_memory();
    let (second, second_io) = in_memory();
    let first = serve(layer.clone(), first, |_| std::future::pending());
    let second = serve(layer.clone(), second, echo);
    let clients = async {
        let first = async {
            sleep(BOUND / 2).await;
            connect(client(), first_io).await
        };
        let second = async { talk(connect(client(), second_io).await?, b"hello").await };
        tokio::join!(first, second)
    };
    tokio::select! {
        biased;
        _ = first => panic!("the first is served for ever"),
        ((first, heard), served) = async { tokio::join!(clients, second) } => {
            first.unwrap();
            served.unwrap();
            assert_eq!(heard.unwrap(), b"hello");
        }
    }
    assert_eq!(layer.handshakes_in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_future_gives_back_its_slot_or_its_place_in_the_queue() {
    let layer = tls_layer().with_max_handshakes(1);
    let serve = |connection| task::spawn(serve(layer.clone(), connection, echo));
    let (first, _first_io) = in_memory();
    let (second, _second_io) = in_memory();
    let (third, _third_io) = in_memory();
    let (mut first, mut second, mut third) = (serve(first), serve(second), serve(third));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    assert_pending!(third.poll());
    assert_eq!(layer.handshakes_waiting(), 2);
    drop(second);
    assert_eq!(layer.handshakes_waiting(), 1);
    drop(first);
    assert!(third.is_woken());
    assert_pending!(third.poll());
    assert_eq!(layer.handshakes_waiting(), 0);
    assert_eq!(layer.handshakes_in_flight(), 1);
    drop(third);
    assert_eq!(layer.handshakes_in_flight(), 0);
}

#[tokio::test]
async fn guards_are_released_after_the_io_when_a_handshake_is_cancelled() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let (io, _peer) = duplex(64);
    let mut connection = Connection::accept(io).map_io(|io| Noted {
        io,
        _note: Note("io", log.clone()),
    });
    connection.hold(Note("guard", log.clone()));
    let never = tower::service_fn(|_| async { Ok::<_, BoxError>(()) });
    let mut future = task::spawn(tls_layer().layer(never).oneshot(connection));
    assert_pending!(future.poll());
    assert!(log.lock().unwrap().is_empty());
    drop(future);
    assert_eq!(*log.lock().unwrap(), ["io", "guard"]);
}

struct Note(&'static str, Arc<Mutex<Vec<&'static str>>>);

impl Drop for Note {
    fn drop(&mut self) {
        self.1.lock().unwrap().push(self.0);
    }
}

/// IO that notes when it is dropped.
#[pin_project::pin_project]
struct Noted<IO> {
    #[pin]
    io: IO,
    _note: Note,
}

impl<IO: AsyncRead> AsyncRead for Noted<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.project().io.poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite> AsyncWrite for Noted<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.project().io.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_shutdown(cx)
    }
}

#[tokio::test]
async fn the_inner_service_is_asked_for_readiness_before_the_handshake() {
    let (mut service, handle) =
        tower_test::mock::spawn_with(|mock: tower_test::mock::Mock<_, ()>| tls_layer().layer(mock));
    let mut handle = handle;
    handle.allow(0);
    assert_pending!(service.poll_ready::<Connection<Socket<DuplexStream>>>());
    handle.allow(1);
    assert_ready!(service.poll_ready()).unwrap();

    let (connection, io) = in_memory();
    let served = service.call(connection);
    let accept = async {
        let (connection, respond) = handle.next_request().await.unwrap();
        assert!(connection.tls().is_some());
        respond.send_response(());
    };
    let (served, client, ()) = tokio::join!(served, connect(client(), io), accept);
    served.unwrap();
    client.unwrap();
}

#[test]
#[should_panic(expected = "nobody is served")]
fn a_cap_of_zero_is_found_at_once() {
    let _ = tls_layer().with_max_handshakes(0);
}

#[tokio::test]
async fn without_a_cap_nothing_overflows() {
    let layer = tls_layer().with_max_handshakes(usize::MAX);
    assert_eq!(layer.handshakes_in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_has_half_a_second_more_once_the_server_accepts_no_more() {
    let grace = Duration::from_millis(500);
    for late in [grace - Duration::from_millis(1), 2 * grace] {
        let (drain, signal) = DrainTrigger::pair();
        let origin = Arc::new(Origin::new().with_drain(signal));
        let info = ConnectionInfo::from_origin(origin, Address::Unknown, Address::Unknown);
        let (io, ours) = duplex(1 << 16);
        let connection = Connection::with_info(ours, info);
        let served = tokio::spawn(serve(tls_layer(), connection, echo));
        drain.announce();
        sleep(BOUND / 2).await;
        let closing = Instant::now();
        drain.close();
        sleep(late).await;
        let heard = async { talk(connect(client(), io).await?, b"hello").await };
        assert_eq!(heard.await.is_ok(), late < grace);
        let served = served.await.unwrap();
        if late > grace {
            let elapsed = Elapsed::new(TimeoutPhase::Handshake, grace);
            let error = served.unwrap_err();
            assert_eq!(error.downcast_ref(), Some(&elapsed));
            assert!(closing.elapsed() < 3 * grace);
        } else {
            served.unwrap();
        }
    }
}
