//! The service and its handle.

// `tests/model` includes this file with locks whose schedule it controls.
use super::sync::{Arc, Mutex, MutexGuard, PoisonError};
use slab::Slab;
use std::{
    fmt, mem,
    task::{Context, Poll, Waker},
};
use tower::Service;

/// Serves each connection with the current stack; see the [module docs](super).
///
/// A clone shares the current stack, and neither the readiness nor the wait.
pub struct Reload<S> {
    shared: Arc<Mutex<Current<S>>>,
    /// What `poll_ready` polls and `call` uses up, so that an idle service keeps no old stack.
    taken: Option<Taken<S>>,
    /// Where it waits for a swap.
    waiting: Option<usize>,
}

/// Replaces the stack of [`Reload`]. Clones refer to the same one.
pub struct ReloadHandle<S> {
    pub(super) shared: Arc<Mutex<Current<S>>>,
}

/// Under one lock, so that no swap is missed between the look at the stack and the wait.
pub(super) struct Current<S> {
    stack: S,
    /// How many stacks were there before.
    swaps: u64,
    pub(super) waiting: Slab<Waker>,
}

struct Taken<S> {
    stack: S,
    swaps: u64,
}

impl<S> Reload<S> {
    /// Serves with `stack` until the handle replaces it.
    pub fn pair(stack: S) -> (Self, ReloadHandle<S>) {
        let shared = Arc::new(Mutex::new(Current {
            stack,
            swaps: 0,
            waiting: Slab::new(),
        }));
        let handle = ReloadHandle {
            shared: shared.clone(),
        };
        (Self::new(shared), handle)
    }

    const fn new(shared: Arc<Mutex<Current<S>>>) -> Self {
        Self {
            shared,
            taken: None,
            waiting: None,
        }
    }

    /// Waits for a swap of the stack that was taken as number `swaps`. False if there has been one.
    fn wait_for_swap(&mut self, swaps: u64, cx: &Context<'_>) -> bool {
        let waker = cx.waker().clone();
        let mut current = lock(&self.shared);
        if current.swaps != swaps {
            return false;
        }
        let old = match self.waiting {
            // A key is only removed by this service.
            Some(key) => Some(mem::replace(&mut current.waiting[key], waker)),
            None => {
                self.waiting = Some(current.waiting.insert(waker));
                None
            }
        };
        // Without the lock, because a waker runs foreign code.
        drop(current);
        drop(old);
        true
    }

    fn end_wait(&mut self) {
        if let Some(key) = self.waiting.take() {
            let waker = lock(&self.shared).waiting.remove(key);
            drop(waker);
        }
    }
}

impl<S, Request> Service<Request> for Reload<S>
where
    S: Service<Request> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    /// Waits until the current stack is ready, or a newer one that arrives meanwhile.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        loop {
            let taken = self.taken.get_or_insert_with(|| lock(&self.shared).take());
            let swaps = taken.swaps;
            let ready = taken.stack.poll_ready(cx);
            if ready.is_ready() {
                self.end_wait();
                return ready;
            }
            if self.wait_for_swap(swaps, cx) {
                return Poll::Pending;
            }
            // Leaves the queue of the old stack.
            self.taken = None;
        }
    }

    /// # Panics
    ///
    /// Panics if `poll_ready` has not returned ready.
    fn call(&mut self, request: Request) -> S::Future {
        let taken = self.taken.take();
        let mut taken = taken.expect("`poll_ready` must return ready before each `call`");
        taken.stack.call(request)
    }
}

impl<S> ReloadHandle<S> {
    /// Serves connections with `stack` from now on, including those that wait until the old one is ready.
    pub fn swap(&self, stack: S) {
        let mut current = lock(&self.shared);
        let old = mem::replace(&mut current.stack, stack);
        current.swaps += 1;
        let waiting: Vec<_> = current
            .waiting
            .iter()
            .map(|(_, waker)| waker.clone())
            .collect();
        drop(current);
        // Without the lock, because both run foreign code.
        waiting.into_iter().for_each(Waker::wake);
        drop(old);
    }

    /// How many times the stack was replaced.
    pub fn swaps(&self) -> u64 {
        lock(&self.shared).swaps
    }
}

impl<S: Clone> Current<S> {
    fn take(&self) -> Taken<S> {
        Taken {
            stack: self.stack.clone(),
            swaps: self.swaps,
        }
    }
}

impl<S> Clone for Reload<S> {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone())
    }
}

impl<S> Drop for Reload<S> {
    fn drop(&mut self) {
        self.end_wait();
    }
}

impl<S> Clone for ReloadHandle<S> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<S> fmt::Debug for Reload<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reload")
            .field("swaps", &lock(&self.shared).swaps)
            .field("waits", &self.waiting.is_some())
            .finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for ReloadHandle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReloadHandle")
            .field("swaps", &self.swaps())
            .finish_non_exhaustive()
    }
}

/// A stack whose `clone` has panicked is still whole.
pub(super) fn lock<S>(shared: &Mutex<Current<S>>) -> MutexGuard<'_, Current<S>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
