//! The threads that serve connections.

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
/// A connection stays on its thread, except on the caller's runtime with several threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Workers {
    /// The caller's runtime.
    ///
    /// With one thread, a handler that blocks it delays all other connections. With several threads, the server
    /// wakes another one within about 50 ms, so that the other connections go on as long as a thread is free. Only
    /// a task that the handler itself has woken just before, over a channel for example, waits for it.
    #[default]
    Caller,
    /// One thread per core, each with its own runtime and listener. The listener must be bound with
    /// `reuse_port`.
    ///
    /// The kernel distributes the connections without regard to load. While a handler blocks its thread, the
    /// clients of that thread wait. With one of four threads blocked, 30 of 40 clients are answered. Blocking work
    /// belongs in [`spawn_blocking`](tokio::task::spawn_blocking).
    PerCore,
    /// Like [`PerCore`](Self::PerCore), with this number of threads.
    Sharded(usize),
    /// This number of threads, each with its own runtime.
    ///
    /// The caller's runtime accepts and moves each connection to the thread with the fewest connections, which
    /// costs two more system calls per connection. A thread that a handler has blocked for more than about 100 ms
    /// gets no new connections, unless all are blocked. The connections that it has wait.
    LeastBusy(usize),
}

impl Workers {
    /// The number of threads to start.
    fn threads(self) -> usize {
        match self {
            Self::Caller => 0,
            Self::PerCore => available_parallelism().map_or(1, NonZero::get),
            Self::Sharded(threads) | Self::LeastBusy(threads) => threads.max(1),
        }
    }

    /// The number of listeners that each address needs.
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

/// A thread with its own runtime.
#[derive(Debug)]
pub(super) struct WorkerThread {
    runtime: Handle,
    /// Dropping it ends the thread.
    end: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl WorkerThread {
    fn start(number: usize) -> io::Result<Self> {
        let (started, runtime_handle) = mpsc::channel();
        let (end, end_requested) = oneshot::channel::<()>();
        let (alive, ended) = oneshot::channel::<()>();
        thread::Builder::new()
            .name(format!("portcullis-{number}"))
            .spawn(move || {
                // Created and dropped on this thread, because it must not be dropped within a runtime.
                let runtime = match Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(started.send(Err(error))),
                };
                let _ = started.send(Ok(runtime.handle().clone()));
                let _ = runtime.block_on(end_requested);
                // Drops the tasks that still run on it.
                drop(runtime);
                drop(alive);
            })?;
        let handle = runtime_handle.recv().map_err(io::Error::other)??;
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

    /// Stops the worker threads and drops their tasks. A thread that does not yield within `patience` is leaked.
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
