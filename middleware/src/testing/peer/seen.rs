//! What a scripted peer observed.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// What a scripted peer observed, also after the connection was dropped; clones share the record.
#[derive(Clone)]
pub struct Seen(Arc<SeenShared>);

struct SeenShared {
    state: Mutex<SeenState>,
    dropped: Notify,
}

#[derive(Debug, Default)]
pub(super) struct SeenState {
    pub(super) writes: Vec<Vec<u8>>,
    pub(super) unflushed: bool,
    pub(super) shut_down: bool,
    pub(super) reset: bool,
    dropped: bool,
}

impl Seen {
    pub(super) fn new() -> Self {
        Self(Arc::new(SeenShared {
            state: Mutex::default(),
            dropped: Notify::new(),
        }))
    }

    /// All bytes that the peer has accepted so far.
    pub fn written(&self) -> Vec<u8> {
        self.state().writes.concat()
    }

    /// The bytes of each accepted write; a vectored write counts as one.
    pub fn writes(&self) -> Vec<Vec<u8>> {
        self.state().writes.clone()
    }

    /// Whether a flush or shutdown followed the last write; true before the first write.
    pub fn is_flushed(&self) -> bool {
        !self.state().unflushed
    }

    /// Whether our write side was shut down.
    pub fn is_shut_down(&self) -> bool {
        self.state().shut_down
    }

    /// Whether the stream was dropped.
    pub fn is_dropped(&self) -> bool {
        self.state().dropped
    }

    /// Whether the stream was reset, by [`abort`](crate::Connection::abort) or from outside.
    pub fn is_reset(&self) -> bool {
        let state = self.state();
        state.dropped && state.reset
    }

    /// Waits until the stream is dropped.
    pub async fn dropped(&self) {
        loop {
            // Register before the check, so that a drop in between is noticed.
            let dropped = self.0.dropped.notified();
            tokio::pin!(dropped);
            dropped.as_mut().enable();
            if self.is_dropped() {
                return;
            }
            dropped.await;
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, SeenState> {
        let state = &self.0.state;
        state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_dropped(&self) {
        self.state().dropped = true;
        self.0.dropped.notify_waiters();
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state().fmt(f)
    }
}
