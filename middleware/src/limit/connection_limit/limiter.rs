//! The limiter, with slots, a queue and counters under one lock.
//!
//! tokio's `Semaphore` cannot shrink below the number of permits in use. A waiter that is dropped after it
//! was given a permit returns it, whatever the limit is by then. Here every change checks the limit, so
//! resizing is exact. A lock that is taken twice per connection costs no more than the semaphore.

use crate::{
    connection::{Slot, Slots},
    guard::Observer,
};
use std::{
    collections::BTreeMap,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// A limit, its used slots and its queue.
pub(super) struct Limiter {
    state: Mutex<LimiterState>,
    pub(super) observer: Observer,
}

/// While the lock is free, a free slot implies an empty queue.
pub(super) struct LimiterState {
    limit: usize,
    active: usize,
    /// Waiters by ticket, oldest first. A waiter is removed when it is given a slot.
    queue: BTreeMap<u64, Waker>,
    next_ticket: u64,
    refused: u64,
}

impl LimiterState {
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    pub(super) const fn active(&self) -> usize {
        self.active
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }

    /// Gives a free slot to the oldest waiter.
    fn admit_next(&mut self) -> Option<Waker> {
        if self.active >= self.limit {
            return None;
        }
        let (_, waker) = self.queue.pop_first()?;
        self.active += 1;
        Some(waker)
    }
}

impl Limiter {
    /// A limit of the layer `name`.
    pub(super) fn new(name: &'static str, limit: usize) -> Self {
        let state = LimiterState {
            limit,
            active: 0,
            queue: BTreeMap::new(),
            next_ticket: 0,
            refused: 0,
        };
        Self {
            state: Mutex::new(state),
            observer: Observer::new(name),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, LimiterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a slot or, if fewer than `max_waiting` wait, a place in the queue.
    pub(super) fn enter(self: &Arc<Self>, max_waiting: usize) -> Option<LimiterEntry> {
        let mut state = self.state();
        if state.active < state.limit {
            state.active += 1;
            return Some(LimiterEntry::Admitted(self.slot()));
        }
        if state.queue.len() >= max_waiting {
            return None;
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.queue.insert(ticket, Waker::noop().clone());
        let limiter = Some(self.clone());
        Some(LimiterEntry::Queued(QueuePlace { limiter, ticket }))
    }

    /// Takes a slot, even beyond the limit, and returns whether it is within.
    pub(super) fn enter_always(self: &Arc<Self>) -> (Slot, bool) {
        let mut state = self.state();
        let within = state.active < state.limit;
        state.active += 1;
        drop(state);
        (self.slot(), within)
    }

    pub(super) fn set_limit(&self, limit: usize) {
        let mut state = self.state();
        state.limit = limit;
        let admitted: Vec<_> = std::iter::from_fn(|| state.admit_next()).collect();
        drop(state);
        admitted.into_iter().for_each(Waker::wake);
    }

    /// Counts a rejection.
    pub(super) fn count_refused(&self) {
        self.state().refused += 1;
    }

    /// Makes the slot that was just counted.
    fn slot(self: &Arc<Self>) -> Slot {
        Slot::new(self.clone(), 0)
    }
}

impl Slots for Limiter {
    /// The slots of a limit need no keys.
    fn release(&self, _key: usize) {
        let mut state = self.state();
        state.active -= 1;
        let admitted = state.admit_next();
        drop(state);
        // Wake after unlocking, because a waker may run code that enters the limiter again.
        if let Some(waker) = admitted {
            waker.wake();
        }
    }

    /// Lingering connections are no longer served, so they release their slots.
    fn is_released_by_linger(&self) -> bool {
        true
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Limiter")
            .field("limit", &state.limit)
            .field("active", &state.active)
            .field("waiting", &state.queue.len())
            .field("refused", &state.refused)
            .finish()
    }
}

/// Result of [`Limiter::enter`].
#[derive(Debug)]
pub(super) enum LimiterEntry {
    Admitted(Slot),
    Queued(QueuePlace),
}

/// A place in the queue. Dropping it releases the place, or the slot that was given to it.
#[derive(Debug)]
pub(super) struct QueuePlace {
    /// `None` after it became a slot.
    limiter: Option<Arc<Limiter>>,
    ticket: u64,
}

impl QueuePlace {
    /// Ready with the slot; it must not be polled after that.
    pub(super) fn poll_slot(&mut self, cx: &Context<'_>) -> Poll<Slot> {
        let limiter = self
            .limiter
            .as_ref()
            .expect("`poll_slot` is not called after it was ready");
        let mut state = limiter.state();
        if let Some(waker) = state.queue.get_mut(&self.ticket) {
            if !waker.will_wake(cx.waker()) {
                let old = mem::replace(waker, cx.waker().clone());
                drop(state);
                drop(old);
            }
            return Poll::Pending;
        }
        drop(state);
        let limiter = self.limiter.take().expect("it was checked above");
        Poll::Ready(limiter.slot())
    }
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        let Some(limiter) = self.limiter.take() else {
            return;
        };
        let left = limiter.state().queue.remove(&self.ticket);
        if left.is_none() {
            limiter.release(0);
        }
    }
}
