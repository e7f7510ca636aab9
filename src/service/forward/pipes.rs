//! The pipes of a thread, which connections take while bytes move through them.

use portcullis_middleware::io::Pipe;
use std::{
    cell::RefCell,
    sync::atomic::{AtomicUsize, Ordering},
};

/// A pipe on loan. It returns to the thread's pool when it is dropped empty, and is closed otherwise.
#[derive(Debug)]
pub(super) struct PooledPipe(Option<CountedPipe>);

/// A pipe that counts for the limit of the process.
#[derive(Debug)]
struct CountedPipe(Pipe);

thread_local! {
    static POOL: RefCell<Vec<CountedPipe>> = const { RefCell::new(Vec::new()) };
}

impl PooledPipe {
    /// Takes a pipe from the pool or creates one; `None` if too many exist, and where the system has none.
    pub(super) fn take() -> Option<Self> {
        let pooled = POOL.try_with(|pool| pool.borrow_mut().pop()).ok().flatten();
        pooled
            .or_else(CountedPipe::new)
            .map(|pipe| Self(Some(pipe)))
    }

    pub(super) fn get_mut(&mut self) -> &mut Pipe {
        &mut self
            .0
            .as_mut()
            .expect("a pipe is there until it is dropped")
            .0
    }
}

impl Drop for PooledPipe {
    fn drop(&mut self) {
        if let Some(pipe) = self.0.take().filter(|pipe| pipe.0.is_empty()) {
            // Without a pool the thread is about to end.
            let _ = POOL.try_with(|pool| {
                let mut pool = pool.borrow_mut();
                // Most pipes are for connections, because those of idle threads remain unused.
                let scarce = EXISTING.load(Ordering::Relaxed) > PIPES / 2;
                if pool.len() < if scarce { 1 } else { IDLE_PIPES } {
                    pool.push(pipe);
                }
            });
        }
    }
}

impl CountedPipe {
    fn new() -> Option<Self> {
        let more = |pipes| (pipes < PIPES).then_some(pipes + 1);
        let counted = EXISTING.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        counted.ok()?;
        match Pipe::new(CAPACITY) {
            Ok(pipe) => Some(Self(pipe)),
            Err(_) => {
                EXISTING.fetch_sub(1, Ordering::Relaxed);
                None
            }
        }
    }
}

impl Drop for CountedPipe {
    fn drop(&mut self) {
        EXISTING.fetch_sub(1, Ordering::Relaxed);
    }
}

static EXISTING: AtomicUsize = AtomicUsize::new(0);

/// A quarter of a MiB moves with one call. Larger pipes gain little.
const CAPACITY: usize = 256 * 1024;

/// How many pipes the process has at most, because a slow reader occupies one. The kernel allows an
/// unprivileged user twice their memory (`pipe-user-pages-soft`).
pub(super) const PIPES: usize = 128;

/// How many pipes a thread keeps for later, or one if many exist. An empty pipe takes two file descriptors and about 3 KiB.
const IDLE_PIPES: usize = 4;

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn pipes_are_limited_and_empty_ones_are_used_again() {
        // In a thread of its own, whose pool is empty.
        std::thread::spawn(|| {
            let taken: Vec<_> = std::iter::from_fn(PooledPipe::take).collect();
            assert!(!taken.is_empty() && taken.len() <= PIPES);
            drop(taken);
            POOL.with(|pool| assert_eq!(pool.borrow().len(), IDLE_PIPES));
            let again: Vec<_> = std::iter::from_fn(PooledPipe::take).collect();
            assert!(again.len() > IDLE_PIPES);
        })
        .join()
        .unwrap();
    }
}
