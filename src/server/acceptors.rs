//! The acceptors of a server: their tasks, and how a listener closes whose thread is blocked.
//!
//! The task of an acceptor only borrows it for each poll. So an acceptor can be dropped from outside,
//! with its listener, also while a handler blocks the thread that the task needs to end. A server that is
//! over must not leave a port open on which clients connect and get no answer.

use portcullis_middleware::error::Panicked;
use std::{
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

/// The acceptors of a server. Dropped, it closes their listeners.
#[derive(Default)]
pub(super) struct Acceptors {
    tasks: JoinSet<AcceptorEnd>,
    running: Vec<Arc<Running>>,
}

/// Name of the listener, and how its acceptor ended.
pub(super) type AcceptorEnd = (String, io::Result<()>);

/// An acceptor with its listener; `None` when it is over. Locked while it is polled.
type Running = Mutex<Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send>>>>;

impl Acceptors {
    /// Runs `acceptor`, that of the listener `name`, on `runtime` or else on the caller's.
    pub(super) fn spawn(
        &mut self,
        name: &str,
        acceptor: impl Future<Output = io::Result<()>> + Send + 'static,
        runtime: Option<&Handle>,
    ) {
        let running: Arc<Running> = Arc::new(Mutex::new(Some(Box::pin(acceptor))));
        self.running.push(running.clone());
        let name = name.to_owned();
        let task = async move {
            let result = run(&running, &name).await;
            (name, result)
        };
        match runtime {
            None => self.tasks.spawn(task),
            Some(runtime) => self.tasks.spawn_on(task, runtime),
        };
    }

    /// How many there are that have not been joined.
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Waits until one has ended; `None` when there is none left.
    pub(super) async fn join_next(&mut self) -> Option<Result<AcceptorEnd, JoinError>> {
        self.tasks.join_next().await
    }

    /// Closes the listeners that are still there, and gives up their tasks.
    ///
    /// One that is being polled at this moment ends after it, if the poll ever does.
    pub(super) fn close(&mut self) {
        self.tasks.abort_all();
        for running in self.running.drain(..) {
            let acceptor = match running.try_lock() {
                Ok(mut acceptor) => acceptor.take(),
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().take(),
                Err(TryLockError::WouldBlock) => None,
            };
            // A stack is dropped with it, and that is code of others.
            let _panicked = Panicked::catch(|| drop(acceptor));
        }
    }
}

impl Drop for Acceptors {
    fn drop(&mut self) {
        self.close();
    }
}

/// Polls an acceptor to its end. A panic is an error of its listener.
async fn run(running: &Running, listener: &str) -> io::Result<()> {
    poll_fn(|cx| {
        let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(acceptor) = running.as_mut() else {
            // Closed from outside.
            return Poll::Ready(Ok(()));
        };
        let polled = Panicked::catch(|| acceptor.as_mut().poll(cx)).unwrap_or_else(|panicked| {
            let error = io::Error::other(panicked);
            tracing::error!(listener, %error, "listener panicked and ends");
            Poll::Ready(Err(error))
        });
        if polled.is_ready() {
            let over = running.take();
            let _panicked = Panicked::catch(|| drop(over));
        }
        polled
    })
    .await
}
