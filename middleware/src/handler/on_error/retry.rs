//! The variant whose handler may retry.

use super::{Lent, OnError, lend::lend};
use crate::{BoxError, Connection, handler::catch_panic::CatchPanicFuture, when_ready::take_ready};
use std::{
    ops::ControlFlow,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::task::yield_now;
use tower::{Service, ServiceExt};

/// Marks a handler that may retry; see
/// [`OnErrorLayer::with_retry`](super::OnErrorLayer::with_retry).
#[derive(Clone, Copy, Debug)]
pub struct Retry<H>(pub(super) H);

impl<S, H, IO, Fut> Service<Connection<IO>> for OnError<S, Retry<H>>
where
    S: Service<Connection<Lent<IO>>, Error: Into<BoxError>, Response: Send, Future: Send>
        + Clone
        + Send
        + 'static,
    H: Fn(BoxError, Option<Connection<IO>>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<ControlFlow<S::Response, Connection<IO>>, BoxError>> + Send,
    IO: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut connection: Connection<IO>) -> Self::Future {
        let mut ready = take_ready(&mut self.inner);
        let Retry(handler) = self.handler.clone();
        // A loop instead of recursion, because the peer determines the number of errors.
        Box::pin(async move {
            loop {
                let (lent, lender) = lend(connection);
                let served = CatchPanicFuture::new(|| ready.call(lent)).await;
                let Err(error) = served else { return served };
                let connection_back = lender.take_back(&error);
                match handler(error, connection_back).await? {
                    ControlFlow::Break(response) => return Ok(response),
                    ControlFlow::Continue(back) => connection = back,
                }
                // The service may fail without waiting. Yield, so that other tasks run and a timeout
                // or an abort can end this.
                yield_now().await;
                ready.ready().await.map_err(Into::into)?;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::OnErrorLayer;
    use super::*;
    use crate::{connection::Socket, error::Panicked};
    use std::{
        future::{Ready, ready},
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
    };
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio_test::{assert_pending, assert_ready, task};
    use tower::{Layer, ServiceBuilder};

    type Io = Socket<DuplexStream>;

    fn in_memory() -> (Connection<Io>, DuplexStream) {
        let (ours, theirs) = duplex(64);
        (Connection::accept(ours), theirs)
    }

    #[tokio::test]
    async fn the_same_connection_is_served_again_after_an_error_and_a_panic() {
        let stack = ServiceBuilder::new()
            .layer(OnErrorLayer::with_retry(|error, connection| async move {
                let mut connection: Connection<_> = connection.expect("it came back");
                let failures = connection.extensions().get().copied().unwrap_or(0) + 1;
                connection.extensions_mut().insert(failures);
                Ok(match failures {
                    1 => {
                        assert!(!error.is::<Panicked>());
                        ControlFlow::Continue(connection)
                    }
                    2 => {
                        assert!(error.is::<Panicked>());
                        ControlFlow::Continue(connection)
                    }
                    _ => ControlFlow::Break(failures),
                })
            }))
            .service_fn(|mut connection: Connection<_>| async move {
                let byte = connection.read_u8().await?;
                assert_ne!(byte, b'!');
                Err::<u32, BoxError>("no".into())
            });
        let (mut connection, mut client) = in_memory();
        let guard = Arc::new(());
        connection.hold(guard.clone());
        client.write_all(b".!.").await.unwrap();
        assert_eq!(stack.oneshot(connection).await.unwrap(), 3);
        assert_eq!(Arc::strong_count(&guard), 1);
    }

    /// Retries after every error except a panic.
    fn go_on<IO>(
        error: BoxError,
        connection: Option<Connection<IO>>,
    ) -> Ready<Result<ControlFlow<(), Connection<IO>>, BoxError>> {
        let connection = connection.filter(|_| !error.is::<Panicked>());
        ready(connection.map(ControlFlow::Continue).ok_or(error))
    }

    #[tokio::test]
    async fn any_number_of_errors_needs_no_more_stack_than_one() {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = calls.clone();
        let stack = ServiceBuilder::new()
            .layer(OnErrorLayer::with_retry(go_on))
            .service_fn(move |_: Connection<_>| {
                let is_last = count.fetch_add(1, Relaxed) == 100_000;
                ready(is_last.then_some(()).ok_or("no"))
            });
        stack.oneshot(in_memory().0).await.unwrap();
        assert_eq!(calls.load(Relaxed), 100_001);
    }

    #[test]
    fn a_service_that_fails_without_waiting_gives_others_a_turn() {
        let mut stack = ServiceBuilder::new()
            .layer(OnErrorLayer::with_retry(go_on))
            .service_fn(|_: Connection<_>| ready(Err::<(), _>("no")));
        let (connection, mut client) = in_memory();
        let mut future = task::spawn(stack.call(connection));
        for _ in 0..3 {
            assert_pending!(future.poll());
            assert!(future.is_woken());
        }
        drop(future);
        assert!(assert_ready!(task::spawn(client.read_u8()).poll()).is_err());
    }

    #[test]
    fn each_call_waits_until_the_inner_service_is_ready() {
        let (inner, mut handle) = tower_test::mock::pair::<Connection<Lent<Io>>, ()>();
        let mut service = task::spawn(OnErrorLayer::with_retry(go_on).layer(inner));
        handle.allow(1);
        assert_ready!(service.enter(|cx, mut service| service.poll_ready(cx))).unwrap();
        let mut future = task::spawn(service.call(in_memory().0));
        for fails in [true, false] {
            assert_pending!(future.poll());
            let request = assert_ready!(task::spawn(handle.next_request()).poll());
            let (connection, answer) = request.unwrap();
            drop(connection);
            if fails {
                answer.send_error("no");
                assert_pending!(future.poll()); // yields to other tasks
                assert_pending!(future.poll());
                assert_pending!(task::spawn(handle.next_request()).poll());
                handle.allow(1);
            } else {
                answer.send_response(());
            }
        }
        assert_ready!(future.poll()).unwrap();
    }
}
