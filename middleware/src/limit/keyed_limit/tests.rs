use super::{
    counts::{Counts, Taken},
    *,
};
use crate::{
    BoxError, Connection, ConnectionInfo,
    connection::{Address, Linger, Socket},
    error::{Refused, find},
    guard::Refusal,
    limit::{ClientIp, Key, KeyBytes, ListenerName, WhenTableFull},
    meter::Gauge,
    observe::trace::tests::log::Log,
    testing::over_tcp,
};
use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::{JoinSet, yield_now},
    time::advance,
};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service, ServiceExt};
use tracing::Level;

type InMemory = Connection<Socket<DuplexStream>>;

static_assertions::assert_impl_all!(KeyedLimitLayer: Send, Sync, Clone);
static_assertions::assert_impl_all!(KeyedLimit<()>: Send, Sync, Clone);

fn from(peer: &str) -> InMemory {
    from_ip(peer.parse().unwrap())
}

fn from_ip(peer: IpAddr) -> InMemory {
    let info = ConnectionInfo::new(SocketAddr::new(peer, 4000), Address::Unknown);
    Connection::with_info(duplex(8).0, info)
}

/// Gives each connection back, as an upgrade or a hand-off does.
#[derive(Clone)]
struct GiveBack;

impl<IO> Service<Connection<IO>> for GiveBack {
    type Response = Connection<IO>;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Connection<IO>, BoxError>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), BoxError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, connection: Connection<IO>) -> Self::Future {
        std::future::ready(Ok(connection))
    }
}

async fn serve(layer: &KeyedLimitLayer, peer: &str) -> Result<InMemory, BoxError> {
    layer.layer(GiveBack).oneshot(from(peer)).await
}

#[track_caller]
fn reason<T>(result: Result<T, BoxError>) -> &'static str {
    let error = result.err().expect("it was rejected");
    let refused = find::<Refused>(&*error).unwrap();
    assert_eq!(refused.by(), "keyed_limit");
    refused.reason()
}

#[tokio::test]
async fn the_last_connection_of_a_key_is_served_and_the_next_is_not() {
    let layer = KeyedLimitLayer::new(ClientIp::new(), 2);
    let limit = layer.handle();
    let first = serve(&layer, "192.0.2.1").await.unwrap();
    let _second = serve(&layer, "::ffff:192.0.2.1").await.unwrap();
    assert_eq!(
        reason(serve(&layer, "192.0.2.1").await),
        KeyedLimitLayer::FULL
    );
    let _neighbour = serve(&layer, "192.0.2.2").await.unwrap();
    assert_eq!((limit.active(), limit.keys(), limit.refused()), (3, 2, 1));
    drop(first);
    assert_eq!(limit.active(), 2);
    serve(&layer, "192.0.2.1").await.unwrap();
}

#[tokio::test]
async fn addresses_of_one_64_are_one_client() {
    let layer = KeyedLimitLayer::new(ClientIp::new(), 8);
    let mut open = Vec::new();
    for host in 0..100_u128 {
        let address = Ipv6Addr::from_bits(0x2001_0db8 << 96 | host << 57 >> 57 | host);
        open.extend(
            layer
                .layer(GiveBack)
                .oneshot(from_ip(address.into()))
                .await
                .ok(),
        );
    }
    assert_eq!(open.len(), 8);
    assert_eq!(layer.handle().keys(), 1);
    serve(&layer, "2001:db8:0:1::1").await.unwrap();
}

#[tokio::test]
async fn a_key_leaves_the_table_with_its_last_connection() {
    let layer = KeyedLimitLayer::new(ClientIp::new(), 2);
    let limit = layer.handle();
    let key = ClientIp::new().of(from("192.0.2.1").info()).unwrap();
    let connections = [
        serve(&layer, "192.0.2.1").await,
        serve(&layer, "192.0.2.1").await,
    ];
    assert_eq!((limit.active_of(key), limit.keys()), (2, 1));
    let [first, second] = connections.map(Result::unwrap);
    drop(first);
    assert_eq!((limit.active_of(key), limit.keys()), (1, 1));
    drop(second.detach());
    assert_eq!(
        (limit.active_of(key), limit.keys(), limit.active()),
        (0, 0, 0)
    );
    assert_eq!(limit.active_of(KeyBytes::of("unknown")), 0);
}

#[tokio::test]
async fn a_limit_below_what_is_active_keeps_it_and_admits_again_once_enough_have_ended() {
    let layer = KeyedLimitLayer::new(ClientIp::new(), 3);
    let limit = layer.handle();
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(serve(&layer, "192.0.2.1").await.unwrap());
    }
    limit.set_limit(1);
    assert_eq!((limit.limit(), limit.active()), (1, 3));
    for left in [2, 1] {
        assert_eq!(
            reason(serve(&layer, "192.0.2.1").await),
            KeyedLimitLayer::FULL
        );
        open.pop();
        assert_eq!(limit.active(), left);
    }
    assert_eq!(
        reason(serve(&layer, "192.0.2.1").await),
        KeyedLimitLayer::FULL
    );
    open.clear();
    let _one = serve(&layer, "192.0.2.1").await.unwrap();
    limit.set_limit(0);
    assert_eq!(
        reason(serve(&layer, "192.0.2.2").await),
        KeyedLimitLayer::FULL
    );
    assert_eq!(limit.keys(), 1);
    limit.set_limit(2);
    serve(&layer, "192.0.2.1").await.unwrap();
}

#[tokio::test]
async fn what_has_no_key_is_not_limited() {
    let layer = KeyedLimitLayer::new(ListenerName, 0);
    serve(&layer, "192.0.2.1").await.unwrap();
    let layer = KeyedLimitLayer::new(
        |info: &ConnectionInfo| info.peer_addr().map(|_| KeyBytes::of("ip")),
        0,
    );
    assert_eq!(
        reason(serve(&layer, "192.0.2.1").await),
        KeyedLimitLayer::FULL
    );
    let info = ConnectionInfo::new(Address::Unknown, Address::Unknown);
    let unknown = Connection::with_info(duplex(8).0, info);
    layer.layer(GiveBack).oneshot(unknown).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_table_rejects_new_keys_and_says_so_once_a_minute() {
    let log = Log::of_lines(Level::WARN);
    let layer = KeyedLimitLayer::with_capacity(ClientIp::new(), 2, 2);
    let limit = layer.handle();
    let _open = [
        serve(&layer, "192.0.2.1").await.unwrap(),
        serve(&layer, "192.0.2.2").await.unwrap(),
    ];
    for _ in 0..5 {
        assert_eq!(
            reason(serve(&layer, "192.0.2.3").await),
            KeyedLimitLayer::TABLE_FULL
        );
    }
    serve(&layer, "192.0.2.1").await.unwrap();
    let [line] = log.lines().try_into().ok().expect("one line");
    assert_eq!(
        (&*line.fields["by"], &*line.fields["suppressed"]),
        ("keyed_limit", "0")
    );
    assert_eq!(
        (
            limit.keys(),
            limit.capacity(),
            limit.refused(),
            limit.unlimited()
        ),
        (2, 2, 5, 0)
    );
    advance(Duration::from_secs(60)).await;
    let lenient = layer.clone().when_table_full(WhenTableFull::Admit);
    let _third = serve(&lenient, "192.0.2.3").await.unwrap();
    assert_eq!((limit.active(), limit.unlimited()), (2, 1));
    assert_eq!(log.last().fields["suppressed"], "4");
}

#[tokio::test]
async fn a_million_prefixes_leave_the_memory_bounded_and_a_known_client_served() {
    let capacity = 10_000;
    let layer = KeyedLimitLayer::with_capacity(ClientIp::new(), 4, capacity);
    let limit = layer.handle();
    let mut service = layer.layer(GiveBack);
    let good = serve(&layer, "192.0.2.1").await.unwrap();
    let mut flood = Vec::new();
    for prefix in 0..1_000_000_u128 {
        let address = Ipv6Addr::from_bits(0x2001 << 112 | prefix << 64);
        flood.extend(service.call(from_ip(address.into())).await.ok());
    }
    assert_eq!(limit.keys(), flood.len() + 1);
    assert!(
        (capacity * 8 / 10..=capacity).contains(&limit.keys()),
        "{}",
        limit.keys()
    );
    assert_eq!(limit.refused() as usize, 1_000_000 - flood.len());
    let second = serve(&layer, "192.0.2.1").await.unwrap();
    drop((good, second, flood));
    assert_eq!((limit.keys(), limit.active()), (0, 0));
    serve(&layer, "192.0.2.1").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_place_in_the_tarpit_holds_no_slot() {
    let hold = Duration::from_secs(10);
    let layer =
        KeyedLimitLayer::new(ClientIp::new(), 1).with_refusal(Refusal::Tarpit { hold, at_most: 5 });
    let limit = layer.handle();
    let first = serve(&layer, "192.0.2.1").await.unwrap();
    let mut held = task::spawn(layer.layer(GiveBack).call(from("192.0.2.1")));
    assert_pending!(held.poll());
    drop(first);
    assert_eq!((limit.active(), limit.keys(), limit.refused()), (0, 0, 1));
    serve(&layer, "192.0.2.1").await.unwrap();
    advance(hold).await;
    assert_eq!(reason(assert_ready!(held.poll())), KeyedLimitLayer::FULL);
}

#[tokio::test]
async fn a_client_beyond_the_limit_sees_a_reset_where_that_is_chosen() {
    let layer = KeyedLimitLayer::new(ClientIp::new(), 0).with_refusal(Refusal::Reset);
    let (connection, mut client) = over_tcp().await;
    reason(layer.layer(GiveBack).oneshot(connection).await);
    let error = client.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_guard_that_observes_says_that_a_full_table_rejects_no_connection() {
    let log = Log::of_lines(Level::INFO);
    let layer = KeyedLimitLayer::with_capacity(ClientIp::new(), 2, 1).with_observe(true);
    let _open = serve(&layer, "192.0.2.1").await.unwrap();
    let second = serve(&layer, "192.0.2.2").await.unwrap();
    let lines: Vec<_> = log.lines().into_iter().map(|line| line.text).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].ends_with("are admitted without a limit"),
        "{lines:?}"
    );
    assert!(lines[1].contains("let a connection pass"), "{lines:?}");
    let notes: Vec<_> = second.info().notes().map(|note| note.reason()).collect();
    assert_eq!(notes, [KeyedLimitLayer::TABLE_FULL]);
    assert_eq!(layer.handle().observed(), 1);
}

#[tokio::test]
async fn a_guard_that_observes_admits_and_counts_the_excess_too() {
    let layer = KeyedLimitLayer::new(ClientIp::new(), 1).with_observe(true);
    let limit = layer.handle();
    let open = [
        serve(&layer, "192.0.2.1").await,
        serve(&layer, "192.0.2.1").await,
    ];
    assert_eq!(
        (limit.active(), limit.refused(), limit.observed()),
        (2, 0, 1)
    );
    drop(open);
    assert_eq!((limit.active(), limit.keys()), (0, 0));
}

#[tokio::test]
async fn a_connection_that_lingers_has_released_its_slot() {
    let layer = KeyedLimitLayer::new(ClientIp::new(), 1);
    let limit = layer.handle();
    let (connection, mut client) = over_tcp().await;
    let connection = layer.layer(GiveBack).oneshot(connection).await.unwrap();
    assert_eq!(limit.active(), 1);
    client.write_all(b"unread").await.unwrap();
    let mut closing = task::spawn(connection.close_within(Linger::new()));
    assert_pending!(closing.poll());
    assert_eq!((limit.active(), limit.keys()), (0, 0));
    drop(client);
    // The input was unread when the client left.
    let _reset = closing.await;
    assert_eq!((limit.active(), limit.keys()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn counts_are_exact_under_tasks_that_end_in_every_way() {
    let layer = KeyedLimitLayer::new(ClientIp::new(), 3);
    let limit = layer.handle();
    let served: Arc<[AtomicUsize; 4]> = Arc::default();
    let mut tasks = JoinSet::new();
    for number in 0..400_usize {
        let (layer, served) = (layer.clone(), served.clone());
        tasks.spawn(async move {
            for round in 0..20 {
                let client = (number + round) % 4;
                let peer = IpAddr::from([192, 0, 2, client as u8]);
                let Ok(connection) = layer.layer(GiveBack).oneshot(from_ip(peer)).await else {
                    yield_now().await;
                    continue;
                };
                let now = served[client].fetch_add(1, Ordering::Relaxed) + 1;
                assert!(now <= 3, "{now} are served");
                yield_now().await;
                served[client].fetch_sub(1, Ordering::Relaxed);
                match (number + round) % 5 {
                    0 => drop(connection),
                    1 => drop(connection.detach()),
                    2 => connection.abort(),
                    3 => drop(tokio::spawn(async move { drop(connection.box_io()) }).await),
                    _ => {
                        let panic = AssertUnwindSafe(|| {
                            let _connection = connection;
                            std::panic::resume_unwind(Box::new("with a connection"));
                        });
                        std::panic::catch_unwind(panic).unwrap_err();
                    }
                }
            }
        });
    }
    for lowered in [2, 1, 3, 0, 3] {
        limit.set_limit(lowered);
        yield_now().await;
    }
    tasks.join_all().await;
    assert_eq!((limit.active(), limit.keys()), (0, 0));
    assert!(limit.refused() > 0);
}

#[test]
fn many_threads_on_few_keys_lose_and_invent_no_count() {
    let counts = Arc::new(Counts::new(5, 64, &Gauge::default()));
    let peaks: [Mutex<(usize, usize)>; 3] = Default::default();
    thread::scope(|scope| {
        for thread in 0..8_usize {
            let (counts, peaks) = (&counts, &peaks);
            scope.spawn(move || {
                for round in 0..5_000 {
                    let number = (thread + round) % 3;
                    let key = KeyBytes::new([number as u8; 16]);
                    if let Taken::Within(slot) = counts.take(key, false) {
                        let mut peak = peaks[number].lock().unwrap();
                        peak.0 += 1;
                        peak.1 = peak.1.max(peak.0);
                        drop(peak);
                        thread::yield_now();
                        peaks[number].lock().unwrap().0 -= 1;
                        drop(slot);
                    }
                }
            });
        }
    });
    assert_eq!((counts.active(), counts.keys()), (0, 0));
    assert!(peaks.iter().all(|peak| peak.lock().unwrap().1 <= 5));
}
