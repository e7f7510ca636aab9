//! The limit holds under concurrency.

use super::super::limiter::{Limiter, LimiterEntry};
use super::*;
use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};
use tokio::task::{JoinSet, yield_now};
use tower::{Layer, Service, ServiceExt, service_fn};

/// Reproducible pseudorandom numbers.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // Knuth's MMIX generator; its low bits are poor.
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

#[test]
fn after_any_history_nobody_waits_while_there_is_room() {
    let limiter = Arc::new(Limiter::new("limit", 3));
    let mut dice = Dice(1);
    let mut entries = Vec::new();
    let cx = Context::from_waker(Waker::noop());
    for _ in 0..100_000 {
        let before = limiter.state().active();
        match dice.roll(5) {
            0 | 1 => entries.extend(limiter.enter(6)),
            2 if !entries.is_empty() => {
                let chosen = dice.roll(entries.len());
                drop(entries.swap_remove(chosen));
            }
            3 if !entries.is_empty() => {
                let chosen = dice.roll(entries.len());
                if let LimiterEntry::Queued(place) = &mut entries[chosen]
                    && let Poll::Ready(slot) = place.poll_slot(&cx)
                {
                    entries[chosen] = LimiterEntry::Admitted(slot);
                }
            }
            4 => limiter.set_limit(dice.roll(6)),
            _ => {}
        }
        let state = limiter.state();
        let (limit, active, waiting) = (state.limit(), state.active(), state.waiting());
        assert!(active <= limit.max(before), "grew beyond the limit");
        assert!(
            waiting == 0 || active >= limit,
            "waits though there is room"
        );
        assert!(waiting <= 6);
        assert_eq!(active + waiting, entries.len());
    }
    entries.clear();
    assert_eq!(limiter.state().active(), 0);
    assert_eq!(limiter.state().waiting(), 0);
}

/// Number of served connections, now and at most since the last check.
#[derive(Default)]
struct Seen {
    now: usize,
    most: usize,
}

#[derive(Clone, Default)]
struct Watch(Arc<Mutex<Seen>>);

struct Served(Watch);

impl Served {
    fn new(watch: Watch) -> Self {
        let mut seen = watch.0.lock().unwrap();
        seen.now += 1;
        seen.most = seen.most.max(seen.now);
        drop(seen);
        Self(watch)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().now -= 1;
    }
}

impl Watch {
    /// The maximum since the last check.
    fn most(&self) -> usize {
        let mut seen = self.0.lock().unwrap();
        let now = seen.now;
        std::mem::replace(&mut seen.most, now)
    }
}

/// Serves connections for a few turns of the scheduler and counts them.
fn watched(
    watch: &Watch,
) -> impl Service<InMemory, Response = (), Error = BoxError, Future: Send> + Clone + Send + use<> {
    let watch = watch.clone();
    service_fn(move |connection: InMemory| {
        let watch = watch.clone();
        async move {
            let served = Served::new(watch);
            turns(connection.id().get() as usize % 4).await;
            drop(served);
            drop(connection);
            Ok(())
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_never_exceed_the_limit_and_all_are_served() {
    let (layer, limit) = ConnectionLimitLayer::pair(3);
    let watch = Watch::default();
    let before_accept = layer.layer(watched(&watch));
    let in_future = layer
        .clone()
        .wait_up_to(Duration::MAX, 1000)
        .layer(watched(&watch));
    let mut tasks = JoinSet::new();
    for number in 0..32 {
        let mut service = [&before_accept, &in_future][number % 2].clone();
        tasks.spawn(async move {
            for _ in 0..100 {
                let ready = service.ready().await.unwrap();
                ready.call(connection()).await.unwrap();
            }
        });
    }
    in_time(tasks.join_all()).await;
    assert_eq!(watch.most(), 3);
    assert_eq!(
        (limit.active(), limit.waiting(), limit.refused()),
        (0, 0, 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_limit_that_goes_up_and_down_is_never_exceeded() {
    let (layer, limit) = ConnectionLimitLayer::pair(3);
    let watch = Watch::default();
    let before_accept = layer.layer(watched(&watch));
    let in_future = layer
        .clone()
        .wait_up_to(Duration::MAX, 1000)
        .layer(watched(&watch));
    let mut tasks = JoinSet::new();
    for number in 0..16 {
        let mut service = [&before_accept, &in_future][number % 2].clone();
        let mut dice = Dice(number as u64);
        tasks.spawn(async move {
            loop {
                let ready = service.ready().await.unwrap();
                let call = ready.call(connection());
                // Some are dropped at any moment.
                tokio::select! {
                    biased;
                    result = call => result.unwrap(),
                    () = turns(dice.roll(20)) => {}
                }
            }
        });
    }
    let mut dice = Dice(7);
    for _ in 0..200 {
        let to = dice.roll(6);
        limit.set_limit(to);
        // Connections that were given a slot before may not have reached the service yet.
        in_time(async {
            while limit.active() > to {
                yield_now().await;
            }
        })
        .await;
        watch.most();
        turns(dice.roll(50)).await;
        let most = watch.most();
        assert!(most <= to, "{most} were served under a limit of {to}");
    }
    tasks.shutdown().await;
    assert_eq!((limit.active(), limit.waiting()), (0, 0));
}

async fn turns(turns: usize) {
    for _ in 0..turns {
        yield_now().await;
    }
}
