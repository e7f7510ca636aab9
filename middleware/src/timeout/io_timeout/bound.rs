//! The bound of one direction: how long it may wait, and a timer that follows lazily.
//!
//! A wait counts only while it is watched. The timer fires at each quarter of the bound, and a
//! quarter at whose end the handler did something else is left out, so that a wait that was given up
//! neither fails nor shortens the next one.
//!
//! An armed timer is never later than the next quarter, because each wait begins later than the one
//! before. So it may stay as it is while operations come and go; when it fires too early it is set
//! to what remains.

use super::{timer::Timer, turn::Turn};
use crate::error::{Elapsed, TimeoutPhase};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{task::coop, time::Instant};

/// Bounds how long one direction may wait.
#[derive(Debug)]
pub(super) struct Bound {
    limit: Option<Duration>,
    waiting: Option<Wait>,
    timer: Option<Pin<Box<Timer>>>,
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
            excused: false,
        });
        wait.operation = operation;
        let turn = Turn::current(cx);
        if let Some(timer) = &mut self.timer
            && timer.as_mut().touch(turn, cx)
        {
            return Poll::Pending;
        }
        self.watch(limit, turn, now.unwrap_or_else(Instant::now), cx)
    }

    /// Looks whether the bound is reached `now`, and makes sure that the timer will wake this task.
    #[cold]
    fn watch(
        &mut self,
        limit: Duration,
        turn: Option<Turn>,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<io::Error> {
        #[cfg(test)]
        super::tests::WATCHED.set(super::tests::WATCHED.get() + 1);
        let Some(wait) = &mut self.waiting else {
            return Poll::Pending;
        };
        if let Some(timer) = &mut self.timer {
            wait.leave_out_absence(timer, limit, turn, now);
            timer.as_mut().note(turn);
        }
        // Without budget the timer would register nothing, and the IO may not have looked.
        if !coop::has_budget_remaining() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let waited = now.saturating_duration_since(wait.since);
        if waited >= limit {
            let elapsed = Elapsed::new(wait.operation.phase(), limit);
            self.waiting = None;
            return Poll::Ready(elapsed.into());
        }
        let timer = match &mut self.timer {
            Some(timer) if timer.is_armed() && timer.deadline() > now => timer,
            slot => Timer::set(slot, wait.since + next_quarter(limit, waited), cx),
        };
        timer.as_mut().register(turn, cx);
        Poll::Pending
    }

    #[cfg(test)]
    pub(super) fn timer_deadline(&self) -> Option<Instant> {
        self.timer.as_ref().map(|timer| timer.deadline())
    }
}

/// Since when nothing moved, and what waited last.
#[derive(Clone, Copy, Debug)]
struct Wait {
    /// Later than the first poll by the time that was left out.
    since: Instant,
    operation: Operation,
    /// Whether time was left out without knowing that the handler was away.
    excused: bool,
}

impl Wait {
    /// Leaves out the last quarter and the time after it, if the handler was away at its end.
    ///
    /// A task that was woken late is not away: overload is when a bound matters most.
    fn leave_out_absence(
        &mut self,
        timer: &Timer,
        limit: Duration,
        turn: Option<Turn>,
        now: Instant,
    ) {
        let (end, quarter) = (timer.deadline(), limit / QUARTERS);
        // Back as the quarter ends. Work that recurs in step with the timer would keep a silent peer.
        if now < end + GRANULARITY || self.since >= end {
            return;
        }
        let away = match timer.was_watched(turn) {
            Some(watched) => !watched,
            // It cannot be seen. Once: on a machine that is always late a silent peer must be cut.
            None => !self.excused && now > timer.fired_at() + quarter,
        };
        if away {
            self.excused |= timer.was_watched(turn).is_none();
            let watched = end
                .checked_sub(quarter)
                .map_or(now, |start| start.max(self.since));
            self.since += now - watched;
        }
    }
}

/// When to look next at a wait that has `waited` so far.
fn next_quarter(limit: Duration, waited: Duration) -> Duration {
    let mut quarters = (1..QUARTERS).map(|quarter| limit / QUARTERS * quarter);
    quarters.find(|end| *end > waited).unwrap_or(limit)
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
            Self::Read => TimeoutPhase::READ,
            Self::Write | Self::Flush | Self::Shutdown => TimeoutPhase::WRITE,
        }
    }
}

/// How long an operation may wait unless something else is said.
pub(super) const DEFAULT: Duration = Duration::from_secs(60);

/// In so many parts a wait is watched; what a handler did elsewhere is seen to within one.
const QUARTERS: u32 = 4;

/// The runtime's timers are due at whole milliseconds, and not before.
const GRANULARITY: Duration = Duration::from_millis(2);

/// What is longer (30 years) is no bound: added to the present, it might overflow.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 86_400);
