//! Checks a layer against tower's contract.

mod bench;
mod probe;
#[cfg(test)]
mod tests;

pub use self::probe::{Probe, ProbeFuture};

use self::{
    bench::{Bench, CallStart, MOST},
    probe::{CallEnding, ProbeGate},
};
use super::{Peer, PeerIo};
use crate::{Connection, connection::Socket};
use std::task::Poll;
use tower::{Layer, Service};

/// Checks that `layer` keeps tower's contract, with connections to a silent peer.
///
/// It calls [`assert_contract_with`]. Use that function for layers that read before they call their inner
/// service, and for layers of other requests than connections.
///
/// ```
/// use portcullis_middleware::{handler::from_fn, testing::assert_contract};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// assert_contract(from_fn(|connection, next| async move { next.run(connection).await })).await;
/// # }
/// ```
///
/// # Panics
///
/// Panics if the layer breaks the contract; the message describes the case and the expectation.
pub async fn assert_contract<L>(layer: L)
where
    L: Layer<Probe>,
    L::Service: Service<Connection<Socket<PeerIo>>> + Clone,
{
    assert_contract_with(layer, || Peer::new().connection().0).await;
}

/// Checks that `layer` keeps tower's contract, with requests made by `request`.
///
/// The layer wraps a [`Probe`], a service that accepts any request and records whether it is ready. The check
/// verifies these rules:
///
/// 1. The inner service is called only if `poll_ready` of the same instance has returned ready since its
///    previous call. A clone is not ready, and one readiness allows one call.
/// 2. A clone of a ready service becomes ready on its own, with a permit of its own.
/// 3. Readiness of the inner service and permits of the layer are released when a ready service is dropped,
///    when a future is dropped (before its first poll, or while the inner one is running), and when the inner
///    service returns, fails or panics. After that, the layer serves as many requests concurrently as before.
/// 4. While the inner service is not ready, the layer is not ready either, or waits before the call. If the
///    inner service fails to become ready, the layer passes the error on or makes no call. Waiting tasks are
///    woken when the inner service becomes ready, when the layer has capacity, and when a call ends.
///
/// Each ending is repeated eight times. Give layers with a limit a limit of eight or less, so that a lost
/// permit is detected. Services may reject instead of waiting. The check ignores what the layer does with the
/// request (see [`assert_transparent`](super::assert_transparent)) and with the response.
///
/// It needs a runtime with time, `#[tokio::test(start_paused = true)]`. Events are expected within one second,
/// which takes no real time while the clock is paused.
///
/// ```
/// use portcullis_middleware::{
///     peer_addr::PeerAddrLayer,
///     testing::{Peer, assert_contract_with},
/// };
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// assert_contract_with(PeerAddrLayer::new(), || Peer::new().io()).await;
/// # }
/// ```
///
/// # Panics
///
/// Panics if the layer breaks the contract; the message describes the case and the expectation.
pub async fn assert_contract_with<L, R>(layer: L, request: impl Fn() -> R)
where
    L: Layer<Probe>,
    L::Service: Service<R> + Clone,
{
    // A new service for each case, so that failures do not affect later cases.
    let bench = || Bench::new(&layer, &request);
    let room = bench().room().await;
    assert!(room > 0, "tower contract: the layer serves no request");
    comes_back(&mut bench(), Termination::DropRunning, room).await;
    serves_one_after_the_other(&mut bench()).await;
    waits_for_readiness(&mut bench()).await;
    passes_unreadiness_on(&mut bench()).await;
    gives_clones_nothing(&mut bench(), room).await;
    for end in TERMINATIONS {
        comes_back(&mut bench(), end, room).await;
    }
    if room < MOST {
        passes_slots_on(&mut bench(), room).await;
    }
}

/// With an inner service of capacity one, the ready instance must be the one that is called.
async fn serves_one_after_the_other<S, R, M>(bench: &mut Bench<S, M>)
where
    S: Service<R> + Clone,
    M: Fn() -> R,
{
    bench.begin("one connection after the other");
    bench.inner.set_room(1);
    let mut service = bench.service.clone();
    for served in 0..2 {
        bench.inner.set_ending(CallEnding::Wait);
        match bench.start(&mut service).await {
            CallStart::Running(mut future) => {
                let woken = bench.poll(&mut future);
                bench.inner.finish();
                bench.expect(
                    woken.soon().await,
                    "the inner future ended, and the task that polled the layer's last was not woken",
                );
                bench.expect(
                    bench.ends(&mut future).await,
                    "the inner future ended, and the layer's did not",
                );
            }
            CallStart::NotReady if served > 0 => bench.fail(
                "one connection was served, and the layer did not become ready again; what was not \
                 released?",
            ),
            CallStart::NotReady => bench.fail(
                "the inner service is idle and has capacity for one, and the layer did not become \
                 ready",
            ),
            CallStart::NotServed => bench.fail(
                "the layer was ready, the inner service had capacity for one, and was not called; \
                 does the layer call another instance than the ready one?",
            ),
        }
        bench.settled("a connection was served").await;
    }
    bench.inner.set_room(usize::MAX);
}

async fn waits_for_readiness<S, R, M>(bench: &mut Bench<S, M>)
where
    S: Service<R> + Clone,
    M: Fn() -> R,
{
    bench.begin("an inner service that is not ready");
    bench.inner.set_gate(ProbeGate::Closed);
    let mut service = bench.service.clone();
    let before = bench.inner.calls();
    if bench.poll_ready(&mut service).0.is_pending() {
        // Another task polls it now and must be the one that is woken.
        let (polled, woken) = bench.poll_ready(&mut service);
        bench.expect(
            polled.is_pending(),
            "polled again, the layer was ready, and the inner service was not",
        );
        bench.inner.set_gate(ProbeGate::Open);
        bench.expect(
            woken.soon().await,
            "the inner service became ready, and the task that polled the layer last was not woken",
        );
        bench.expect(
            bench.becomes_ready(&mut service).await,
            "the inner service became ready, and the layer did not",
        );
        return;
    }
    // A layer may wait in its future instead.
    bench.inner.set_ending(CallEnding::Answer);
    let Some(mut future) = bench.call(&mut service) else {
        return bench.inner.set_gate(ProbeGate::Open);
    };
    let ended = bench.ends(&mut future).await;
    bench.check();
    bench.expect(
        bench.inner.calls() == before,
        "the inner service was called and was not ready",
    );
    bench.inner.set_gate(ProbeGate::Open);
    if !ended {
        let ended = bench.ends(&mut future).await;
        bench.expect(
            ended,
            "the inner service became ready, and the layer's future did not continue",
        );
    }
}

async fn passes_unreadiness_on<S, R, M>(bench: &mut Bench<S, M>)
where
    S: Service<R> + Clone,
    M: Fn() -> R,
{
    bench.begin("an inner service that fails to become ready");
    bench.inner.set_gate(ProbeGate::Failing);
    let mut service = bench.service.clone();
    match bench.first_readiness(&mut service).await {
        Poll::Pending => {
            bench.fail("`poll_ready` of the inner service failed, and the layer's went on waiting");
        }
        Poll::Ready(false) => {}
        Poll::Ready(true) => {
            bench.inner.set_ending(CallEnding::Answer);
            if let Some(mut future) = bench.call(&mut service) {
                bench.ends(&mut future).await;
            }
            bench.check();
        }
    }
    bench.inner.set_gate(ProbeGate::Open);
    drop(service);
    bench.settled("a service that had failed was dropped").await;
}

/// A clone of a ready service must become ready itself and take its own permit.
async fn gives_clones_nothing<S, R, M>(bench: &mut Bench<S, M>, room: usize)
where
    S: Service<R> + Clone,
    M: Fn() -> R,
{
    bench.begin("clones of a service that is ready");
    let mut ready = bench.service.clone();
    bench.expect(
        bench.becomes_ready(&mut ready).await,
        "with no call running, the layer did not become ready",
    );
    let mut running = bench.fill(&ready).await;
    bench.inner.set_ending(CallEnding::Wait);
    if let Some(mut future) = bench.call(&mut ready)
        && bench.reaches(&mut future).await
    {
        running.push(future);
    }
    bench.check();
    let served = running.len();
    bench.expect(
        room == MOST || served <= room,
        format_args!(
            "the layer serves {room} concurrently, and {served} through clones of a ready service; \
             do clones share its permit?"
        ),
    );
    drop((running, ready));
    bench.settled("all of them were dropped").await;
}

/// A way for a connection to end.
#[derive(Clone, Copy, Debug)]
enum Termination {
    DropReady,
    DropUnpolled,
    DropRunning,
    Inner(CallEnding),
}

const TERMINATIONS: [Termination; 6] = [
    Termination::DropReady,
    Termination::DropUnpolled,
    Termination::Inner(CallEnding::Answer),
    Termination::Inner(CallEnding::Fail),
    Termination::Inner(CallEnding::Panic),
    Termination::Inner(CallEnding::PanicInCall),
];

impl Termination {
    const fn describe(self) -> &'static str {
        match self {
            Self::DropReady => "a ready service was dropped",
            Self::DropUnpolled => "a future was dropped before its first poll",
            Self::DropRunning => "a future was dropped while the inner one was running",
            Self::Inner(CallEnding::Fail) => "the inner service failed",
            Self::Inner(CallEnding::Panic) => "the inner future panicked",
            Self::Inner(CallEnding::PanicInCall) => "the inner service panicked in `call`",
            Self::Inner(CallEnding::Answer | CallEnding::Wait) => "the inner service answered",
        }
    }
}

/// After each ending the layer serves as many requests as before.
async fn comes_back<S, R, M>(bench: &mut Bench<S, M>, end: Termination, room: usize)
where
    S: Service<R> + Clone,
    M: Fn() -> R,
{
    bench.begin(end.describe());
    for time in 1..=MOST {
        let mut service = bench.service.clone();
        let missed = format!(
            "the layer served {room} concurrently before, and none after this happened {} times; \
             what was not released?",
            time - 1
        );
        bench.expect(bench.becomes_ready(&mut service).await, &missed);
        bench.inner.set_ending(match end {
            Termination::Inner(ending) => ending,
            Termination::DropReady | Termination::DropUnpolled | Termination::DropRunning => {
                CallEnding::Wait
            }
        });
        if let Termination::DropReady = end {
            continue;
        }
        let Some(mut future) = bench.call(&mut service) else {
            continue;
        };
        match end {
            Termination::DropReady | Termination::DropUnpolled => {}
            Termination::DropRunning => bench.expect(bench.reaches(&mut future).await, missed),
            Termination::Inner(_) => {
                let ended = bench.ends(&mut future).await;
                bench.expect(ended, "the inner one ended, and the layer's future did not");
            }
        }
    }
    bench.settled("all of it was over").await;
    let left = bench.room().await;
    bench.expect(
        left == room,
        format_args!(
            "the layer served {room} concurrently before, and {left} after this happened {MOST} times"
        ),
    );
}

/// A layer with a limit passes a free slot to the next waiter, also if the first one was dropped.
async fn passes_slots_on<S, R, M>(bench: &mut Bench<S, M>, room: usize)
where
    S: Service<R> + Clone,
    M: Fn() -> R,
{
    bench.begin("a layer that is full");
    let mut running = bench.fill(&bench.service.clone()).await;
    let mut first = bench.service.clone();
    let mut second = bench.service.clone();
    if bench.poll_ready(&mut first).0.is_ready() {
        // It rejects, or waits in the future.
        return;
    }
    let (_, woken) = bench.poll_ready(&mut first);
    let (_, second_woken) = bench.poll_ready(&mut second);
    running.pop();
    bench.expect(
        woken.soon().await || second_woken.is_woken(),
        "one of the running futures was dropped, and no caller that waited for capacity was woken",
    );
    drop(first);
    bench.expect(
        bench.becomes_ready(&mut second).await,
        "one of the running futures was dropped, then the first waiter, and the second did not \
         become ready",
    );
    drop((second, running));
    bench.settled("all of them were dropped").await;
    let left = bench.room().await;
    bench.expect(
        left == room,
        format_args!(
            "the layer served {room} concurrently before, and {left} after some had waited for capacity"
        ),
    );
}
