//! State shared by the stream of a connection and the layer's future.

use crate::error::{Elapsed, TimeoutPhase};
use std::{
    mem,
    pin::Pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// Whether the connection is half-closed, and when it last moved data.
#[derive(Debug)]
pub(super) struct HalfClosedState {
    timeout: Duration,
    start: Instant,
    half_closed: AtomicBool,
    /// Nanoseconds from `start` to the last data.
    moved: AtomicU64,
    /// Polls the layer's future.
    task: Mutex<Option<Waker>>,
}

impl HalfClosedState {
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            start: Instant::now(),
            half_closed: AtomicBool::new(false),
            moved: AtomicU64::new(0),
            task: Mutex::new(None),
        }
    }

    pub(super) const fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn is_half_closed(&self) -> bool {
        self.half_closed.load(Ordering::Acquire)
    }

    /// Records that exactly one direction has ended.
    pub(super) fn half_close(&self) {
        self.touch();
        self.half_closed.store(true, Ordering::Release);
        // Wake after unlocking, because a waker may poll the layer's future.
        let task = self.lock_task().clone();
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Records that both directions have ended or the connection was dropped.
    pub(super) fn close(&self) {
        self.half_closed.store(false, Ordering::Release);
    }

    /// Records that data was moved.
    pub(super) fn touch(&self) {
        let moved = self.start.elapsed().as_nanos();
        let moved = u64::try_from(moved).unwrap_or(u64::MAX);
        self.moved.store(moved, Ordering::Relaxed);
    }

    /// Wakes `task` when the connection becomes half-closed.
    pub(super) fn set_task(&self, task: &Waker) {
        let task = Some(task.clone());
        let before = mem::replace(&mut *self.lock_task(), task);
        drop(before);
    }

    /// Ready when the half-closed connection was silent for too long.
    ///
    /// Data does not reset `timer`. When it fires early, it is set to the remaining time.
    pub(super) fn poll_elapsed(
        &self,
        timer: &mut SilenceTimer,
        cx: &mut Context<'_>,
    ) -> Poll<Elapsed> {
        let moved = Duration::from_nanos(self.moved.load(Ordering::Relaxed));
        let silent_since = self.start.checked_add(moved);
        let Some(deadline) = silent_since.and_then(|since| since.checked_add(self.timeout)) else {
            return Poll::Pending;
        };
        let mut timer = timer
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)))
            .as_mut();
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= deadline {
                return Poll::Ready(Elapsed::new(TimeoutPhase::HALF_CLOSED, self.timeout));
            }
            timer.as_mut().reset(deadline);
        }
    }

    fn lock_task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A timer that is created on first use.
pub(super) type SilenceTimer = Option<Pin<Box<Sleep>>>;
