//! Timeouts and limits, and what remains beyond them.

use super::*;
use crate::{
    connection::{Address, ListenerInfo, Phase},
    drain::DrainTrigger,
    error::{Elapsed, HandshakeError, Refused, TimeoutPhase},
    testing::Peer,
    tls::HandshakeLimits,
};
use std::{
    pin::Pin,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
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
    let elapsed = Elapsed::new(TimeoutPhase::HANDSHAKE, BOUND);
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
    let (served, received) = tokio::join!(served, client);
    served.unwrap();
    assert_eq!(received.unwrap(), b"hello");
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_cut_at_the_bound() {
    is_cut_at_the_bound(Peer::new()).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_of_one_byte_a_second_is_cut_at_the_bound() {
    // The header of a record of 512 bytes that stays incomplete.
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
async fn layers_with_the_same_limits_count_together() {
    let limits = HandshakeLimits::new(1).with_max_computing(1);
    let one = tls_layer().with_limits(limits.clone());
    let other = tls_layer().with_limits(limits.clone());
    let wider = tls_layer().with_limits(limits.with_max_handshakes(2));
    let (connection, _silent) = in_memory();
    let mut first = task::spawn(serve(one.clone(), connection, echo));
    assert_pending!(first.poll());
    assert_eq!(other.handshakes_in_flight(), 1);
    assert_eq!(wider.handshakes_in_flight(), 0);
    let (connection, _silent) = in_memory();
    let mut second = task::spawn(serve(other.clone(), connection, echo));
    assert_pending!(second.poll());
    assert!(first.is_woken());
    assert!(assert_ready!(first.poll()).is_err());
    assert_eq!(one.handshakes_in_flight(), 1);

    // Turns to compute are shared with the wider limit, too.
    let turn = one.slots.enter().await;
    let (connection, mut io) = in_memory();
    io.write_all(&client_hello()).await.unwrap();
    let mut third = task::spawn(serve(wider.clone(), connection, echo));
    assert_pending!(third.poll());
    assert_eq!(other.handshakes_waiting(), 1);
    drop(turn);
    assert!(third.is_woken());
}

#[tokio::test(start_paused = true)]
async fn without_a_bound_a_silent_client_may_stay() {
    let layer = tls_layer().with_handshake_timeout(None);
    let (connection, _io) = in_memory();
    let day = Duration::from_secs(86_400);
    assert!(timeout(day, serve(layer, connection, echo)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_takes_no_turn_from_others() {
    let layer = tls_layer().with_max_computing(1);
    let mut silent = Vec::new();
    // In each state that waits for a client.
    let hello = client_hello();
    for sent in [&[][..], &hello[..1], &hello[..hello.len() - 1], &hello] {
        let (connection, mut io) = in_memory();
        io.write_all(sent).await.unwrap();
        let mut served = task::spawn(serve(layer.clone(), connection, echo));
        assert_pending!(served.poll());
        silent.push((served, io));
    }
    assert_eq!(layer.handshakes_in_flight(), 4);
    assert_eq!(layer.handshakes_waiting(), 0);
    let (connection, io) = in_memory();
    let served = serve(layer.clone(), connection, echo);
    let start = Instant::now();
    let talk = async { talk(connect(client(), io).await?, b"hello").await };
    let (served, received) = tokio::join!(served, talk);
    served.unwrap();
    assert_eq!(received.unwrap(), b"hello");
    assert_eq!(start.elapsed(), Duration::ZERO);
}

/// A layer whose only turn is taken until the guard is dropped.
macro_rules! busy {
    ($layer:ident, $turn:ident) => {
        let $layer = tls_layer().with_max_computing(1);
        let slots = $layer.slots.clone();
        let $turn = slots.enter().await;
    };
}

#[tokio::test(start_paused = true)]
async fn those_beyond_the_limit_wait_for_their_turn_within_their_timeout() {
    busy!(layer, turn);
    let (connection, mut io) = in_memory();
    io.write_all(&client_hello()).await.unwrap();
    let mut served = task::spawn(serve(layer.clone(), connection, echo));
    assert_pending!(served.poll());
    assert_eq!(layer.handshakes_waiting(), 1);
    sleep(BOUND - Duration::from_millis(1)).await;
    assert_pending!(served.poll());
    sleep(Duration::from_millis(2)).await;
    assert!(served.is_woken());
    assert!(is_timeout(assert_ready!(served.poll())));
    assert_eq!(layer.handshakes_waiting(), 0);
    assert_eq!(layer.handshakes_in_flight(), 0);
    drop(turn);
}

#[tokio::test]
async fn a_turn_goes_to_the_one_that_waits_the_longest_and_is_left_by_one_that_is_dropped() {
    busy!(layer, turn);
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let (connection, mut io) = in_memory();
        io.write_all(&client_hello()).await.unwrap();
        let mut served = task::spawn(serve(layer.clone(), connection, echo));
        assert_pending!(served.poll());
        waiting.push((served, io));
    }
    assert_eq!(layer.handshakes_waiting(), 3);
    drop(waiting.remove(0));
    assert_eq!(layer.handshakes_waiting(), 2);
    drop(turn);
    let (next, io) = &mut waiting[0];
    assert!(next.is_woken());
    assert_pending!(next.poll());
    // It has responded and waits for the client, so the turn is free for the next one.
    assert!(io.read_u8().await.is_ok());
    assert!(waiting[1].0.is_woken());
    assert_pending!(waiting[1].0.poll());
    assert_eq!(layer.handshakes_waiting(), 0);
    assert_eq!(layer.handshakes_in_flight(), 2);
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_for_its_turn_is_gone_at_once() {
    for reset in [false, true] {
        busy!(layer, turn);
        let (connection, mut io) = over_tcp().await;
        let known = info(&connection);
        io.write_all(&client_hello()).await.unwrap();
        let served = serve(layer.clone(), connection, echo);
        let leave = async {
            while layer.handshakes_waiting() == 0 {
                tokio::task::yield_now().await;
            }
            if reset {
                io.set_zero_linger().unwrap();
            }
            drop(io);
        };
        let (served, ()) = tokio::join!(served, leave);
        assert!(served.unwrap_err().is::<HandshakeError>());
        assert_eq!(known.phase(), Phase::Closed);
        assert_eq!(layer.handshakes_in_flight(), 0);
        assert_eq!(known.bytes_written(), 0);
        drop(turn);
    }
}

#[tokio::test]
async fn a_client_that_takes_no_output_holds_no_turn() {
    let layer = tls_layer().with_max_computing(1);
    let hello = client_hello();
    // The server's flight does not fit into the pipe.
    let (ours, mut theirs) = duplex(512);
    let connection = Connection::accept(ours);
    let mut stalled = task::spawn(serve(layer.clone(), connection, echo));
    for part in hello.chunks(512) {
        theirs.write_all(part).await.unwrap();
        assert_pending!(stalled.poll());
    }
    let (connection, io) = in_memory();
    let served = serve(layer.clone(), connection, echo);
    let talk = async { talk(connect(client(), io).await?, b"hello").await };
    let (served, received) = tokio::join!(served, talk);
    served.unwrap();
    assert_eq!(received.unwrap(), b"hello");
}

#[tokio::test(start_paused = true)]
async fn the_longest_silent_client_makes_room_for_the_next() {
    let layer = tls_layer().with_max_handshakes(2);
    let mut silent = Vec::new();
    for _ in 0..3 {
        let (connection, io) = in_memory();
        let mut served = task::spawn(serve(layer.clone(), connection, echo));
        assert_pending!(served.poll());
        silent.push((served, io));
        assert!(layer.handshakes_in_flight() <= 2);
    }
    let (first, _) = &mut silent[0];
    assert!(first.is_woken());
    let error = assert_ready!(first.poll()).unwrap_err();
    let refused: &Refused = error.downcast_ref().unwrap();
    assert_eq!(refused.by(), "tls");
    assert_eq!(refused.reason(), TlsLayer::TOO_MANY_HANDSHAKES);
    let (connection, io) = in_memory();
    let served = serve(layer.clone(), connection, echo);
    let talk = async { talk(connect(client(), io).await?, b"hello").await };
    let (served, received) = tokio::join!(served, talk);
    served.unwrap();
    assert_eq!(received.unwrap(), b"hello");
    assert!(silent[1].0.is_woken() && !silent[2].0.is_woken());
    assert_pending!(silent[2].0.poll());
    assert_eq!(layer.handshakes_in_flight(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_handshake_keeps_its_place_until_it_is_closed_and_makes_room_too() {
    let layer = tls_layer().with_max_handshakes(1);
    for displaced in [false, true] {
        let (connection, mut io) = in_memory();
        let mut served = task::spawn(serve(layer.clone(), connection, echo));
        io.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        assert_pending!(served.poll());
        assert_eq!(layer.handshakes_in_flight(), 1);
        if displaced {
            let (connection, _silent) = in_memory();
            let mut next = task::spawn(serve(layer.clone(), connection, echo));
            assert_pending!(next.poll());
            assert_eq!(layer.handshakes_in_flight(), 1);
            assert!(served.is_woken());
        } else {
            sleep(Duration::from_secs(2)).await;
        }
        let error = assert_ready!(served.poll()).unwrap_err();
        assert!(error.is::<HandshakeError>());
        drop(served);
        assert_eq!(layer.handshakes_in_flight(), 0);
    }
}

#[tokio::test]
async fn a_connection_is_rejected_where_all_the_others_wait_for_their_turn() {
    busy!(layer, turn);
    let layer = layer.with_max_handshakes(1);
    let (connection, mut io) = in_memory();
    io.write_all(&client_hello()).await.unwrap();
    let mut waiting = task::spawn(serve(layer.clone(), connection, echo));
    assert_pending!(waiting.poll());
    let error = serve(layer.clone(), in_memory().0, echo).await.unwrap_err();
    assert!(error.is::<Refused>());
    drop(turn);
    assert!(waiting.is_woken());
    assert_eq!(layer.handshakes_in_flight(), 1);
    drop(waiting);
    assert_eq!(layer.handshakes_in_flight(), 0);
}

#[test]
fn a_silent_client_takes_little_memory() {
    let (connection, _io) = in_memory();
    let future = super::super::handshake::handshake(tls_layer(), connection);
    assert!(size_of_val(&future) <= 1024, "{}", size_of_val(&future));
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

/// A stream that records its drop.
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
async fn the_inner_service_is_asked_for_readiness_after_the_handshake() {
    let (mut service, mut handle) =
        tower_test::mock::spawn_with(|mock: tower_test::mock::Mock<_, ()>| tls_layer().layer(mock));
    handle.allow(0);
    assert_ready!(service.poll_ready::<Connection<Socket<DuplexStream>>>()).unwrap();

    let (connection, io) = in_memory();
    let known = info(&connection);
    let served = service.call(connection);
    let accept = async {
        while known.phase() != Phase::Waiting {
            tokio::task::yield_now().await;
        }
        assert!(known.tls().is_some());
        handle.allow(1);
        let (connection, respond) = handle.next_request().await.unwrap();
        assert_eq!(connection.info().phase(), Phase::Serving);
        respond.send_response(());
    };
    let (served, client, ()) = tokio::join!(served, connect(client(), io), accept);
    served.unwrap();
    client.unwrap();
}

#[tokio::test]
async fn a_limit_within_counts_finished_handshakes_only() {
    use crate::limit::connection_limit::ConnectionLimitLayer;
    let (limit, counts) = ConnectionLimitLayer::pair(1);
    let inner = limit.layer(tower::service_fn(echo));
    let mut stack = tls_layer().layer(inner);
    let (silent, _silent_io) = in_memory();
    let mut silent = task::spawn(stack.ready().await.unwrap().call(silent));
    assert_pending!(silent.poll());
    assert_eq!((counts.active(), counts.waiting()), (0, 0));
    let (connection, io) = in_memory();
    let served = stack.ready().await.unwrap().call(connection);
    let talk = async { talk(connect(client(), io).await?, b"hello").await };
    let (served, received) = tokio::join!(served, talk);
    served.unwrap();
    assert_eq!(received.unwrap(), b"hello");
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_inside_is_noticed_and_one_that_wants_an_answer_stays()
{
    use crate::limit::connection_limit::ConnectionLimitLayer;
    let ends = [(false, false), (false, true), (true, true)];
    for (stays, is_polite) in ends {
        let (limit, counts) = ConnectionLimitLayer::pair(0);
        let limit = limit.wait_up_to(Duration::from_secs(60), 1);
        let inner = limit.layer(tower::service_fn(echo));
        let (connection, io) = over_tcp().await;
        let served = tls_layer().layer(inner).oneshot(connection);
        let client = async {
            let mut client = connect(client(), io).await.unwrap();
            while counts.waiting() == 0 {
                tokio::task::yield_now().await;
            }
            if !stays {
                if is_polite {
                    client.shutdown().await.unwrap();
                }
                drop(client);
                return;
            }
            let talk = talk(client, b"hello");
            let admit = async {
                sleep(Duration::from_millis(50)).await;
                assert_eq!(counts.waiting(), 1);
                counts.set_limit(1);
            };
            assert_eq!(tokio::join!(talk, admit).0.unwrap(), b"hello");
        };
        let both = async { tokio::join!(served, client) };
        let (served, ()) = timeout(Duration::from_secs(20), both).await.unwrap();
        assert_eq!(served.is_ok(), stays, "polite: {is_polite}");
    }
}

#[test]
#[should_panic(expected = "`max` must be at least 1")]
fn a_limit_of_zero_turns_is_found_at_once() {
    let _ = tls_layer().with_max_computing(0);
}

#[test]
#[should_panic(expected = "`max` must be at least 1")]
fn a_limit_of_zero_handshakes_is_found_at_once() {
    let _ = tls_layer().with_max_handshakes(0);
}

#[tokio::test]
async fn without_a_limit_nothing_overflows() {
    let layer = tls_layer().with_max_handshakes(usize::MAX);
    let layer = layer.with_max_computing(usize::MAX);
    assert_eq!(layer.handshakes_in_flight(), 0);
}

/// Computes for some time, and records the maximum of concurrent computations.
#[derive(Debug)]
struct Slow {
    inner: Arc<dyn rustls::server::ResolvesServerCert>,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl rustls::server::ResolvesServerCert for Slow {
    #[expect(clippy::disallowed_methods, reason = "computing blocks a thread")]
    fn resolve(
        &self,
        hello: rustls::server::ClientHello<'_>,
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(5));
        self.now.fetch_sub(1, Ordering::SeqCst);
        self.inner.resolve(hello)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_more_handshakes_compute_at_once_than_may() {
    for max in [1, 2] {
        let mut config = server_config(provider(), rustls::ALL_VERSIONS);
        let slow = Arc::new(Slow {
            inner: config.cert_resolver.clone(),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        });
        config.cert_resolver = slow.clone();
        let layer = TlsLayer::new(config.into()).with_max_computing(max);
        let clients: Vec<_> = (0..20)
            .map(|_| {
                let (connection, io) = in_memory();
                let layer = layer.clone();
                tokio::spawn(async move {
                    let talk = async { talk(connect(client(), io).await?, b"hello").await };
                    tokio::join!(serve(layer, connection, echo), talk)
                })
            })
            .collect();
        for client in clients {
            let (served, received) = client.await.unwrap();
            served.unwrap();
            assert_eq!(received.unwrap(), b"hello");
        }
        assert!(slow.most.load(Ordering::SeqCst) <= max);
        assert_eq!(layer.handshakes_in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_has_half_a_second_more_once_the_server_accepts_no_more() {
    let grace = Duration::from_millis(500);
    for late in [grace - Duration::from_millis(1), 2 * grace] {
        let (drain, signal) = DrainTrigger::pair();
        let origin = Arc::new(ListenerInfo::new().with_drain(signal));
        let info = ConnectionInfo::from_listener(origin, Address::Unknown, Address::Unknown);
        let (io, ours) = duplex(1 << 16);
        let connection = Connection::with_info(ours, info);
        let served = tokio::spawn(serve(tls_layer(), connection, echo));
        drain.notify();
        sleep(BOUND / 2).await;
        let closing = Instant::now();
        drain.close();
        sleep(late).await;
        let received = async { talk(connect(client(), io).await?, b"hello").await };
        assert_eq!(received.await.is_ok(), late < grace);
        let served = served.await.unwrap();
        if late > grace {
            let elapsed = Elapsed::new(TimeoutPhase::HANDSHAKE, grace);
            let error = served.unwrap_err();
            assert_eq!(error.downcast_ref(), Some(&elapsed));
            assert!(closing.elapsed() < 3 * grace);
        } else {
            served.unwrap();
        }
    }
}
