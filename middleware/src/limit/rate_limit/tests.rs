use super::{
    rate::{Arrival, Gcra},
    *,
};
use crate::{
    BoxError, Connection, ConnectionInfo,
    connection::{Address, Socket},
    error::{Refused, find},
    limit::{ClientIp, WhenTableFull},
    observe::trace::tests::log::Log,
};
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::{
    io::{DuplexStream, duplex},
    task::JoinSet,
    time::advance,
};
use tower::{Layer, Service, ServiceExt};
use tracing::Level;

type InMemory = Connection<Socket<DuplexStream>>;

static_assertions::assert_impl_all!(RateLimitLayer: Send, Sync, Clone);
static_assertions::assert_impl_all!(RateLimit<()>: Send, Sync, Clone);

const MS: Duration = Duration::from_millis(1);

fn from_ip(peer: IpAddr) -> InMemory {
    let info = ConnectionInfo::new(SocketAddr::new(peer, 4000), Address::Unknown);
    Connection::with_info(duplex(8).0, info)
}

#[derive(Clone)]
struct Served;

impl<IO> Service<Connection<IO>> for Served {
    type Response = ();
    type Error = BoxError;
    type Future = std::future::Ready<Result<(), BoxError>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), BoxError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Connection<IO>) -> Self::Future {
        std::future::ready(Ok(()))
    }
}

/// The reason of the rejection; empty for a connection that was served.
async fn serve(layer: &RateLimitLayer, peer: &str) -> &'static str {
    let result = layer
        .layer(Served)
        .oneshot(from_ip(peer.parse().unwrap()))
        .await;
    let Err(error) = result else { return "" };
    let refused = find::<Refused>(&*error).unwrap();
    assert_eq!(refused.by(), "rate_limit");
    refused.reason()
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_admitted_and_then_one_per_interval() {
    let layer = RateLimitLayer::new(ClientIp::new(), Rate::per_second(10).with_burst(3));
    let served = async || serve(&layer, "192.0.2.1").await.is_empty();
    for _ in 0..3 {
        assert!(served().await);
    }
    assert!(!served().await);
    advance(99 * MS).await;
    assert!(!served().await);
    advance(MS).await;
    assert!(served().await);
    assert!(!served().await);
    // After a pause there is one burst and no more.
    advance(3600 * 1000 * MS).await;
    for _ in 0..3 {
        assert!(served().await);
    }
    assert!(!served().await);
    assert_eq!(layer.handle().refused(), 4);
}

#[tokio::test(start_paused = true)]
async fn each_key_has_its_own_rate_and_all_connections_can_have_one() {
    let each = RateLimitLayer::new(ClientIp::new(), Rate::per_second(1));
    assert_eq!(serve(&each, "2001:db8::1").await, "");
    assert_eq!(serve(&each, "2001:db8::2").await, RateLimitLayer::EXCEEDED);
    assert_eq!(serve(&each, "2001:db8:0:1::1").await, "");
    assert_eq!(serve(&each, "192.0.2.1").await, "");
    assert_eq!(
        serve(&each, "::ffff:192.0.2.1").await,
        RateLimitLayer::EXCEEDED
    );
    let all = RateLimitLayer::new((), Rate::per_second(1));
    assert_eq!(serve(&all, "192.0.2.1").await, "");
    assert_eq!(serve(&all, "192.0.2.2").await, RateLimitLayer::EXCEEDED);
}

#[tokio::test(start_paused = true)]
async fn a_rate_changes_at_run_time_and_keys_keep_what_they_have_used() {
    let layer = RateLimitLayer::new((), Rate::per_minute(1));
    let handle = layer.handle();
    assert_eq!(serve(&layer, "192.0.2.1").await, "");
    assert_eq!(serve(&layer, "192.0.2.1").await, RateLimitLayer::EXCEEDED);
    handle.set_rate(Rate::per_minute(1).with_burst(2));
    assert_eq!(handle.rate().burst(), 2);
    assert_eq!(serve(&layer, "192.0.2.1").await, "");
    assert_eq!(serve(&layer, "192.0.2.1").await, RateLimitLayer::EXCEEDED);
    handle.set_rate(Rate::per_second(0));
    advance(Duration::from_secs(3600)).await;
    assert_eq!(serve(&layer, "192.0.2.1").await, RateLimitLayer::EXCEEDED);
    // A rate of nothing does not look at the table.
    assert_eq!(handle.keys(), 1);
    assert_eq!(handle.refused(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_raised_rate_does_not_lock_clients_out_for_the_time_of_the_old_one() {
    let layer = RateLimitLayer::new((), Rate::new(1, Duration::from_secs(3600)));
    assert_eq!(serve(&layer, "192.0.2.1").await, "");
    layer.handle().set_rate(Rate::per_second(1));
    advance(Duration::from_millis(999)).await;
    assert_eq!(serve(&layer, "192.0.2.1").await, RateLimitLayer::EXCEEDED);
    advance(Duration::from_secs(1)).await;
    assert_eq!(serve(&layer, "192.0.2.1").await, "");
}

#[tokio::test(start_paused = true)]
async fn a_rate_of_zero_admits_nothing_where_the_table_is_full() {
    let layer = RateLimitLayer::with_capacity(ClientIp::new(), Rate::per_second(1), 1);
    assert_eq!(serve(&layer, "192.0.2.1").await, "");
    assert_eq!(serve(&layer, "192.0.2.2").await, "");
    layer.handle().set_rate(Rate::per_second(0));
    assert_eq!(serve(&layer, "192.0.2.3").await, RateLimitLayer::EXCEEDED);
}

#[tokio::test(start_paused = true)]
async fn a_full_table_admits_new_keys_or_rejects_them_until_one_is_unused() {
    let log = Log::of_lines(Level::WARN);
    let layer = RateLimitLayer::with_capacity(ClientIp::new(), Rate::per_second(1), 2);
    let handle = layer.handle();
    for peer in ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.3"] {
        assert_eq!(serve(&layer, peer).await, "");
    }
    assert_eq!(
        (handle.keys(), handle.capacity(), handle.unlimited()),
        (2, 2, 2)
    );
    assert_eq!(log.last().fields["by"], "rate_limit");
    let strict = layer.clone().when_table_full(WhenTableFull::Refuse);
    assert_eq!(
        serve(&strict, "192.0.2.3").await,
        RateLimitLayer::TABLE_FULL
    );
    assert_eq!(serve(&strict, "192.0.2.1").await, RateLimitLayer::EXCEEDED);
    advance(999 * MS).await;
    assert_eq!(
        serve(&strict, "192.0.2.3").await,
        RateLimitLayer::TABLE_FULL
    );
    advance(MS).await;
    assert_eq!(serve(&strict, "192.0.2.3").await, "");
    assert_eq!(serve(&strict, "192.0.2.3").await, RateLimitLayer::EXCEEDED);
    assert_eq!(handle.keys(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_million_prefixes_leave_the_memory_bounded_and_known_keys_limited() {
    let capacity = 10_000;
    let layer = RateLimitLayer::with_capacity(ClientIp::new(), Rate::per_minute(1), capacity);
    let handle = layer.handle();
    let mut service = layer.layer(Served);
    assert_eq!(serve(&layer, "192.0.2.1").await, "");
    for prefix in 0..1_000_000_u128 {
        let address = Ipv6Addr::from_bits(0x2001 << 112 | prefix << 64);
        service.call(from_ip(address.into())).await.unwrap();
    }
    assert!((capacity * 8 / 10..=capacity).contains(&handle.keys()));
    assert_eq!(handle.unlimited() as usize, 1_000_001 - handle.keys());
    assert_eq!(serve(&layer, "192.0.2.1").await, RateLimitLayer::EXCEEDED);
    advance(Duration::from_secs(60)).await;
    assert_eq!(serve(&layer, "192.0.2.1").await, "");
    assert_eq!(serve(&layer, "192.0.2.2").await, "");
    assert!(handle.keys() < capacity, "unused keys were removed");
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_observes_admits_what_exceeds_the_rate() {
    let layer = RateLimitLayer::new((), Rate::per_second(1)).with_observe(true);
    for _ in 0..3 {
        assert_eq!(serve(&layer, "192.0.2.1").await, "");
    }
    assert_eq!(
        (layer.handle().refused(), layer.handle().observed()),
        (0, 2)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_are_admitted_exactly_as_often_as_the_rate_allows() {
    let rate = Rate::new(100, Duration::from_secs(1_000_000));
    let layer = RateLimitLayer::new(ClientIp::new(), rate);
    let served: std::sync::Arc<AtomicUsize> = Default::default();
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        let (layer, served) = (layer.clone(), served.clone());
        tasks.spawn(async move {
            for _ in 0..100 {
                let admitted = serve(&layer, "192.0.2.1").await.is_empty();
                served.fetch_add(admitted.into(), Ordering::Relaxed);
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(served.load(Ordering::Relaxed), 100);
}

#[test]
fn extreme_rates_neither_overflow_nor_admit_too_much() {
    let admits = |rate: Rate, now: u64| {
        let mut arrival = Arrival::NEW;
        let mut admit = || arrival.admit(now, Gcra::from(rate));
        [admit(), admit(), admit()]
    };
    for now in [0, 1, u64::MAX / 2] {
        assert_eq!(admits(Rate::new(0, Duration::MAX), now), [false; 3]);
        assert_eq!(
            admits(Rate::new(0, Duration::MAX).with_burst(9), now),
            [false; 3]
        );
        assert_eq!(admits(Rate::per_second(9).with_burst(0), now), [false; 3]);
        assert_eq!(admits(Rate::new(u32::MAX, Duration::ZERO), now), [true; 3]);
        assert_eq!(
            admits(Rate::new(2, Duration::from_secs(1)), now),
            [true, true, false]
        );
    }
    assert_eq!(admits(Rate::new(1, Duration::MAX), 0), [true, false, false]);
}
