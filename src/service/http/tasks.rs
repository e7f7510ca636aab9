//! Runs the tasks that hyper spawns for HTTP/2, and tracks the lifetime of tunnels.
//!
//! A successful response to CONNECT turns a stream into a tunnel that only hyper knows. The tunnel ends with
//! the task that hyper spawns for it, in the same poll in which it takes that response.

use super::activity::InFlight;
use hyper::rt::Executor;
use pin_project::pin_project;
use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll},
};

/// The executor of [`HttpService`](crate::service::HttpService), which spawns tokio tasks.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpTasks(());

impl<F> Executor<F> for HttpTasks
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, future: F) {
        let tunnel = TUNNEL.take();
        tokio::spawn(HttpTask { future, tunnel });
    }
}

/// Makes the next task that the current task spawns the tunnel of a request.
pub(super) fn next_is_tunnel(in_flight: InFlight) {
    TUNNEL.set(Some(in_flight));
}

thread_local! {
    /// Set only while an [`HttpTask`] is polled.
    static TUNNEL: Cell<Option<InFlight>> = const { Cell::new(None) };
}

#[pin_project]
struct HttpTask<F> {
    #[pin]
    future: F,
    /// Held until the future ends.
    tunnel: Option<InFlight>,
}

impl<F: Future> Future for HttpTask<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        /// Clears it if hyper rejects the response as a tunnel, or panics.
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
