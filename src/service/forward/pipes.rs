//! The pipes of a thread, which connections take while bytes move through them.

use portcullis_middleware::io::Pipe;
use std::{
    cell::RefCell,
    sync::atomic::{AtomicUsize, Ordering},
};

/// A pipe on loan. It returns to the thread's pool when it is dropped empty, and is closed otherwise.
#[derive(Debug)]
pub(super) struct PooledPipe(Option<Box<CountedPipe>>);

/// A pipe, with the capacity that counts for the limit of the process.
#[derive(Debug)]
struct CountedPipe {
    pipe: Pipe,
    counted: usize,
}

thread_local! {
    #[expect(clippy::vec_box, reason = "a connection holds the box")]
    static POOL: RefCell<Vec<Box<CountedPipe>>> = const { RefCell::new(Vec::new()) };
}

impl PooledPipe {
    /// Takes a pipe from the pool or creates one; `None` if too many exist, and where the system has none.
    pub(super) fn take() -> Option<Self> {
        let pooled = POOL.try_with(|pool| pool.borrow_mut().pop()).ok().flatten();
        pooled
            .or_else(|| CountedPipe::new().map(Box::new))
            .map(|pipe| Self(Some(pipe)))
    }

    pub(super) fn get_mut(&mut self) -> &mut Pipe {
        let counted = self.0.as_mut();
        &mut counted.expect("a pipe is there until it is dropped").pipe
    }
}

impl Drop for PooledPipe {
    fn drop(&mut self) {
        if let Some(pipe) = self.0.take().filter(|counted| counted.pipe.is_empty()) {
            // Without a pool the thread is about to end.
            let _ = POOL.try_with(|pool| {
                let mut pool = pool.borrow_mut();
                // While pipes are scarce a thread keeps one, because other threads cannot use those in its pool.
                let scarce = COUNTED.load(Ordering::Relaxed) > LIMIT / 2;
                if pool.len() < if scarce { 1 } else { IDLE_PIPES } {
                    pool.push(pipe);
                }
            });
        }
    }
}

impl CountedPipe {
    /// A large pipe while few exist, then a small one.
    fn new() -> Option<Self> {
        Self::with(LARGE, LIMIT_OF_LARGE).or_else(|| Self::with(SMALL, LIMIT))
    }

    /// A pipe of `capacity`, if that keeps all within `limit`.
    fn with(capacity: usize, limit: usize) -> Option<Self> {
        let more = |counted| Some(counted + capacity).filter(|counted| *counted <= limit);
        let counted = COUNTED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        counted.ok()?;
        match Pipe::new(capacity) {
            Ok(pipe) => Some(Self {
                pipe,
                counted: capacity,
            }),
            Err(_) => {
                COUNTED.fetch_sub(capacity, Ordering::Relaxed);
                None
            }
        }
    }
}

impl Drop for CountedPipe {
    fn drop(&mut self) {
        COUNTED.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

/// The capacity of all pipes of the process.
static COUNTED: AtomicUsize = AtomicUsize::new(0);

/// The largest that Linux allows an unprivileged user (`pipe-max-size`).
const LARGE: usize = 1024 * 1024;

/// Where many connections take pipes.
const SMALL: usize = 256 * 1024;

/// Up to this capacity of all pipes, new ones are large: sixteen, as many connections move bytes at a time on few cores.
const LIMIT_OF_LARGE: usize = 16 * LARGE;

/// The capacity of all pipes at most, because a slow reader occupies one. An unprivileged user may have 64 MiB
/// (`pipe-user-pages-soft`).
const LIMIT: usize = LIMIT_OF_LARGE + 128 * SMALL;

/// How many pipes a thread keeps for later, or one if many exist. An empty pipe takes two file descriptors and
/// some 3 KiB, a large one 10.
const IDLE_PIPES: usize = 4;

/// Held by tests that take all pipes of the process, and by those that need one.
#[cfg(all(test, target_os = "linux"))]
pub(super) static ALL_PIPES: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn pipes_are_limited_and_empty_ones_are_used_again() {
        let _all = ALL_PIPES.blocking_lock();
        // In a thread of its own, whose pool is empty.
        std::thread::spawn(|| {
            let mut taken: Vec<_> = std::iter::from_fn(PooledPipe::take).collect();
            let capacities = taken.iter_mut().map(|pipe| pipe.get_mut().capacity());
            let capacities: Vec<_> = capacities.collect();
            // In no order, because other tests give theirs back meanwhile.
            assert!(capacities.contains(&LARGE) && capacities.contains(&SMALL));
            assert!(capacities.iter().sum::<usize>() <= LIMIT);
            drop(taken);
            POOL.with(|pool| assert_eq!(pool.borrow().len(), IDLE_PIPES));
            let again: Vec<_> = std::iter::from_fn(PooledPipe::take).collect();
            assert!(again.len() > IDLE_PIPES);
        })
        .join()
        .unwrap();
    }
}
