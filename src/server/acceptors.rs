//! The acceptors of a listener: their tasks, and how a listener closes while its thread is blocked.
//!
//! The task of an acceptor only borrows it for each poll. So an acceptor and its listener can be dropped from
//! outside, even while a handler blocks the thread of the task. A server that has stopped must not leave a port
//! open on which clients connect without an answer.

use portcullis_middleware::error::Panicked;
use std::{
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, TryLockError},
    task::Poll,
};
use tokio::{
    runtime::Handle,
    task::{JoinError, JoinSet},
};

/// The acceptors of a listener. Dropping it closes their sockets.
#[derive(Default)]
pub(super) struct Acceptors {
    tasks: JoinSet<io::Result<()>>,
    cells: Vec<Arc<AcceptorCell>>,
}

/// An acceptor with its listener, or `None` when it has ended. Locked while it is polled.
type AcceptorCell = Mutex<Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send>>>>;

impl Acceptors {
    /// Runs the `acceptor` of the listener `name` on `runtime`.
    pub(super) fn spawn(
        &mut self,
        name: &str,
        acceptor: impl Future<Output = io::Result<()>> + Send + 'static,
        runtime: &Handle,
    ) {
        let cell: Arc<AcceptorCell> = Arc::new(Mutex::new(Some(Box::pin(acceptor))));
        self.cells.push(cell.clone());
        let name = name.to_owned();
        self.tasks
            .spawn_on(async move { run(&cell, &name).await }, runtime);
    }

    /// Waits until an acceptor has ended. `None` if all are joined.
    pub(super) async fn join_next(&mut self) -> Option<Result<io::Result<()>, JoinError>> {
        self.tasks.join_next().await
    }

    /// Closes the remaining sockets and aborts their tasks.
    ///
    /// An acceptor that is being polled at this moment ends after that poll.
    pub(super) fn close(&mut self) {
        self.tasks.abort_all();
        for cell in self.cells.drain(..) {
            let acceptor = match cell.try_lock() {
                Ok(mut acceptor) => acceptor.take(),
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().take(),
                Err(TryLockError::WouldBlock) => None,
            };
            // This also drops its stack, which may panic.
            let _panicked = Panicked::catch(|| drop(acceptor));
        }
    }
}

impl fmt::Debug for Acceptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptors")
            .field("running", &self.tasks.len())
            .finish_non_exhaustive()
    }
}

impl Drop for Acceptors {
    fn drop(&mut self) {
        self.close();
    }
}

/// Polls an acceptor until it ends. A panic is an error of its listener.
async fn run(cell: &AcceptorCell, listener: &str) -> io::Result<()> {
    poll_fn(|cx| {
        let mut cell = cell.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(acceptor) = cell.as_mut() else {
            // Closed from outside.
            return Poll::Ready(Ok(()));
        };
        let polled = Panicked::catch(|| acceptor.as_mut().poll(cx)).unwrap_or_else(|panicked| {
            let error = io::Error::other(panicked);
            tracing::error!(listener, %error, "listener panicked and closes");
            Poll::Ready(Err(error))
        });
        if polled.is_ready() {
            let ended = cell.take();
            let _panicked = Panicked::catch(|| drop(ended));
        }
        polled
    })
    .await
}
