//! Numbers the polls of a connection's future.
//!
//! An operation uses them to determine whether its handler was waiting for it or doing something else.

use std::{
    cell::Cell,
    num::NonZeroU64,
    sync::atomic::{AtomicU32, Ordering},
    task::Context,
};

/// One poll of the future of an [`IoTimeout`](super::IoTimeout).
///
/// The high half is the number of the future, the low half the number of the poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn(NonZeroU64);

impl Turn {
    /// The turn before the first poll of a new future.
    pub(super) fn of_new_future() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let future = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::of(u64::from(future) << HALF)
    }

    fn of(number: u64) -> Self {
        Self(NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN))
    }

    /// The next poll of the same future; the number wraps after 2³² polls.
    fn next(self) -> Self {
        let (future, poll) = (self.0.get() >> HALF, self.0.get() as u32);
        Self::of(future << HALF | u64::from(poll.wrapping_add(1)))
    }

    /// Begins the next poll of the future, which lasts until the guard is dropped.
    pub(super) fn begin(&mut self, cx: &Context<'_>) -> TurnGuard {
        *self = self.next();
        let current = CurrentTurn {
            turn: *self,
            task: cx.waker().data(),
        };
        TurnGuard {
            outer: CURRENT.replace(Some(current)),
        }
    }

    /// The current poll, if it polls the operation directly.
    ///
    /// Returns `None` in other tasks and below combinators with their own wakers, such as `FuturesUnordered`,
    /// where a handler may wait for an operation without polling it.
    #[inline]
    pub(super) fn current(cx: &Context<'_>) -> Option<Self> {
        let current = CURRENT.get()?;
        (current.task == cx.waker().data()).then_some(current.turn)
    }

    /// Whether the handler waited from `earlier` until now; `None` for polls of different futures.
    ///
    /// A handler that waits for an operation polls it in each turn. Time that passed within one poll was spent
    /// by the handler.
    pub(super) fn continues(self, earlier: Self) -> Option<bool> {
        let same_future = self.0.get() >> HALF == earlier.0.get() >> HALF;
        same_future.then(|| self == earlier.next())
    }
}

/// Guard of [`Turn::begin`]. It restores the outer turn, because futures nest.
#[must_use]
pub(super) struct TurnGuard {
    outer: Option<CurrentTurn>,
}

impl Drop for TurnGuard {
    fn drop(&mut self) {
        CURRENT.set(self.outer);
    }
}

#[derive(Clone, Copy)]
struct CurrentTurn {
    turn: Turn,
    /// Identifies the waker of the task; it is never dereferenced.
    task: *const (),
}

thread_local! {
    static CURRENT: Cell<Option<CurrentTurn>> = const { Cell::new(None) };
}

/// Bits of each half of a [`Turn`].
const HALF: u32 = 32;
