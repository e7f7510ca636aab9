//! The timer of one direction. It records when its operation was polled last.

mod clock;
mod runtime;

use self::{clock::ClockTimer, runtime::RuntimeTimer};
use super::turn::Turn;
use crate::{ConnectionInfo, connection::control::IoDirection, timeout::SHORTEST_BY_CLOCK};
use std::{pin::Pin, task::Context, time::Duration};
use tokio::time::Instant;

/// Wakes the task of one direction, by whichever clock costs less.
#[derive(Debug)]
pub(super) enum WatchTimer {
    Clock(ClockTimer),
    Runtime(Pin<Box<RuntimeTimer>>),
}

/// The direction of a connection whose server may have a clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClockSource<'a> {
    pub(super) info: &'a ConnectionInfo,
    pub(super) direction: IoDirection,
}

impl WatchTimer {
    /// Makes the timer in `slot` wake the current task at `deadline`.
    ///
    /// The server's clock does not tell late tasks from absent ones, so it serves only operations that are polled
    /// in a counted `turn`.
    pub(super) fn set(
        slot: &mut Option<Self>,
        deadline: Instant,
        limit: Duration,
        turn: Option<Turn>,
        clock: Option<ClockSource<'_>>,
        cx: &mut Context<'_>,
    ) {
        if let (Some(turn), Some(clock)) = (turn, clock)
            && limit >= SHORTEST_BY_CLOCK
        {
            let previous = match slot {
                Some(Self::Clock(timer)) => Some(&*timer),
                _ => None,
            };
            if let Some(timer) = ClockTimer::new(deadline, turn, clock, previous, cx) {
                *slot = Some(Self::Clock(timer));
                return;
            }
        }
        let timer = match slot {
            Some(Self::Runtime(timer)) => timer,
            slot => {
                let timer = Self::Runtime(RuntimeTimer::new(deadline, cx));
                let Self::Runtime(timer) = slot.insert(timer) else {
                    return;
                };
                timer
            }
        };
        timer.as_mut().set(deadline, turn, cx);
    }

    /// When it wakes the task. A deadline of a clock is only known with its connection.
    pub(super) fn deadline(&self, clock: Option<ClockSource<'_>>) -> Option<Instant> {
        match self {
            Self::Clock(timer) => clock.map(|clock| timer.deadline(clock)),
            Self::Runtime(timer) => Some(timer.deadline()),
        }
    }

    pub(super) fn is_armed(&self, clock: Option<ClockSource<'_>>) -> bool {
        match self {
            Self::Clock(timer) => clock.is_some_and(|clock| timer.is_armed(clock)),
            Self::Runtime(timer) => timer.is_armed(),
        }
    }

    /// Records a poll in `turn`; returns false if the caller must read the clock.
    #[inline]
    pub(super) fn touch(
        &mut self,
        turn: Option<Turn>,
        clock: Option<ClockSource<'_>>,
        cx: &Context<'_>,
    ) -> bool {
        match self {
            Self::Clock(timer) => clock.is_some_and(|clock| timer.touch(turn, clock)),
            Self::Runtime(timer) => timer.as_mut().touch(turn, cx),
        }
    }

    /// Records that the operation was polled in `turn`.
    pub(super) fn set_turn(&mut self, turn: Option<Turn>) {
        match self {
            Self::Clock(timer) => timer.set_turn(turn),
            Self::Runtime(timer) => timer.as_mut().set_turn(turn),
        }
    }

    /// Whether the handler was waiting when the timer fired, if known.
    pub(super) fn was_watched(&self, turn: Option<Turn>) -> Option<bool> {
        let earlier = match self {
            Self::Clock(timer) => timer.turn(),
            Self::Runtime(timer) => timer.turn(),
        };
        turn?.continues(earlier?)
    }

    /// When the timer woke the task, if it recorded that.
    pub(super) fn fired_at(&self) -> Option<Instant> {
        match self {
            Self::Clock(_) => None,
            Self::Runtime(timer) => timer.fired_at(),
        }
    }
}
