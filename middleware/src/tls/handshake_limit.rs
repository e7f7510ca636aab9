//! How many handshakes compute at once, and which ones wait for their turn.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread::available_parallelism,
};
use tokio::sync::{Semaphore, SemaphorePermit};

/// HandshakeLimit to compute in. One is held from the moment when its connection is to be polled until the
/// computation is done, and never while a peer is waited for.
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

    /// Enough that no processor is idle while handshakes wait, and few enough that the other connections
    /// of a thread wait for a few handshakes only.
    pub(super) fn for_this_machine() -> Self {
        Self::new(4 * available_parallelism().map_or(1, usize::from))
    }

    /// Takes a slot, in the order in which they are asked for.
    pub(super) async fn enter(&self) -> SemaphorePermit<'_> {
        if let Ok(slot) = self.free.try_acquire() {
            return slot;
        }
        let _waiting = WaitCount::new(&self.waiting);
        self.free.acquire().await.expect("it is never closed")
    }

    pub(super) const fn max(&self) -> usize {
        self.max
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// Counts one that waits, also when it is dropped while it does.
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
