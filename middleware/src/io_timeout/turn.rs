//! Numbers the polls of a connection's future, so that an operation can tell whether its handler
//! was waiting for it all the time or doing something else.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering},
    task::Context,
};

/// One poll of the future of an [`IoTimeout`](super::IoTimeout).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    future: u64,
    number: u64,
}

impl Turn {
    /// Before the first poll of a new future.
    pub(super) fn of_new_future() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let future = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { future, number: 0 }
    }

    /// Begins the next poll of the future. It lasts until the guard is dropped.
    pub(super) fn begin(&mut self, cx: &Context<'_>) -> Entered {
        self.number += 1;
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
        (self.future == earlier.future).then_some(self.number == earlier.number + 1)
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
