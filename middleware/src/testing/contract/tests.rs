//! Layers with various faults, which the check detects.

#![expect(clippy::mem_forget, reason = "what is caught here are lost permits")]

use super::*;
use crate::BoxError;
use std::{
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Waker},
};
use tower::{
    ServiceBuilder,
    layer::{layer_fn, util::Identity},
};

#[tokio::test(start_paused = true)]
async fn what_keeps_the_contract_passes() {
    assert_contract(Identity::new()).await;
    assert_contract(Broken(Fault::None)).await;
    assert_contract(ServiceBuilder::new().concurrency_limit(2)).await;
    assert_contract(ServiceBuilder::new().load_shed()).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(
    expected = "tower contract, the first connections: the inner service was called, and \
                `poll_ready` of that instance had not returned ready since its last call"
)]
async fn a_call_of_a_clone_that_is_not_ready_is_caught() {
    assert_contract(Broken(Fault::CallsClone)).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "one connection after the other: the inner service was called, and")]
async fn readiness_that_is_used_twice_is_caught() {
    assert_contract(Broken(Fault::AsksOnce)).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "clones of a service that is ready: the inner service was called, and")]
async fn readiness_that_a_clone_inherits_is_caught() {
    assert_contract(Broken(Fault::ClonesReadiness)).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "does the layer call another instance than the ready one?")]
async fn readiness_that_is_kept_while_another_instance_is_called_is_caught() {
    assert_contract(Broken(Fault::KeepsReadiness)).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(
    expected = "the inner future ended, and the task that polled the layer's last was not woken"
)]
async fn a_future_that_loses_its_waker_is_caught() {
    assert_contract(Broken(Fault::LosesWakerOfFuture)).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(
    expected = "an inner service that is not ready: the inner service became ready, and the \
                task that polled the layer last was not woken"
)]
async fn a_poll_ready_that_loses_its_waker_is_caught() {
    assert_contract(Broken(Fault::LosesWaker)).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "an inner service that is not ready: the inner service was called, and")]
async fn a_poll_ready_that_does_not_ask_is_caught() {
    assert_contract(Broken(Fault::HidesPending)).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "fails to become ready: the inner service was called, and")]
async fn a_failed_poll_ready_that_is_followed_by_a_call_is_caught() {
    assert_contract(Broken(Fault::HidesError)).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(
    expected = "`poll_ready` of the inner service failed, and the layer's went on waiting"
)]
async fn a_failed_poll_ready_that_looks_like_waiting_is_caught() {
    assert_contract(Broken(Fault::WaitsAfterError)).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "tower contract: the layer serves no request")]
async fn a_layer_without_room_is_caught() {
    assert_contract(layer_fn(|inner| Limit::new(Leak::None, 0, inner))).await;
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_loses_nothing_passes() {
    for limit in [1, 2, MOST] {
        assert_contract(layer_fn(|inner| Limit::new(Leak::None, limit, inner))).await;
    }
}

async fn leak(leak: Leak) {
    assert_contract(layer_fn(|inner| Limit::new(leak, 2, inner))).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(
    expected = "tower contract, a ready service was dropped: the layer served 2 concurrently \
                before, and none after this happened 2 times; what was not released?"
)]
async fn a_permit_lost_with_a_ready_service_is_caught() {
    leak(Leak::ReadyService).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(
    expected = "a future was dropped before its first poll: the layer served 2 concurrently"
)]
async fn a_permit_lost_with_an_unpolled_future_is_caught() {
    leak(Leak::UnpolledFuture).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "a future was dropped while the inner one was running: the layer served")]
async fn a_permit_lost_with_a_running_future_is_caught() {
    leak(Leak::RunningFuture).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(
    expected = "tower contract, the inner service answered: the layer served 2 concurrently"
)]
async fn a_permit_lost_by_an_answer_is_caught() {
    leak(Leak::Answer).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(
    expected = "tower contract, the inner service failed: the layer served 2 concurrently"
)]
async fn a_permit_lost_by_a_failure_is_caught() {
    leak(Leak::Failure).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(
    expected = "tower contract, the inner future panicked: the layer served 2 concurrently"
)]
async fn a_permit_lost_by_a_panic_is_caught() {
    leak(Leak::Panic).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "the inner service panicked in `call`: the layer served 2 concurrently")]
async fn a_permit_lost_by_a_panic_in_call_is_caught() {
    leak(Leak::PanicInCall).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(
    expected = "the layer serves 2 concurrently, and 9 through clones of a ready service; do \
                clones share its permit?"
)]
async fn a_permit_that_clones_share_is_caught() {
    leak(Leak::SharedByClones).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(
    expected = "a layer that is full: one of the running futures was dropped, and no caller"
)]
async fn room_that_nobody_is_told_of_is_caught() {
    leak(Leak::Wake).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "then the first waiter, and the second did not become ready")]
async fn room_that_is_lost_with_who_waited_for_it_is_caught() {
    leak(Leak::Turn).await;
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    CallsClone,
    AsksOnce,
    ClonesReadiness,
    KeepsReadiness,
    LosesWaker,
    LosesWakerOfFuture,
    HidesPending,
    HidesError,
    WaitsAfterError,
}

/// A layer that adds only its fault.
#[derive(Clone, Copy, Debug)]
struct Broken(Fault);

struct BrokenService {
    fault: Fault,
    inner: Probe,
    ready: bool,
}

impl Layer<Probe> for Broken {
    type Service = BrokenService;

    fn layer(&self, inner: Probe) -> BrokenService {
        let (fault, ready) = (self.0, false);
        BrokenService {
            fault,
            inner,
            ready,
        }
    }
}

impl Clone for BrokenService {
    fn clone(&self) -> Self {
        Self {
            fault: self.fault,
            inner: self.inner.clone(),
            ready: self.ready && self.fault == Fault::ClonesReadiness,
        }
    }
}

impl<R: Send + 'static> Service<R> for BrokenService {
    type Response = ();
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let mut quiet = Context::from_waker(Waker::noop());
        let cx = match self.fault {
            Fault::LosesWaker => &mut quiet,
            _ => cx,
        };
        if self.ready && matches!(self.fault, Fault::AsksOnce | Fault::ClonesReadiness) {
            return Poll::Ready(Ok(()));
        }
        let polled = Service::<R>::poll_ready(&mut self.inner, cx);
        self.ready = polled.is_ready();
        match (self.fault, &polled) {
            (Fault::HidesPending, Poll::Pending) | (Fault::HidesError, Poll::Ready(Err(_))) => {
                Poll::Ready(Ok(()))
            }
            (Fault::WaitsAfterError, Poll::Ready(Err(_))) => Poll::Pending,
            _ => polled,
        }
    }

    fn call(&mut self, request: R) -> Self::Future {
        if self.fault != Fault::AsksOnce {
            self.ready = false;
        }
        let mut other = self.inner.clone();
        match self.fault {
            Fault::CallsClone => Box::pin(async move { other.call(request).await }),
            Fault::KeepsReadiness => Box::pin(tower::ServiceExt::oneshot(other, request)),
            Fault::LosesWakerOfFuture => {
                let mut inner = Box::pin(self.inner.call(request));
                Box::pin(std::future::poll_fn(move |_| {
                    let mut cx = Context::from_waker(Waker::noop());
                    inner.as_mut().poll(&mut cx)
                }))
            }
            _ => Box::pin(self.inner.call(request)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Leak {
    None,
    ReadyService,
    UnpolledFuture,
    RunningFuture,
    Answer,
    Failure,
    Panic,
    PanicInCall,
    SharedByClones,
    Wake,
    Turn,
}

/// A limit that loses a permit in one way.
struct Limit {
    leak: Leak,
    inner: Probe,
    slots: Arc<Slots>,
    permit: Option<Arc<Permit>>,
    /// The first in the queue was notified of capacity, for [`Leak::Turn`].
    turn: Option<Arc<AtomicUsize>>,
}

struct Slots {
    free: AtomicUsize,
    queue: Mutex<Vec<(Arc<AtomicUsize>, Waker)>>,
}

struct Permit(Arc<Slots>, Leak);

impl Drop for Permit {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock().unwrap();
        if self.1 == Leak::Turn && !queue.is_empty() {
            // Straight to the first, wherever that is by now.
            let (turn, waker) = queue.remove(0);
            turn.store(1, Ordering::Relaxed);
            return waker.wake();
        }
        self.0.free.fetch_add(1, Ordering::Relaxed);
        let wakers = mem::take(&mut *queue);
        drop(queue);
        if self.1 != Leak::Wake {
            wakers.into_iter().for_each(|(_, waker)| waker.wake());
        }
    }
}

impl Limit {
    fn new(leak: Leak, limit: usize, inner: Probe) -> Self {
        let slots = Slots {
            free: AtomicUsize::new(limit),
            queue: Mutex::default(),
        };
        Self::over(leak, inner, Arc::new(slots), None)
    }

    const fn over(
        leak: Leak,
        inner: Probe,
        slots: Arc<Slots>,
        permit: Option<Arc<Permit>>,
    ) -> Self {
        let turn = None;
        Self {
            leak,
            inner,
            slots,
            permit,
            turn,
        }
    }
}

impl Clone for Limit {
    fn clone(&self) -> Self {
        let shared = self.permit.clone();
        let permit = shared.filter(|_| self.leak == Leak::SharedByClones);
        Self::over(self.leak, self.inner.clone(), self.slots.clone(), permit)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        if self.leak == Leak::ReadyService {
            mem::forget(self.permit.take());
        }
        if let Some(turn) = &self.turn {
            // A turn that was already given to it is lost.
            let mut queue = self.slots.queue.lock().unwrap();
            queue.retain(|(other, _)| !Arc::ptr_eq(other, turn));
        }
    }
}

impl<R: Send + 'static> Service<R> for Limit {
    type Response = ();
    type Error = BoxError;
    type Future = LimitFuture<R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        std::task::ready!(Service::<R>::poll_ready(&mut self.inner, cx))?;
        if self.permit.is_some() {
            return Poll::Ready(Ok(()));
        }
        let handed_over = self.turn.as_ref().map(|turn| turn.load(Ordering::Relaxed));
        let free = &self.slots.free;
        let next = |free: usize| free.checked_sub(1);
        if handed_over == Some(1)
            || free
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
                .is_ok()
        {
            self.permit = Some(Arc::new(Permit(self.slots.clone(), self.leak)));
            return Poll::Ready(Ok(()));
        }
        let turn = self.turn.get_or_insert_default().clone();
        let mut queue = self.slots.queue.lock().unwrap();
        queue.retain(|(other, _)| !Arc::ptr_eq(other, &turn));
        queue.push((turn, cx.waker().clone()));
        Poll::Pending
    }

    fn call(&mut self, request: R) -> LimitFuture<R> {
        let permit = self.permit.take();
        if self.leak == Leak::PanicInCall {
            // Only on the way out of `call`.
            let kept = mem::ManuallyDrop::new(permit);
            let inner = self.inner.call(request);
            let permit = mem::ManuallyDrop::into_inner(kept);
            return LimitFuture::new(self.leak, inner, permit);
        }
        LimitFuture::new(self.leak, self.inner.call(request), permit)
    }
}

struct LimitFuture<R> {
    leak: Leak,
    inner: ProbeFuture<R>,
    permit: Option<Arc<Permit>>,
    /// Its result or progress.
    state: Leak,
}

impl<R> LimitFuture<R> {
    const fn new(leak: Leak, inner: ProbeFuture<R>, permit: Option<Arc<Permit>>) -> Self {
        let state = Leak::UnpolledFuture;
        Self {
            leak,
            inner,
            permit,
            state,
        }
    }
}

impl<R> Future for LimitFuture<R> {
    type Output = Result<(), BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.state = Leak::Panic;
        let polled = Pin::new(&mut self.inner).poll(cx);
        self.state = match polled {
            Poll::Pending => Leak::RunningFuture,
            Poll::Ready(Ok(())) => Leak::Answer,
            Poll::Ready(Err(_)) => Leak::Failure,
        };
        polled
    }
}

impl<R> Drop for LimitFuture<R> {
    fn drop(&mut self) {
        if self.leak == self.state {
            mem::forget(self.permit.take());
        }
    }
}
