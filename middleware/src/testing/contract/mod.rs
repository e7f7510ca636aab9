//! Holds a layer to tower's contract.

mod bench;
mod probe;
#[cfg(test)]
mod tests;

pub use self::probe::{Probe, ProbeFuture};

use self::{
    bench::{Bench, MOST, Start},
    probe::{Ending, Gate},
};
use super::{Peer, PeerIo};
use crate::{Connection, connection::Socket};
use std::task::Poll;
use tower::{Layer, Service};

/// Checks that `layer` keeps tower's contract, with connections to a silent peer.
///
/// See [`assert_contract_with`], which this calls. For a layer that reads before it calls its inner
/// service, or that takes something else than a connection, call that one.
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
/// Where the layer breaks the contract; the message says what was done and what was expected.
pub async fn assert_contract<L>(layer: L)
where
    L: Layer<Probe>,
    L::Service: Service<Connection<Socket<PeerIo>>> + Clone,
{
    assert_contract_with(layer, || Peer::new().connection().0).await;
}

/// Checks that `layer` keeps tower's contract, with requests made by `request`.
///
/// The layer goes around a [`Probe`], a service that takes any request, knows whether it is ready, and
/// is told what to do. Checked is that
///
/// 1. the inner service is called only where `poll_ready` of that same instance returned ready since
///    its last call: not a clone that was made in passing, and not the same one twice;
/// 2. a clone of a service that is ready has to become ready itself, and gets no permit for nothing;
/// 3. all readiness of the inner service, and all that the layer itself gives out, comes back when a
///    ready service is dropped, when a future is dropped (before the first poll, or while the inner
///    one is running), and when the inner service answers, fails or panics: the layer then serves as
///    many at once as before;
/// 4. where the inner service is not ready the layer is not, or it is ready and waits before it calls it; its
///    failure to become ready passes through, or is not followed by a call; who waits is woken,
///    for the inner service's readiness, for room in the layer, and for the end of a call.
///
/// Each way of ending is gone through eight times: give a layer with a limit one of eight or less,
/// or a lost permit is not missed. A service that refuses instead of waiting is fine. Not checked is
/// what the layer does with the request, see [`assert_transparent`](super::assert_transparent), or
/// with the answer.
///
/// It needs a runtime with time: `#[tokio::test(start_paused = true)]`. What does not happen within a
/// second counts as not happening; in paused time that second takes no time.
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
/// Where the layer breaks the contract; the message says what was done and what was expected.
pub async fn assert_contract_with<L, R>(layer: L, request: impl Fn() -> R)
where
    L: Layer<Probe>,
    L::Service: Service<R> + Clone,
{
    // A service of its own for each, so that what one finds is not blamed on the next.
    let bench = || Bench::new(&layer, &request);
    let room = bench().room().await;
    assert!(room > 0, "tower contract: the layer serves nobody");
    comes_back(&mut bench(), Way::DropRunning, room).await;
    serves_one_after_the_other(&mut bench()).await;
    waits_for_readiness(&mut bench()).await;
    passes_unreadiness_on(&mut bench()).await;
    gives_clones_nothing(&mut bench(), room).await;
    for way in WAYS {
        comes_back(&mut bench(), way, room).await;
    }
    if room < MOST {
        hands_room_on(&mut bench(), room).await;
    }
}

/// With room for one in the inner service, the instance that was ready has to be the one that is
/// called, each time.
async fn serves_one_after_the_other<S, R, M>(bench: &mut Bench<S, M>)
where
    S: Service<R> + Clone,
    M: Fn() -> R,
{
    bench.begin("one connection after the other");
    bench.inner.set_room(1);
    let mut service = bench.service.clone();
    for served in 0..2 {
        bench.inner.set_ending(Ending::Wait);
        match bench.start(&mut service).await {
            Start::Running(mut future) => {
                let woken = bench.poll(&mut future);
                bench.inner.finish();
                bench.expect(
                    woken.soon().await,
                    "the inner future ended, and who polled the layer's last was not woken",
                );
                bench.expect(
                    bench.ends(&mut future).await,
                    "the inner future ended, and the layer's did not",
                );
            }
            Start::NotReady if served > 0 => bench.fail(
                "one connection was served, and the layer did not become ready again: what was not \
                 given back?",
            ),
            Start::NotReady => bench.fail(
                "the inner service has room for one and nobody is in it, and the layer did not \
                 become ready",
            ),
            Start::NotServed => bench.fail(
                "the layer was ready, with room for one in the inner service, and did not call it: \
                 does it call another instance than the one that was ready?",
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
    bench.inner.set_gate(Gate::Closed);
    let mut service = bench.service.clone();
    let before = bench.inner.calls();
    if bench.poll_ready(&mut service).0.is_pending() {
        // Another task polls it now, which is the one to be woken.
        let (polled, woken) = bench.poll_ready(&mut service);
        bench.expect(
            polled.is_pending(),
            "polled again, the layer was ready, and the inner service was not",
        );
        bench.inner.set_gate(Gate::Open);
        bench.expect(
            woken.soon().await,
            "the inner service became ready, and who polled the layer last was not woken",
        );
        bench.expect(
            bench.becomes_ready(&mut service).await,
            "the inner service became ready, and the layer did not",
        );
        return;
    }
    // A layer may wait in its future instead.
    bench.inner.set_ending(Ending::Answer);
    let Some(mut future) = bench.call(&mut service) else {
        return bench.inner.set_gate(Gate::Open);
    };
    let ended = bench.ends(&mut future).await;
    bench.check();
    bench.expect(
        bench.inner.calls() == before,
        "the inner service was called and was not ready",
    );
    bench.inner.set_gate(Gate::Open);
    if !ended {
        let ended = bench.ends(&mut future).await;
        bench.expect(
            ended,
            "the inner service became ready, and nothing followed",
        );
    }
}

async fn passes_unreadiness_on<S, R, M>(bench: &mut Bench<S, M>)
where
    S: Service<R> + Clone,
    M: Fn() -> R,
{
    bench.begin("an inner service that fails to become ready");
    bench.inner.set_gate(Gate::Failing);
    let mut service = bench.service.clone();
    match bench.first_readiness(&mut service).await {
        Poll::Pending => {
            bench.fail("`poll_ready` of the inner service failed, and the layer's went on waiting");
        }
        Poll::Ready(false) => {}
        Poll::Ready(true) => {
            bench.inner.set_ending(Ending::Answer);
            if let Some(mut future) = bench.call(&mut service) {
                bench.ends(&mut future).await;
            }
            bench.check();
        }
    }
    bench.inner.set_gate(Gate::Open);
    drop(service);
    bench.settled("a service that had failed was dropped").await;
}

/// A clone of a ready service begins anew: it has to ask the inner service, and for a permit.
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
    bench.inner.set_ending(Ending::Wait);
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
            "the layer serves {room} at once, and {served} by way of clones of a ready service: do \
             clones share its permit?"
        ),
    );
    drop((running, ready));
    bench.settled("all of them were dropped").await;
}

/// One way for a connection to end.
#[derive(Clone, Copy, Debug)]
enum Way {
    DropReady,
    DropUnpolled,
    DropRunning,
    Inner(Ending),
}

const WAYS: [Way; 6] = [
    Way::DropReady,
    Way::DropUnpolled,
    Way::Inner(Ending::Answer),
    Way::Inner(Ending::Fail),
    Way::Inner(Ending::Panic),
    Way::Inner(Ending::PanicInCall),
];

impl Way {
    const fn describe(self) -> &'static str {
        match self {
            Self::DropReady => "a ready service was dropped",
            Self::DropUnpolled => "a future was dropped before its first poll",
            Self::DropRunning => "a future was dropped while the inner one was running",
            Self::Inner(Ending::Fail) => "the inner service failed",
            Self::Inner(Ending::Panic) => "the inner future panicked",
            Self::Inner(Ending::PanicInCall) => "the inner service panicked in `call`",
            Self::Inner(Ending::Answer | Ending::Wait) => "the inner service answered",
        }
    }
}

/// After each ending the layer serves as many as before.
async fn comes_back<S, R, M>(bench: &mut Bench<S, M>, way: Way, room: usize)
where
    S: Service<R> + Clone,
    M: Fn() -> R,
{
    bench.begin(way.describe());
    for time in 1..=MOST {
        let mut service = bench.service.clone();
        let missed = format!(
            "the layer served {room} at once before, and nobody after this happened {} times: what \
             was not given back?",
            time - 1
        );
        bench.expect(bench.becomes_ready(&mut service).await, &missed);
        bench.inner.set_ending(match way {
            Way::Inner(ending) => ending,
            Way::DropReady | Way::DropUnpolled | Way::DropRunning => Ending::Wait,
        });
        if let Way::DropReady = way {
            continue;
        }
        let Some(mut future) = bench.call(&mut service) else {
            continue;
        };
        match way {
            Way::DropReady | Way::DropUnpolled => {}
            Way::DropRunning => bench.expect(bench.reaches(&mut future).await, missed),
            Way::Inner(_) => {
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
            "the layer served {room} at once before, and {left} after this happened {MOST} times"
        ),
    );
}

/// A layer with a limit hands a slot that becomes free to who waits, and on to the next one where
/// that one is gone.
async fn hands_room_on<S, R, M>(bench: &mut Bench<S, M>, room: usize)
where
    S: Service<R> + Clone,
    M: Fn() -> R,
{
    bench.begin("a layer that is full");
    let mut running = bench.fill(&bench.service.clone()).await;
    let mut first = bench.service.clone();
    let mut second = bench.service.clone();
    if bench.poll_ready(&mut first).0.is_ready() {
        // It refuses, or waits in the future.
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
        "one of the running futures was dropped, then the first who waited; and the second did not \
         become ready",
    );
    drop((second, running));
    bench.settled("all of them were dropped").await;
    let left = bench.room().await;
    bench.expect(
        left == room,
        format_args!(
            "the layer served {room} at once before, and {left} after some had waited for room"
        ),
    );
}
