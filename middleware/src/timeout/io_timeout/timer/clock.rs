//! A deadline that the clock of the connection's server checks.

use super::ClockSource;
use crate::{connection::deadline::DeadlineKey, timeout::io_timeout::turn::Turn};
use std::task::Context;
use tokio::time::Instant;

/// Wakes the task by which the connection's [`Socket`](crate::connection::Socket) waits, at a deadline.
///
/// Small, because each connection has two. The connection is the one with which it was made.
#[derive(Debug)]
pub(in super::super) struct ClockTimer {
    key: DeadlineKey,
    /// The poll of the connection's future in which the operation was polled last.
    turn: Turn,
    /// False if the operation was polled outside of it since. Apart from `turn`, so that
    /// [`WatchTimer`](super::WatchTimer) needs no memory to tell its kind.
    is_counted: bool,
}

impl ClockTimer {
    /// `None` if the connection has no clock, or waits with another waker than the operation.
    pub(super) fn new(
        deadline: Instant,
        turn: Turn,
        source: ClockSource<'_>,
        previous: Option<&Self>,
        cx: &Context<'_>,
    ) -> Option<Self> {
        let ClockSource { info, direction } = source;
        let previous = previous.map(|timer| timer.key);
        let key = info.set_deadline(direction, deadline, previous, cx.waker())?;
        Some(Self {
            key,
            turn,
            is_counted: true,
        })
    }

    pub(super) fn deadline(&self, source: ClockSource<'_>) -> Instant {
        source.info.deadline_at(self.key)
    }

    pub(super) fn is_armed(&self, source: ClockSource<'_>) -> bool {
        source.info.has_deadline(source.direction, self.key)
    }

    /// Like [`WatchTimer::touch`](super::WatchTimer::touch). The socket compares the wakers within one future.
    #[inline]
    pub(super) fn touch(&mut self, turn: Option<Turn>, source: ClockSource<'_>) -> bool {
        let is_later = match (turn, self.turn()) {
            (Some(turn), Some(earlier)) => turn != earlier && turn.continues(earlier).is_some(),
            _ => false,
        };
        if !is_later || !self.is_armed(source) {
            return false;
        }
        self.set_turn(turn);
        true
    }

    pub(super) const fn set_turn(&mut self, turn: Option<Turn>) {
        self.is_counted = turn.is_some();
        if let Some(turn) = turn {
            self.turn = turn;
        }
    }

    pub(super) const fn turn(&self) -> Option<Turn> {
        if self.is_counted {
            Some(self.turn)
        } else {
            None
        }
    }
}
