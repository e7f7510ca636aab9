//! Which threads serve.

use super::clock::Clock;
use std::{
    io,
    num::NonZero,
    sync::mpsc,
    thread::{self, available_parallelism},
    time::Duration,
};
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
    time::Instant,
};

/// Which threads accept and serve connections.
///
/// A connection stays on the thread that got it, except on the caller's runtime with several
/// threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Workers {
    /// The caller's runtime.
    #[default]
    Caller,
    /// One thread per core, each with a runtime and a listener of its own; the kernel deals the
    /// connections out. The listener must be bound with `reuse_port`.
    ///
    /// The kernel does not see whether a thread is busy. While a handler blocks its thread, the clients
    /// that fall to that thread wait: with one of four blocked, 30 of 40 clients are answered. Blocking
    /// work belongs in [`spawn_blocking`](tokio::task::spawn_blocking).
    PerCore,
    /// Like [`PerCore`](Self::PerCore), with this number of threads.
    Sharded(usize),
    /// This number of threads, each with a runtime of its own; the caller's runtime accepts and
    /// gives each connection to the one with the fewest.
    ///
    /// Costs two system calls more per connection, to move it.
    LeastBusy(usize),
}

impl Workers {
    /// How many threads of their own the workers take.
    fn threads(self) -> usize {
        match self {
            Self::Caller => 0,
            Self::PerCore => available_parallelism().map_or(1, NonZero::get),
            Self::Sharded(threads) | Self::LeastBusy(threads) => threads.max(1),
        }
    }

    /// How many listeners each address needs.
    pub(super) fn listeners(self) -> usize {
        match self {
            Self::Caller | Self::LeastBusy(_) => 1,
            Self::PerCore | Self::Sharded(_) => self.threads(),
        }
    }

    /// Starts the threads.
    pub(super) fn start(self) -> io::Result<Vec<WorkerThread>> {
        (0..self.threads()).map(WorkerThread::start).collect()
    }
}

/// A thread with a runtime of its own.
#[derive(Debug)]
pub(super) struct WorkerThread {
    runtime: Handle,
    /// Dropped, it ends the thread.
    end: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl WorkerThread {
    fn start(number: usize) -> io::Result<Self> {
        let (tell, told) = mpsc::channel();
        let (end, told_to_end) = oneshot::channel::<()>();
        let (alive, ended) = oneshot::channel::<()>();
        thread::Builder::new()
            .name(format!("portcullis-{number}"))
            .spawn(move || {
                // Made here, and so dropped here: elsewhere it might be dropped within a runtime.
                let runtime = match Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(tell.send(Err(error))),
                };
                let _ = tell.send(Ok(runtime.handle().clone()));
                let _ = runtime.block_on(told_to_end);
                // Drops what still runs on it.
                drop(runtime);
                drop(alive);
            })?;
        let handle = told.recv().map_err(io::Error::other)??;
        Ok(Self {
            runtime: handle,
            end,
            ended,
        })
    }

    /// The runtime of the thread.
    pub(super) const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Ends the threads and what still runs on them. One that does not come to its point of
    /// waiting within `patience` is left behind.
    pub(super) async fn end_all(threads: Vec<Self>, patience: Duration, clock: &Clock) {
        let ended: Vec<_> = threads
            .into_iter()
            .map(|thread| {
                drop(thread.end);
                thread.ended
            })
            .collect();
        let all = async {
            for thread in ended {
                let _ = thread.await;
            }
        };
        tokio::select! {
            () = all => {}
            () = clock.alarm(Instant::now() + patience) => {}
        }
    }
}
