//! The timeout of one direction, with a lazy timer.
//!
//! A wait counts only while the handler polls the operation. The timer fires at each quarter of the timeout,
//! and a quarter at whose end the handler did something else is left out. Hence an abandoned wait neither
//! fails nor shortens the next one.
//!
//! An armed timer fires at the next quarter or earlier, because each wait begins later than the one before.
//! Therefore operations leave it unchanged. When it fires early, it is set to the remaining time.

use super::{
    timer::{ClockSource, WatchTimer},
    turn::Turn,
};
use crate::{
    ConnectionInfo,
    connection::control::IoDirection,
    error::{Elapsed, TimeoutPhase},
};
use std::{
    io,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{task::coop, time::Instant};

/// Limits how long one direction may wait.
#[derive(Debug)]
pub(super) struct DirectionTimeout {
    limit: WaitLimit,
    waiting: Option<PendingWait>,
    timer: Option<WatchTimer>,
}

impl DirectionTimeout {
    pub(super) const fn new(limit: Option<Duration>) -> Self {
        Self {
            limit: WaitLimit::new(limit),
            waiting: None,
            timer: None,
        }
    }

    /// Applies the timeout to the `result` of `operation`, on the connection of `info` if there is one.
    #[inline]
    pub(super) fn check<T>(
        &mut self,
        operation: IoOperation,
        result: Poll<io::Result<T>>,
        info: Option<&ConnectionInfo>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if result.is_pending() {
            if self.limit.is_none() {
                return result;
            }
            return self.wait(operation, info, cx).map(Err);
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
    fn wait(
        &mut self,
        operation: IoOperation,
        info: Option<&ConnectionInfo>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Error> {
        let Some(limit) = self.limit.get() else {
            return Poll::Pending;
        };
        let clock = info.map(|info| ClockSource {
            info,
            direction: operation.direction(),
        });
        let mut now = None;
        let wait = self.waiting.get_or_insert_with(|| PendingWait {
            since: *now.insert(Instant::now()),
            operation,
            excused: false,
        });
        wait.operation = operation;
        let turn = Turn::current(cx);
        if let Some(timer) = &mut self.timer
            && timer.touch(turn, clock, cx)
        {
            return Poll::Pending;
        }
        self.watch(limit, turn, now.unwrap_or_else(Instant::now), clock, cx)
    }

    /// Checks whether the timeout has elapsed, and otherwise registers the timer for this task.
    #[cold]
    fn watch(
        &mut self,
        limit: Duration,
        turn: Option<Turn>,
        now: Instant,
        clock: Option<ClockSource<'_>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Error> {
        #[cfg(test)]
        super::tests::WATCHED.set(super::tests::WATCHED.get() + 1);
        let Some(wait) = &mut self.waiting else {
            return Poll::Pending;
        };
        if let Some(timer) = &mut self.timer {
            wait.leave_out_absence(timer, limit, turn, now, clock);
            timer.set_turn(turn);
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
        let armed = self.timer.as_ref().filter(|timer| timer.is_armed(clock));
        let deadline = armed
            .and_then(|timer| timer.deadline(clock))
            .filter(|deadline| *deadline > now)
            .unwrap_or_else(|| wait.since + next_quarter(limit, waited));
        WatchTimer::set(&mut self.timer, deadline, limit, turn, clock, cx);
        Poll::Pending
    }

    #[cfg(test)]
    pub(super) fn timer_deadline(&self) -> Option<Instant> {
        self.timer.as_ref()?.deadline(None)
    }

    #[cfg(test)]
    pub(super) fn is_by_clock(&self) -> bool {
        matches!(self.timer, Some(WatchTimer::Clock(_)))
    }
}

/// Limits how long a direction that rarely waits may do so. The rest is in a box from its first wait on.
#[derive(Debug)]
pub(super) struct RareTimeout {
    limit: WaitLimit,
    timeout: Option<Box<DirectionTimeout>>,
}

impl RareTimeout {
    pub(super) const fn new(limit: Option<Duration>) -> Self {
        Self {
            limit: WaitLimit::new(limit),
            timeout: None,
        }
    }

    /// See [`DirectionTimeout::check`].
    #[inline]
    pub(super) fn check<T>(
        &mut self,
        operation: IoOperation,
        result: Poll<io::Result<T>>,
        info: Option<&ConnectionInfo>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if self.limit.is_none() || (self.timeout.is_none() && result.is_ready()) {
            return result;
        }
        let new = || Box::new(DirectionTimeout::new(self.limit.get()));
        let timeout = self.timeout.get_or_insert_with(new);
        timeout.check(operation, result, info, cx)
    }

    #[cfg(test)]
    pub(super) fn timer_deadline(&self) -> Option<Instant> {
        self.timeout.as_ref()?.timer_deadline()
    }
}

/// How long a direction may wait, in nanoseconds; small, because each connection has two.
#[derive(Clone, Copy, Debug)]
struct WaitLimit(u64);

impl WaitLimit {
    const NONE: Self = Self(u64::MAX);

    const fn new(limit: Option<Duration>) -> Self {
        match limit {
            Some(limit) if limit.as_secs() <= LONGEST.as_secs() => Self(limit.as_nanos() as u64),
            _ => Self::NONE,
        }
    }

    const fn is_none(self) -> bool {
        self.0 == Self::NONE.0
    }

    fn get(self) -> Option<Duration> {
        (!self.is_none()).then(|| Duration::from_nanos(self.0))
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
        clock: Option<ClockSource<'_>>,
    ) {
        let Some(end) = timer.deadline(clock) else {
            return;
        };
        let quarter = limit / QUARTERS;
        // The handler was back in time. Otherwise, periodic work in step with the timer would keep a silent peer.
        if now < end + GRANULARITY || self.since >= end {
            return;
        }
        let away = match timer.was_watched(turn) {
            Some(watched) => !watched,
            // Unknown. Excuse it only once, so that silent peers time out on machines that are always late.
            None => !self.excused && now > timer.fired_at().unwrap_or(end) + quarter,
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

    const fn direction(self) -> IoDirection {
        match self {
            Self::Read => IoDirection::Read,
            Self::Write | Self::Flush | Self::Shutdown => IoDirection::Write,
        }
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
