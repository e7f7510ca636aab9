//! Tasks that wait for output to be sent.
//!
//! Both directions of a connection may wait. A write waits for capacity, and a read waits until earlier output
//! is sent. A stream keeps only the last waker of its write side. Therefore a task that polls the write side
//! while the other direction waits registers a waker for both.

use std::{
    mem,
    sync::Arc,
    task::{Wake, Waker},
};

/// The task of one direction, and whether it waits.
///
/// If its operation was dropped meanwhile, the wake is spurious.
#[derive(Debug, Default)]
pub(super) struct Waiter {
    /// Kept after the wait, because the next one usually has the same waker.
    waker: Option<Waker>,
    waits: bool,
}

impl Waiter {
    pub(super) const fn new() -> Self {
        Self {
            waker: None,
            waits: false,
        }
    }

    /// Records that the task of `waker` waits.
    #[inline]
    pub(super) fn wait(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            empty => *empty = Some(waker.clone()),
        }
        self.waits = true;
    }

    /// Records the end of the wait.
    #[inline]
    pub(super) const fn done(&mut self) {
        self.waits = false;
    }

    /// Wakes the waiting task.
    #[inline]
    pub(super) fn wake(&mut self) {
        if mem::take(&mut self.waits) {
            self.waker.as_ref().map(Waker::wake_by_ref);
        }
    }

    /// A waker for the waiting task and `other`, unless one of them is enough.
    pub(super) fn joined(&self, other: &Waker) -> Option<Waker> {
        let waker = self.waker.as_ref().filter(|_| self.waits)?;
        if waker.will_wake(other) {
            return None;
        }
        Some(Arc::new(Both(waker.clone(), other.clone())).into())
    }
}

struct Both(Waker, Waker);

impl Wake for Both {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake_by_ref();
        self.1.wake_by_ref();
    }
}
