//! The bound of one direction: a deadline that moves, and a timer that follows it lazily.
//!
//! An armed timer is never later than the deadline, because each wait begins later than the one
//! before. So it may stay as it is while operations come and go; when it fires too early it is set
//! to what remains.

use crate::error::{Elapsed, TimeoutPhase};
use pin_project::pin_project;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    task::coop,
    time::{Instant, Sleep, sleep_until},
};

/// Bounds how long one direction may wait.
#[derive(Debug)]
pub(super) struct Bound {
    limit: Option<Duration>,
    waiting: Option<Wait>,
    timer: Option<Pin<Box<Timer>>>,
}

/// Since when nothing moved, and what waited last.
#[derive(Clone, Copy, Debug)]
struct Wait {
    since: Instant,
    operation: Operation,
    /// Whether it was taken as abandoned once already.
    renewed: bool,
}

impl Bound {
    pub(super) const fn new(limit: Option<Duration>) -> Self {
        let limit = match limit {
            Some(limit) if limit.as_secs() > LONGEST.as_secs() => None,
            limit => limit,
        };
        Self {
            limit,
            waiting: None,
            timer: None,
        }
    }

    /// Holds the `result` of `operation` to the bound.
    #[inline]
    pub(super) fn hold<T>(
        &mut self,
        operation: Operation,
        result: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if result.is_pending() {
            return self.wait(operation, cx).map(Err);
        }
        // On TCP a flush is always ready: it must not excuse the write that waits.
        if operation.moves_bytes() || self.waits_for(operation) {
            self.waiting = None;
        }
        result
    }

    fn waits_for(&self, operation: Operation) -> bool {
        self.waiting.is_some_and(|wait| wait.operation == operation)
    }

    /// Notes that `operation` waits; ready with an error when that takes too long.
    ///
    /// Out of line, so that the path of ready operations stays small.
    #[inline(never)]
    fn wait(&mut self, operation: Operation, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(limit) = self.limit else {
            return Poll::Pending;
        };
        let mut now = None;
        let wait = self.waiting.get_or_insert_with(|| Wait {
            since: *now.insert(Instant::now()),
            operation,
            renewed: false,
        });
        wait.operation = operation;
        match &self.timer {
            Some(timer) if timer.will_wake(cx) => Poll::Pending,
            _ => {
                let wait = *wait;
                self.watch(limit, wait, now, cx)
            }
        }
    }

    /// Looks at the clock where the timer fired, unless it is `now`, and makes sure that the timer
    /// will wake this task.
    #[cold]
    fn watch(
        &mut self,
        limit: Duration,
        wait: Wait,
        now: Option<Instant>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Error> {
        #[cfg(test)]
        super::tests::WATCHED.set(super::tests::WATCHED.get() + 1);
        // Without budget the timer would register nothing, and the IO may not have looked.
        if !coop::has_budget_remaining() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let timer = match &mut self.timer {
            Some(timer) if timer.is_armed() => timer,
            slot => {
                let now = now.unwrap_or_else(Instant::now);
                let mut deadline = wait.since + limit;
                if now > deadline + SLACK && !wait.renewed {
                    // Nobody was there at the deadline: abandoned, so this is a wait of its own. Once:
                    // on a machine that is always late a silent peer must be cut all the same.
                    self.waiting = Some(Wait {
                        since: now,
                        renewed: true,
                        ..wait
                    });
                    deadline = now + limit;
                }
                if now >= deadline {
                    self.waiting = None;
                    let elapsed = Elapsed::new(wait.operation.phase(), limit);
                    return Poll::Ready(elapsed.into());
                }
                Timer::set(slot, deadline, cx)
            }
        };
        timer.as_mut().register(cx);
        Poll::Pending
    }

    #[cfg(test)]
    pub(super) fn timer_deadline(&self) -> Option<Instant> {
        self.timer.as_ref().map(|timer| timer.sleep.deadline())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Read,
    Write,
    Flush,
    Shutdown,
}

impl Operation {
    const fn moves_bytes(self) -> bool {
        matches!(self, Self::Read | Self::Write)
    }

    const fn phase(self) -> TimeoutPhase {
        match self {
            Self::Read => TimeoutPhase::Read,
            Self::Write | Self::Flush | Self::Shutdown => TimeoutPhase::Write,
        }
    }
}

/// A timer, and whom it wakes.
#[pin_project]
#[derive(Debug)]
struct Timer {
    #[pin]
    sleep: Sleep,
    waker: Waker,
}

impl Timer {
    /// Sets the timer in `slot`, a new one if there is none.
    fn set<'a>(
        slot: &'a mut Option<Pin<Box<Self>>>,
        deadline: Instant,
        cx: &Context<'_>,
    ) -> &'a mut Pin<Box<Self>> {
        match slot {
            Some(timer) => {
                timer.as_mut().project().sleep.reset(deadline);
                timer
            }
            // It begins when it is first polled.
            None => slot.insert(Box::pin(Self {
                sleep: sleep_until(deadline),
                waker: cx.waker().clone(),
            })),
        }
    }

    fn is_armed(&self) -> bool {
        !self.sleep.is_elapsed()
    }

    #[inline]
    fn will_wake(&self, cx: &Context<'_>) -> bool {
        self.is_armed() && self.waker.will_wake(cx.waker())
    }

    /// Makes the timer wake the current task.
    fn register(self: Pin<&mut Self>, cx: &mut Context<'_>) {
        let timer = self.project();
        timer.waker.clone_from(cx.waker());
        if timer.sleep.poll(cx).is_ready() {
            // It fired in between; the next poll sees it.
            cx.waker().wake_by_ref();
        }
    }
}

/// How long an operation may wait unless something else is said.
pub(super) const DEFAULT: Duration = Duration::from_secs(60);

/// How late the poll at a deadline may come before the wait is taken as abandoned.
///
/// More than what delays a wake in a busy runtime, less than what a handler does for longer.
pub(super) const SLACK: Duration = Duration::from_millis(100);

/// What is longer (30 years) is no bound: added to the present, it might overflow.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 86_400);
