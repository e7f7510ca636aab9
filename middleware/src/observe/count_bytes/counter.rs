//! The totals that connections share.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Bytes moved by all connections that share the counter; clones tell the same totals.
#[derive(Clone, Debug, Default)]
pub struct ByteCounter(Arc<Totals>);

#[derive(Debug, Default)]
struct Totals {
    read: Total,
    written: Total,
}

/// Alone on its cache line, and on the one that processors fetch with it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Total(AtomicU64);

impl ByteCounter {
    /// A counter at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes read so far.
    pub fn bytes_read(&self) -> u64 {
        self.0.read.get()
    }

    /// Bytes that were taken for sending so far; they may still be on their way.
    pub fn bytes_written(&self) -> u64 {
        self.0.written.get()
    }

    #[inline]
    pub(super) fn add_read(&self, bytes: u64) {
        self.0.read.add(bytes);
    }

    #[inline]
    pub(super) fn add_written(&self, bytes: u64) {
        self.0.written.add(bytes);
    }
}

impl Total {
    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    fn add(&self, bytes: u64) {
        // Relaxed: a count orders nothing else.
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}
