//! Numbers the polls of a connection's future, so that an operation can tell whether its handler
//! was waiting for it all the time or doing something else.

use std::{
    cell::Cell,
    num::NonZeroU64,
    sync::atomic::{AtomicU32, Ordering},
    task::Context,
};

/// One poll of the future of an [`IoTimeout`](super::IoTimeout): the number of the future in the high
/// half, that of the poll in the low half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn(NonZeroU64);

impl Turn {
    /// Before the first poll of a new future.
    pub(super) fn of_new_future() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let future = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::of(u64::from(future) << HALF)
    }

    fn of(number: u64) -> Self {
        Self(NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN))
    }

    /// The next poll of the same future. After four billion polls it counts from zero again.
    fn next(self) -> Self {
        let (future, poll) = (self.0.get() >> HALF, self.0.get() as u32);
        Self::of(future << HALF | u64::from(poll.wrapping_add(1)))
    }

    /// Begins the next poll of the future. It lasts until the guard is dropped.
    pub(super) fn begin(&mut self, cx: &Context<'_>) -> Entered {
        *self = self.next();
        let current = Current {
            turn: *self,
            task: cx.waker().data(),
        };
        Entered {
            outer: CURRENT.replace(Some(current)),
        }
    }

    /// The poll that is going on, if the operation is polled directly by it.
    ///
    /// In another task there is none. Within something that polls its parts selectively, with wakers
    /// of its own (`FuturesUnordered`), an operation may be watched without being polled.
    #[inline]
    pub(super) fn current(cx: &Context<'_>) -> Option<Self> {
        let current = CURRENT.get()?;
        (current.task == cx.waker().data()).then_some(current.turn)
    }

    /// Whether an operation that was polled in `earlier` was watched until now; `None` where these
    /// are polls of different futures.
    ///
    /// A handler that waits for an operation polls it each time. Time that passed within one poll was
    /// spent by the handler.
    pub(super) fn continues(self, earlier: Self) -> Option<bool> {
        let same_future = self.0.get() >> HALF == earlier.0.get() >> HALF;
        same_future.then(|| self == earlier.next())
    }
}

/// Guard of [`Turn::begin`]. Futures nest, so it restores the outer one.
#[must_use]
pub(super) struct Entered {
    outer: Option<Current>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.outer);
    }
}

#[derive(Clone, Copy)]
struct Current {
    turn: Turn,
    /// Identifies the waker of the task; never followed.
    task: *const (),
}

thread_local! {
    static CURRENT: Cell<Option<Current>> = const { Cell::new(None) };
}

/// Bits of each half of a [`Turn`].
const HALF: u32 = 32;
