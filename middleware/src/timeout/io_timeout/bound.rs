//! The timeout of one direction, with a lazy timer.
//!
//! A wait counts only while the handler polls the operation. The timer fires at each quarter of the timeout,
//! and a quarter at whose end the handler did something else is left out. Hence an abandoned wait neither
//! fails nor shortens the next one.
//!
//! An armed timer fires at the next quarter or earlier, because each wait begins later than the one before.
//! Therefore operations leave it unchanged. When it fires early, it is set to the remaining time.

use super::{timer::WatchTimer, turn::Turn};
use crate::error::{Elapsed, TimeoutPhase};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{task::coop, time::Instant};

/// Limits how long one direction may wait.
#[derive(Debug)]
pub(super) struct DirectionTimeout {
    limit: Option<Duration>,
    waiting: Option<PendingWait>,
    timer: Option<Pin<Box<WatchTimer>>>,
}

impl DirectionTimeout {
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

    /// Applies the timeout to the `result` of `operation`.
    #[inline]
    pub(super) fn check<T>(
        &mut self,
        operation: IoOperation,
        result: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if result.is_pending() {
            return self.wait(operation, cx).map(Err);
        }
        // On TCP a flush is always ready, so it must not end the wait of a pending write.
        if operation.moves_bytes() || self.waits_for(operation) {
            self.waiting = None;
        }
        result
    }

    fn waits_for(&self, operation: IoOperation) -> bool {
        self.waiting.is_some_and(|wait| wait.operation == operation)
    }

    /// Records that `operation` is pending; ready with an error when it times out.
    ///
    /// Out of line, to keep the path of ready operations small.
    #[inline(never)]
    fn wait(&mut self, operation: IoOperation, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(limit) = self.limit else {
            return Poll::Pending;
        };
        let mut now = None;
        let wait = self.waiting.get_or_insert_with(|| PendingWait {
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

    /// Checks whether the timeout has elapsed, and otherwise registers the timer for this task.
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
            timer.as_mut().set_turn(turn);
        }
        // Without coop budget, the stream may not have checked for data, and the timer cannot be registered.
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
            slot => WatchTimer::set(slot, wait.since + next_quarter(limit, waited), cx),
        };
        timer.as_mut().register(turn, cx);
        Poll::Pending
    }

    #[cfg(test)]
    pub(super) fn timer_deadline(&self) -> Option<Instant> {
        self.timer.as_ref().map(|timer| timer.deadline())
    }
}

/// When the wait began, and which operation waited last.
#[derive(Clone, Copy, Debug)]
struct PendingWait {
    /// The first poll plus the time left out.
    since: Instant,
    operation: IoOperation,
    /// Whether time was left out for an operation outside of a counted future.
    excused: bool,
}

impl PendingWait {
    /// Leaves out the last quarter and the time after it, if the handler was away at its end.
    ///
    /// Late tasks are not away, because timeouts matter most under overload.
    fn leave_out_absence(
        &mut self,
        timer: &WatchTimer,
        limit: Duration,
        turn: Option<Turn>,
        now: Instant,
    ) {
        let (end, quarter) = (timer.deadline(), limit / QUARTERS);
        // The handler was back in time. Otherwise, periodic work in step with the timer would keep a silent peer.
        if now < end + GRANULARITY || self.since >= end {
            return;
        }
        let away = match timer.was_watched(turn) {
            Some(watched) => !watched,
            // Unknown. Excuse it only once, so that silent peers time out on machines that are always late.
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

/// When to check next on a wait that has `waited` so far.
fn next_quarter(limit: Duration, waited: Duration) -> Duration {
    let mut quarters = (1..QUARTERS).map(|quarter| limit / QUARTERS * quarter);
    quarters.find(|end| *end > waited).unwrap_or(limit)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IoOperation {
    Read,
    Write,
    Flush,
    Shutdown,
}

impl IoOperation {
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

/// Number of checks per wait; an absence is detected with this resolution.
const QUARTERS: u32 = 4;

/// Timers of the runtime fire at whole milliseconds, rounded up.
const GRANULARITY: Duration = Duration::from_millis(2);

/// 30 years. Longer timeouts count as disabled, because adding them to the current time might overflow.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 86_400);
