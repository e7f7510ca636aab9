//! The mailbox for requests to a connection, wherever the connection is.
//!
//! The holder of a [`ConnectionInfo`](super::ConnectionInfo) posts a request. The innermost wrapper,
//! [`Socket`](super::Socket), checks for one at each operation, with one relaxed load. A pending operation
//! stores its waker here, so that a request wakes it. Code that waits for something other than I/O also
//! awaits [`closed`](super::ConnectionInfo::closed).

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::Waker,
};

/// Posted requests and the wakers of pending operations.
#[derive(Debug, Default)]
pub(crate) struct Control {
    requests: AtomicU8,
    /// The directions in which the socket has left its waker.
    left: AtomicU8,
    /// Under one lock, which takes less memory than three and is held for a few instructions.
    wakers: Mutex<[Option<Waker>; 3]>,
}

/// Reads and writes have separate wakers, because the halves of a split connection may be in different tasks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum IoDirection {
    Read,
    Write,
    /// The call of a service, which limits the connection as a whole.
    Call,
}

impl IoDirection {
    pub(super) const BOTH: [Self; 2] = [Self::Read, Self::Write];
    pub(super) const WITH_CALL: [Self; 3] = [Self::Read, Self::Write, Self::Call];

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Requests(u8);

impl Requests {
    pub(super) const CLOSE: Self = Self(1);
    pub(super) const RESET: Self = Self(2);
    /// Like `RESET`, requested by the connection's owner.
    pub(super) const ABORT: Self = Self(16);
    pub(super) const NODELAY: Self = Self(4);
    pub(super) const DELAY: Self = Self(8);
    /// To set the [`LateOptions`](super::LateOptions).
    pub(super) const LATE_OPTIONS: Self = Self(32);

    const SETTINGS: Self = Self(Self::NODELAY.0 | Self::DELAY.0 | Self::LATE_OPTIONS.0);

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the connection must end.
    pub(super) const fn end(self) -> bool {
        self.0 & (Self::CLOSE.0 | Self::RESET.0 | Self::ABORT.0) != 0
    }

    pub(super) const fn has(self, request: Self) -> bool {
        self.0 & request.0 != 0
    }
}

impl Control {
    /// The current requests.
    #[inline]
    pub(super) fn requests(&self) -> Requests {
        // Relaxed is enough, because posting also wakes the task, and a wake orders the task's next poll
        // after the request. `wait` checks again, in order, for a request in between.
        Requests(self.requests.load(Ordering::Relaxed))
    }

    /// The current requests. A later [`post`](Self::post) sees what the caller has published before.
    pub(super) fn requests_in_order(&self) -> Requests {
        // This empty change takes its place among the requests.
        Requests(self.requests.fetch_or(0, Ordering::SeqCst))
    }

    /// Posts `request`, which ends the connection, and wakes all pending operations.
    pub(super) fn post(&self, request: Requests) {
        self.requests.fetch_or(request.0, Ordering::SeqCst);
        for direction in IoDirection::BOTH {
            // Wakes without the lock, because a waker runs foreign code. Once is enough, because the end is
            // final.
            let waker = self.wakers()[direction as usize].take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Posts one setting in place of its opposite, without waking a task.
    pub(super) fn set(&self, request: Requests, instead_of: Requests) {
        self.requests.fetch_and(!instead_of.0, Ordering::SeqCst);
        self.requests.fetch_or(request.0, Ordering::SeqCst);
    }

    /// Takes the settings from the mailbox. Requests to close remain.
    pub(super) fn take_settings(&self) -> Requests {
        self.take(Requests::SETTINGS)
    }

    /// Takes those of `requests` that are posted.
    pub(super) fn take(&self, Requests(requests): Requests) -> Requests {
        Requests(self.requests.fetch_and(!requests, Ordering::SeqCst) & requests)
    }

    /// Posts one setting without waking a task.
    pub(super) fn set_late_options(&self) {
        self.requests
            .fetch_or(Requests::LATE_OPTIONS.0, Ordering::SeqCst);
    }

    /// Stores `waker` for `direction` and returns the requests so far.
    pub(crate) fn wait(&self, direction: IoDirection, waker: &Waker) -> Requests {
        let waker = waker.clone();
        let before = self.wakers()[direction as usize].replace(waker);
        drop(before);
        Requests(self.requests.load(Ordering::SeqCst))
    }

    /// Whether the socket has left its waker for `direction`.
    #[inline]
    pub(crate) fn is_left(&self, direction: IoDirection) -> bool {
        self.left.load(Ordering::Relaxed) & direction.bit() != 0
    }

    /// Notes that the socket leaves its waker for `direction`, and for the other one only if it is the `same`.
    pub(super) fn leave(&self, direction: IoDirection, same: bool) {
        // Relaxed, because only the tasks of the socket use it, and these take turns.
        let before = if same {
            self.left.load(Ordering::Relaxed)
        } else {
            0
        };
        self.left.store(before | direction.bit(), Ordering::Relaxed);
    }

    /// Stores `waker` in place of what the socket has left for reads, which leaves its own again if that is another.
    pub(crate) fn watch(&self, waker: &Waker) {
        let new = waker.clone();
        let before = self.wakers()[IoDirection::Read as usize].replace(new);
        if !before
            .as_ref()
            .is_some_and(|before| before.will_wake(waker))
        {
            self.left
                .fetch_and(!IoDirection::Read.bit(), Ordering::Relaxed);
        }
        drop(before);
    }

    /// Whether a request for `direction` would wake `waker`.
    pub(super) fn is_woken_by(&self, direction: IoDirection, waker: &Waker) -> bool {
        let stored = &self.wakers()[direction as usize];
        stored
            .as_ref()
            .is_some_and(|stored| stored.will_wake(waker))
    }

    /// The waker of the task that waits in `direction`; it also remains for requests.
    pub(super) fn stored_waker(&self, direction: IoDirection) -> Option<Waker> {
        self.wakers()[direction as usize].clone()
    }

    /// Drops the waker of `direction`, which keeps its task's memory alive.
    pub(super) fn forget_waker(&self, direction: IoDirection) {
        let waker = self.wakers()[direction as usize].take();
        drop(waker);
    }

    /// Drops the wakers of both directions.
    pub(super) fn forget_wakers(&self) {
        let wakers = {
            let [read, write, _] = &mut *self.wakers();
            [read.take(), write.take()]
        };
        drop(wakers);
    }

    fn wakers(&self) -> MutexGuard<'_, [Option<Waker>; 3]> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
