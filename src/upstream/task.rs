//! Tasks that end with what they work for.

use portcullis_middleware::error::Panicked;
use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
};
use tokio::{runtime::Handle, task::AbortHandle};

/// A task that is aborted when this is dropped.
#[derive(Debug)]
pub(super) struct Task(AbortHandle);

impl Task {
    /// Panics outside of a runtime.
    pub(super) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work).abort_handle())
    }

    /// `None` outside of a runtime.
    pub(super) fn try_spawn(work: impl Future<Output = ()> + Send + 'static) -> Option<Self> {
        let runtime = Handle::try_current().ok()?;
        Some(Self(runtime.spawn(work).abort_handle()))
    }

    /// Whether it has ended, as it does with the runtime in which it was spawned.
    pub(super) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    pub(super) fn abort(&self) {
        self.0.abort();
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.abort();
    }
}

/// Catches a panic of `work`, which runs code of the user, so that the task goes on.
pub(super) async fn catch<F: Future>(work: F) -> Result<F::Output, Panicked> {
    let mut work = pin!(work);
    let poll = |cx: &mut Context<'_>| match Panicked::catch(|| work.as_mut().poll(cx)) {
        Ok(polled) => polled.map(Ok),
        Err(panicked) => Poll::Ready(Err(panicked)),
    };
    poll_fn(poll).await
}
