//! Drives a layer's service step by step.

use super::probe::{CallEnding, Probe};
use crate::{error::Panicked, testing::woken::Woken};
use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::timeout;
use tower::{Layer, Service};

/// The service under test, the probe inside, and where requests come from.
pub(super) struct Bench<S, M> {
    pub(super) service: S,
    pub(super) inner: Probe,
    request: M,
    /// The current case, for messages.
    what: &'static str,
}

/// A future of the service under test.
pub(super) struct RunningCall<F> {
    future: Pin<Box<F>>,
    /// Number of calls of the inner service before this one.
    calls: usize,
}

/// Result of a request.
pub(super) enum CallStart<F> {
    NotReady,
    /// The inner service was not called.
    NotServed,
    Running(RunningCall<F>),
}

impl<S, M> Bench<S, M> {
    pub(super) fn new(layer: &impl Layer<Probe, Service = S>, request: M) -> Self {
        let inner = Probe::new();
        Self {
            service: layer.layer(inner.clone()),
            inner,
            request,
            what: "the first connections",
        }
    }

    pub(super) const fn begin(&mut self, what: &'static str) {
        self.what = what;
    }

    pub(super) fn fail(&self, message: impl fmt::Display) -> ! {
        panic!("tower contract, {}: {message}", self.what)
    }

    /// Fails with `message` unless `is` holds, or if the inner service was called wrongly.
    pub(super) fn expect(&self, is: bool, message: impl fmt::Display) {
        self.check();
        if !is {
            self.fail(message);
        }
    }

    /// Fails if the inner service was called wrongly.
    pub(super) fn check(&self) {
        if let Some(violation) = self.inner.violation() {
            self.fail(violation);
        }
    }

    /// Fails unless all readiness of the inner service is released.
    pub(super) async fn settled(&self, after: &str) {
        let settled = poll_fn(|cx| {
            self.inner.watch(cx);
            match self.inner.held() {
                0 => Poll::Ready(()),
                _ => Poll::Pending,
            }
        });
        let settled = timeout(PATIENCE, settled).await.is_ok();
        self.expect(
            settled,
            format_args!(
                "{after}, and the readiness of the inner service was not released; call the ready \
                 instance, or drop it"
            ),
        );
    }

    pub(super) fn poll_ready<R>(&self, service: &mut S) -> (Poll<()>, Woken)
    where
        S: Service<R>,
        M: Fn() -> R,
    {
        let woken = Woken::default();
        let waker = woken.waker();
        let polled = service.poll_ready(&mut Context::from_waker(&waker));
        self.check();
        if let Poll::Ready(Err(_)) = polled {
            self.fail(FAILED);
        }
        (polled.map(drop), woken)
    }

    /// Whether `poll_ready` succeeds, after it has completed.
    pub(super) async fn first_readiness<R>(&self, service: &mut S) -> Poll<bool>
    where
        S: Service<R>,
        M: Fn() -> R,
    {
        let ready = timeout(PATIENCE, poll_fn(|cx| service.poll_ready(cx))).await;
        self.check();
        ready.map_or(Poll::Pending, |ready| Poll::Ready(ready.is_ok()))
    }

    /// Whether the service becomes ready.
    pub(super) async fn becomes_ready<R>(&self, service: &mut S) -> bool
    where
        S: Service<R>,
        M: Fn() -> R,
    {
        match self.first_readiness(service).await {
            Poll::Ready(true) => true,
            Poll::Ready(false) => self.fail(FAILED),
            Poll::Pending => false,
        }
    }

    /// Calls a ready service; `None` if it or the inner service panics.
    pub(super) fn call<R>(&mut self, service: &mut S) -> Option<RunningCall<S::Future>>
    where
        S: Service<R>,
        M: Fn() -> R,
    {
        let request = (self.request)();
        let calls = self.inner.calls();
        let called = Panicked::catch(|| service.call(request));
        let future = Box::pin(called.ok()?);
        Some(RunningCall { future, calls })
    }

    /// Polls `running` once, and records whether it is woken after that.
    pub(super) fn poll(&self, running: &mut RunningCall<impl Future>) -> Woken {
        let woken = Woken::default();
        let waker = woken.waker();
        let polled = running.poll_end(&mut Context::from_waker(&waker));
        self.expect(
            polled.is_pending(),
            "the layer's future ended, and the inner one did not",
        );
        woken
    }

    /// Whether `running` ends, with a result or a panic.
    pub(super) async fn ends(&self, running: &mut RunningCall<impl Future>) -> bool {
        let ended = timeout(PATIENCE, poll_fn(|cx| running.poll_end(cx))).await;
        self.check();
        ended.is_ok()
    }

    /// Whether `running` calls the inner service.
    pub(super) async fn reaches(&self, running: &mut RunningCall<impl Future>) -> bool {
        let reached = poll_fn(|cx| {
            self.inner.watch(cx);
            if running.poll_end(cx).is_ready() {
                return Poll::Ready(false);
            }
            match self.inner.calls() > running.calls {
                true => Poll::Ready(true),
                false => Poll::Pending,
            }
        });
        let reached = timeout(PATIENCE, reached).await.unwrap_or(false);
        self.check();
        reached
    }

    /// Makes `service` ready, calls it, and waits until the inner service is called.
    pub(super) async fn start<R>(&mut self, service: &mut S) -> CallStart<S::Future>
    where
        S: Service<R>,
        M: Fn() -> R,
    {
        if !self.becomes_ready(service).await {
            return CallStart::NotReady;
        }
        let Some(mut running) = self.call(service) else {
            self.check();
            self.fail("`call` of the layer panicked, and the inner service did not");
        };
        match self.reaches(&mut running).await {
            true => CallStart::Running(running),
            false => CallStart::NotServed,
        }
    }

    /// Starts as many calls as the layer serves concurrently, up to [`MOST`], on clones of `service`.
    pub(super) async fn fill<R>(&mut self, service: &S) -> Vec<RunningCall<S::Future>>
    where
        S: Service<R> + Clone,
        M: Fn() -> R,
    {
        let mut running = Vec::new();
        while running.len() < MOST {
            self.inner.set_ending(CallEnding::Wait);
            match self.start(&mut service.clone()).await {
                CallStart::Running(future) => running.push(future),
                CallStart::NotReady | CallStart::NotServed => break,
            }
        }
        running
    }

    /// Number of calls that the layer serves concurrently, up to [`MOST`].
    pub(super) async fn room<R>(&mut self) -> usize
    where
        S: Service<R> + Clone,
        M: Fn() -> R,
    {
        let running = self.fill(&self.service.clone()).await;
        let room = running.len();
        drop(running);
        self.settled("all of its futures were dropped").await;
        room
    }
}

impl<F: Future> RunningCall<F> {
    /// Ready after a result or a panic.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match Panicked::catch(|| self.future.as_mut().poll(cx)) {
            Ok(polled) => polled.map(drop),
            Err(_panic) => Poll::Ready(()),
        }
    }
}

/// Maximum number of concurrent calls, and number of repetitions.
pub(super) const MOST: usize = 8;

const FAILED: &str = "`poll_ready` of the layer failed, and the inner service did not";

/// Time limit for expected events.
const PATIENCE: Duration = Duration::from_secs(1);
