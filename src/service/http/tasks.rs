//! Runs what hyper spawns for an HTTP/2 connection, and finds out how long its tunnels live.
//!
//! A successful response to CONNECT turns a stream into a tunnel that hyper alone knows: its end is the end of
//! the task that hyper spawns for it, in the same poll in which it takes that response.

use super::activity::InFlight;
use hyper::rt::Executor;
use pin_project::pin_project;
use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll},
};

/// The executor of [`HttpService`](crate::service::HttpService): tasks of the tokio runtime.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpTasks(());

impl<F> Executor<F> for HttpTasks
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, future: F) {
        let tunnel = TUNNEL.take();
        tokio::spawn(Task { future, tunnel });
    }
}

/// Makes the next task that the current one spawns a part of the request: it is its tunnel.
pub(super) fn next_is_tunnel(in_flight: InFlight) {
    TUNNEL.set(Some(in_flight));
}

thread_local! {
    /// Set only while a [`Task`] is polled.
    static TUNNEL: Cell<Option<InFlight>> = const { Cell::new(None) };
}

#[pin_project]
struct Task<F> {
    #[pin]
    future: F,
    /// Held until the future has ended.
    tunnel: Option<InFlight>,
}

impl<F: Future> Future for Task<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        /// hyper may find the response unfit for a tunnel, or panic.
        struct Clear;
        impl Drop for Clear {
            fn drop(&mut self) {
                TUNNEL.set(None);
            }
        }
        let _clear = Clear;
        self.project().future.poll(cx)
    }
}
