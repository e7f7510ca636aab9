//! Totals shared by connections.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Bytes moved by all connections that share the counter; clones share the totals.
#[derive(Clone, Debug, Default)]
pub struct ByteCounter(Arc<Totals>);

#[derive(Debug, Default)]
struct Totals {
    read: Total,
    written: Total,
}

/// Aligned to two cache lines, because processors prefetch the adjacent line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Total(AtomicU64);

impl ByteCounter {
    /// Creates a counter at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes read so far.
    pub fn bytes_read(&self) -> u64 {
        self.0.read.get()
    }

    /// Bytes accepted for sending so far; they may still be buffered.
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
        // Relaxed, because the count synchronizes no other data.
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}
