//! The limiter itself: slots, a queue, and the counts, all under one lock.
//!
//! tokio's `Semaphore` cannot shrink below what is taken: a waiter that was given a permit and is
//! dropped before it looks puts it back, whatever the limit is by then. Here every change sees the
//! limit, so resizing is exact; a lock taken twice per connection costs no more than the semaphore.

use crate::connection::{Slot, Slots};
use std::{
    collections::BTreeMap,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// A limit with those who hold a slot of it and those who wait for one.
pub(super) struct Limiter(Mutex<State>);

/// Whenever the lock is free, the queue is empty if a slot is free.
pub(super) struct State {
    limit: usize,
    active: usize,
    /// Who waits, by ticket, the longest first. Who is not in it any more was given a slot.
    queue: BTreeMap<u64, Waker>,
    next_ticket: u64,
    refused: u64,
    answering: usize,
}

impl State {
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

    /// Gives a free slot to the one who waits the longest.
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
    pub(super) const fn new(limit: usize) -> Self {
        Self(Mutex::new(State {
            limit,
            active: 0,
            queue: BTreeMap::new(),
            next_ticket: 0,
            refused: 0,
            answering: 0,
        }))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a slot or, if less than `max_waiting` wait, a place in the queue.
    pub(super) fn enter(self: &Arc<Self>, max_waiting: usize) -> Option<Entry> {
        let mut state = self.state();
        if state.active < state.limit {
            state.active += 1;
            return Some(Entry::Admitted(self.slot()));
        }
        if state.queue.len() >= max_waiting {
            return None;
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.queue.insert(ticket, Waker::noop().clone());
        let limiter = Some(self.clone());
        Some(Entry::Queued(Place { limiter, ticket }))
    }

    pub(super) fn set_limit(&self, limit: usize) {
        let mut state = self.state();
        state.limit = limit;
        let admitted: Vec<_> = std::iter::from_fn(|| state.admit_next()).collect();
        drop(state);
        admitted.into_iter().for_each(Waker::wake);
    }

    /// Counts a refusal; returns leave to answer it, unless too many are being answered already.
    pub(super) fn count_refused(self: &Arc<Self>, wants_to_answer: bool) -> Option<Answering> {
        let mut state = self.state();
        state.refused += 1;
        if !wants_to_answer || state.answering >= MAX_ANSWERING {
            return None;
        }
        state.answering += 1;
        Some(Answering(self.clone()))
    }

    /// The slot that was just counted.
    fn slot(self: &Arc<Self>) -> Slot {
        Slot::new(self.clone(), 0)
    }
}

impl Slots for Limiter {
    /// All slots are alike.
    fn release(&self, _key: usize) {
        let mut state = self.state();
        state.active -= 1;
        let admitted = state.admit_next();
        drop(state);
        // Without the lock: a waker is foreign code, and may drop what comes back here.
        if let Some(waker) = admitted {
            waker.wake();
        }
    }

    /// The limit is one of connections that are served.
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

/// What [`Limiter::enter`] gives.
#[derive(Debug)]
pub(super) enum Entry {
    Admitted(Slot),
    Queued(Place),
}

/// A place in the queue; given up when dropped, and the slot with it if one was given to it.
#[derive(Debug)]
pub(super) struct Place {
    /// `None` once it became a slot.
    limiter: Option<Arc<Limiter>>,
    ticket: u64,
}

impl Place {
    /// Ready when it is this one's turn; not to be polled again then.
    pub(super) fn poll_slot(&mut self, cx: &Context<'_>) -> Poll<Slot> {
        let limiter = self.limiter.as_ref().expect("not polled after its turn");
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
        let limiter = self.limiter.take().expect("it was there above");
        Poll::Ready(limiter.slot())
    }
}

impl Drop for Place {
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

/// Leave to answer a refused connection; given back when dropped.
#[derive(Debug)]
pub(super) struct Answering(Arc<Limiter>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.state().answering -= 1;
    }
}

/// How many refusals of one limit are answered at once; each holds a descriptor for a second at
/// most.
pub(super) const MAX_ANSWERING: usize = 64;
