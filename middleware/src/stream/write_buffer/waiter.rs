//! Who waits for the output to go out.
//!
//! Both directions of a connection may: a write waits for room, a read for the output that it
//! answers. IO remembers one waker for its write side, the last one. So a task that polls the write side
//! while the other direction waits too has to leave a waker for both.

use std::{
    mem,
    sync::Arc,
    task::{Wake, Waker},
};

/// The task of one direction, and whether it waits.
///
/// It may have given up since; it is woken for nothing then.
#[derive(Debug, Default)]
pub(super) struct Waiter {
    /// Kept when the wait is over: the next one most likely has the same.
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

    /// The task of `waker` waits.
    #[inline]
    pub(super) fn wait(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        self.waits = true;
    }

    /// No task waits any more.
    #[inline]
    pub(super) const fn done(&mut self) {
        self.waits = false;
    }

    /// Wakes who waits.
    #[inline]
    pub(super) fn wake(&mut self) {
        if mem::take(&mut self.waits) {
            self.waker.as_ref().map(Waker::wake_by_ref);
        }
    }

    /// A waker for who waits and for `other`, unless one of them is enough.
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
