//! What the IO of a connection and the layer's future know together.

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

/// Whether the connection is half-closed, and when it last moved a byte.
#[derive(Debug)]
pub(super) struct State {
    timeout: Duration,
    start: Instant,
    half_closed: AtomicBool,
    /// In nanoseconds since the start.
    moved: AtomicU64,
    /// Polls the layer's future.
    task: Mutex<Option<Waker>>,
}

impl State {
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

    /// One direction has ended, and the other has not.
    pub(super) fn half_close(&self) {
        self.touch();
        self.half_closed.store(true, Ordering::Release);
        // Woken without the lock: a waker is code of others, and may poll the layer's future.
        let task = self.lock_task().clone();
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Both directions have ended, or the connection was dropped.
    pub(super) fn close(&self) {
        self.half_closed.store(false, Ordering::Release);
    }

    /// A byte moved.
    pub(super) fn touch(&self) {
        let moved = self.start.elapsed().as_nanos();
        let moved = u64::try_from(moved).unwrap_or(u64::MAX);
        self.moved.store(moved, Ordering::Relaxed);
    }

    /// Has `task` woken when the connection becomes half-closed.
    pub(super) fn set_task(&self, task: &Waker) {
        let task = Some(task.clone());
        let before = mem::replace(&mut *self.lock_task(), task);
        drop(before);
    }

    /// Ready when the half-closed connection was silent for too long; keeps its time in `timer`.
    ///
    /// The timer follows lazily: bytes do not touch it, and it is set anew when it fires early.
    pub(super) fn poll_elapsed(&self, timer: &mut Timer, cx: &mut Context<'_>) -> Poll<Elapsed> {
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

/// The timer of one that waits, made when it is needed.
pub(super) type Timer = Option<Pin<Box<Sleep>>>;

/// How long a half-closed connection may be silent unless something else is said.
pub(super) const DEFAULT: Duration = Duration::from_secs(60);
