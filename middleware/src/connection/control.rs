//! The mailbox through which a connection is reached from outside, wherever it lives.
//!
//! The holder of a [`ConnectionInfo`](super::ConnectionInfo) posts a request; the innermost
//! wrapper, [`Socket`](super::Socket), looks for one at each operation: one relaxed load. An
//! operation that waits leaves its waker here, so that a request wakes it. Code that waits for something
//! else than IO waits for [`end`](Control::end) beside it.

use std::{
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::Waker,
};
use tokio::sync::Notify;

/// Requests of the outside, and the wakers of the operations that wait.
#[derive(Debug, Default)]
pub(super) struct Control {
    requests: AtomicU8,
    wakers: [Mutex<Option<Waker>>; 2],
    /// Wakes tasks that await the end itself; allocated for the first of them.
    ended: OnceLock<Box<Notify>>,
}

/// Reads and writes wait apart: the halves of a split connection live in different tasks.
#[derive(Clone, Copy, Debug)]
pub(super) enum IoDirection {
    Read,
    Write,
}

/// What was asked for, as a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Requests(u8);

impl Requests {
    pub(super) const CLOSE: Self = Self(1);
    pub(super) const RESET: Self = Self(2);
    /// Like `RESET`, asked for by the connection's owner.
    pub(super) const ABORT: Self = Self(16);
    pub(super) const NODELAY: Self = Self(4);
    pub(super) const DELAY: Self = Self(8);

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the connection is to end.
    pub(super) const fn end(self) -> bool {
        self.0 & (Self::CLOSE.0 | Self::RESET.0 | Self::ABORT.0) != 0
    }

    pub(super) const fn has(self, request: Self) -> bool {
        self.0 & request.0 != 0
    }
}

impl Control {
    /// What is asked for at this moment.
    #[inline]
    pub(super) fn requests(&self) -> Requests {
        // Relaxed is enough: whoever posts also wakes, and waking a task orders its next poll
        // after the request. `wait` looks again, in order, for a request that came in between.
        Requests(self.requests.load(Ordering::Relaxed))
    }

    /// Resolves when the connection is asked to end; any number may wait at a time.
    pub(super) async fn end(&self) {
        // Before the look, so that a request in between is not missed.
        let ended = self.ended.get_or_init(Box::default).notified();
        // A change of nothing takes its place among the requests: one that comes later finds `ended`.
        if !Requests(self.requests.fetch_or(0, Ordering::SeqCst)).end() {
            ended.await;
        }
    }

    /// Asks for `request`, an end of the connection, and wakes all tasks that wait.
    pub(super) fn post(&self, request: Requests) {
        self.requests.fetch_or(request.0, Ordering::SeqCst);
        for waker in &self.wakers {
            // Woken without the lock: a waker is somebody else's code. Once is enough, the end is final.
            let waker = waker.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        if let Some(ended) = self.ended.get() {
            ended.notify_waiters();
        }
    }

    /// Asks for one setting in place of its opposite; no task is woken for it.
    pub(super) fn set(&self, request: Requests, instead_of: Requests) {
        self.requests.fetch_and(!instead_of.0, Ordering::SeqCst);
        self.requests.fetch_or(request.0, Ordering::SeqCst);
    }

    /// Takes the settings out of the mailbox; closing stays.
    pub(super) fn take_settings(&self) -> Requests {
        let settings = Requests::NODELAY.0 | Requests::DELAY.0;
        Requests(self.requests.fetch_and(!settings, Ordering::SeqCst) & settings)
    }

    /// Leaves `waker` for `direction`; returns what was asked for up to then.
    pub(super) fn wait(&self, direction: IoDirection, waker: &Waker) -> Requests {
        let before = self.waker(direction).replace(waker.clone());
        drop(before);
        Requests(self.requests.load(Ordering::SeqCst))
    }

    /// Lets go of the waker left for `direction`: it keeps its task's memory alive.
    pub(super) fn forget_waker(&self, direction: IoDirection) {
        let waker = self.waker(direction).take();
        drop(waker);
    }

    fn waker(&self, direction: IoDirection) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.wakers[direction as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_test::{assert_pending, assert_ready, task};

    #[test]
    fn all_who_wait_for_the_end_are_woken_by_each_kind_of_it() {
        for end in [Requests::CLOSE, Requests::RESET, Requests::ABORT] {
            let control = Control::default();
            let mut waiting = [(); 3].map(|()| task::spawn(control.end()));
            for waiting in &mut waiting {
                assert_pending!(waiting.poll());
            }
            control.set(Requests::NODELAY, Requests::DELAY);
            assert!(!waiting[0].is_woken());
            control.post(end);
            for waiting in &mut waiting {
                assert!(waiting.is_woken());
                assert_ready!(waiting.poll());
            }
            assert_ready!(task::spawn(control.end()).poll());
        }
    }

    #[test]
    fn an_end_that_comes_while_the_wait_begins_is_not_missed() {
        for _ in 0..1000 {
            let control = Control::default();
            std::thread::scope(|scope| {
                scope.spawn(|| control.post(Requests::CLOSE));
                // Returns only when the end was seen.
                tokio_test::block_on(control.end());
            });
        }
    }
}
