//! How many handshakes run at once, and who waits for one to end.

use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Semaphore, SemaphorePermit};

#[derive(Debug)]
pub(super) struct Slots {
    free: Semaphore,
    max: usize,
    waiting: AtomicUsize,
}

impl Slots {
    pub(super) fn new(max: usize) -> Self {
        let max = max.min(Semaphore::MAX_PERMITS);
        Self {
            free: Semaphore::new(max),
            max,
            waiting: AtomicUsize::new(0),
        }
    }

    /// Takes a slot, in the order of those who ask.
    pub(super) async fn enter(&self) -> SemaphorePermit<'_> {
        if let Ok(slot) = self.free.try_acquire() {
            return slot;
        }
        let _waiting = Waiting::new(&self.waiting);
        self.free.acquire().await.expect("it is never closed")
    }

    pub(super) const fn max(&self) -> usize {
        self.max
    }

    pub(super) fn in_flight(&self) -> usize {
        self.max - self.free.available_permits()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// Counts one who waits, also when it is dropped while it does.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
