//! Limits how many handshakes compute concurrently.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread::available_parallelism,
};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Slots to compute in. A connection holds one from the moment its task is to be polled until the computation
/// is done, and never while it waits for its peer.
#[derive(Debug)]
pub(super) struct HandshakeLimit {
    free: Semaphore,
    max: usize,
    waiting: AtomicUsize,
}

impl HandshakeLimit {
    pub(super) fn new(max: usize) -> Self {
        let max = max.min(Semaphore::MAX_PERMITS);
        Self {
            free: Semaphore::new(max),
            max,
            waiting: AtomicUsize::new(0),
        }
    }

    /// Enough to keep every processor busy, and few enough that the other connections of a thread wait for a
    /// few handshakes only.
    pub(super) fn for_this_machine() -> Self {
        Self::new(4 * available_parallelism().map_or(1, usize::from))
    }

    /// Takes a slot, in order of request.
    pub(super) async fn enter(&self) -> SemaphorePermit<'_> {
        if let Ok(slot) = self.free.try_acquire() {
            return slot;
        }
        let _waiting = WaitCount::new(&self.waiting);
        self.free.acquire().await.expect("the semaphore stays open")
    }

    pub(super) const fn max(&self) -> usize {
        self.max
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// Counts a waiting handshake until it is dropped.
struct WaitCount<'a>(&'a AtomicUsize);

impl<'a> WaitCount<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for WaitCount<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
