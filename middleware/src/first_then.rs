//! Does something with a connection first, such as a handshake, and then calls the inner service.

use crate::{BoxError, Connection, error::Refused, when_ready::WhenReady};
use pin_project::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower::Service;

/// The first step, which returns the connection that the inner service receives.
///
/// It has its own allocation, which is freed before the inner service is called. Its buffers therefore do not
/// enlarge the future of a connection that is being served.
pub(crate) type FirstStep<IO> =
    Pin<Box<dyn Future<Output = Result<Connection<IO>, BoxError>> + Send>>;

/// Future of a layer that waits for the client and then calls `S`, once it is ready.
///
/// Such a layer is always ready. This future asks `S` for readiness after the first step; see
/// [`when_ready`](crate::when_ready).
#[pin_project]
pub(crate) struct FirstThen<S: Service<Connection<IO>>, IO>(#[pin] FirstThenState<S, IO>);

#[pin_project(project = FirstThenStateProjection)]
enum FirstThenState<S: Service<Connection<IO>>, IO> {
    First {
        first: FirstStep<IO>,
        inner: Option<S>,
    },
    Serving(#[pin] WhenReady<S, IO>),
    Rejected(Option<Refused>),
}

impl<S: Service<Connection<IO>>, IO> FirstThen<S, IO> {
    /// Runs `first`, then calls `inner` with its connection.
    pub(crate) const fn new(first: FirstStep<IO>, inner: S) -> Self {
        let inner = Some(inner);
        Self(FirstThenState::First { first, inner })
    }

    /// Calls `inner` without a first step.
    pub(crate) const fn serve(connection: Connection<IO>, inner: S) -> Self {
        Self(FirstThenState::Serving(WhenReady::new(inner, connection)))
    }

    /// Fails without calling the inner service.
    pub(crate) const fn reject(refused: Refused) -> Self {
        Self(FirstThenState::Rejected(Some(refused)))
    }

    /// Name of the current state for `Debug` output; `first` is that of the first step.
    pub(crate) const fn state(&self, first: &'static str) -> &'static str {
        match self.0 {
            FirstThenState::First { .. } => first,
            FirstThenState::Serving(_) => "serving",
            FirstThenState::Rejected(_) => "refused",
        }
    }
}

impl<S, IO> Future for FirstThen<S, IO>
where
    S: Service<Connection<IO>, Error: Into<BoxError>>,
    IO: 'static,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().0;
        loop {
            match state.as_mut().project() {
                FirstThenStateProjection::First { first, inner } => {
                    let connection = ready!(first.as_mut().poll(cx))?;
                    let inner = inner
                        .take()
                        .expect("polled again after the first step failed");
                    state.set(FirstThenState::Serving(WhenReady::new(inner, connection)));
                }
                FirstThenStateProjection::Serving(serving) => return serving.poll(cx),
                FirstThenStateProjection::Rejected(refused) => {
                    let refused = refused.take().expect("polled again after it failed");
                    return Poll::Ready(Err(refused.into()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Socket;
    use std::{future::ready, io, sync::Arc};
    use tokio::io::{DuplexStream, duplex};
    use tokio::sync::oneshot;
    use tokio_test::{assert_pending, assert_ready, task};
    use tower_test::mock;

    type Io = Socket<DuplexStream>;
    type Inner = mock::Mock<Connection<Io>, u8>;

    fn connection() -> Connection<Io> {
        Connection::accept(duplex(8).0)
    }

    #[test]
    fn the_inner_service_is_asked_for_readiness_after_the_first_step() {
        let (inner, mut handle) = mock::pair::<Connection<Io>, u8>();
        let (done, wait) = oneshot::channel();
        handle.allow(0);
        let first = Box::pin(async { Ok(wait.await?) });
        let mut future = task::spawn(FirstThen::new(first, inner));
        assert_pending!(future.poll());
        assert_eq!(future.state("waiting"), "waiting");
        done.send(connection()).unwrap();
        assert!(future.is_woken());
        assert_pending!(future.poll());
        assert_eq!(future.state("waiting"), "serving");
        handle.allow(1);
        assert_pending!(future.poll());
        let request = assert_ready!(task::spawn(handle.next_request()).poll());
        request.unwrap().1.send_response(7);
        assert_eq!(assert_ready!(future.poll()).unwrap(), 7);
    }

    #[test]
    fn the_first_step_is_freed_before_the_connection_is_served() {
        let (inner, mut handle) = mock::pair::<Connection<Io>, u8>();
        let buffer = Arc::new(());
        let used = buffer.clone();
        let first = Box::pin(async move {
            tokio::task::yield_now().await;
            let _used = used;
            Ok(connection())
        });
        handle.allow(1);
        let mut future = task::spawn(FirstThen::new(first, inner));
        assert_pending!(future.poll());
        assert_eq!(Arc::strong_count(&buffer), 2);
        assert_pending!(future.poll());
        assert_eq!(future.state("waiting"), "serving");
        assert_eq!(Arc::strong_count(&buffer), 1);
    }

    #[test]
    fn a_first_step_that_fails_and_a_rejection_do_not_reach_the_inner_service() {
        let (inner, mut handle) = mock::pair::<Connection<Io>, u8>();
        handle.allow(1);
        let first = Box::pin(ready(Err(io::Error::from(io::ErrorKind::TimedOut).into())));
        let mut failed = task::spawn(FirstThen::new(first, inner.clone()));
        assert!(assert_ready!(failed.poll()).unwrap_err().is::<io::Error>());
        let refused = Refused::new("first_then", "untrusted source");
        let mut rejected = task::spawn(FirstThen::<Inner, Io>::reject(refused));
        assert_eq!(rejected.state("waiting"), "refused");
        assert!(assert_ready!(rejected.poll()).unwrap_err().is::<Refused>());
        drop((failed, rejected, inner));
        assert!(assert_ready!(task::spawn(handle.next_request()).poll()).is_none());
    }

    #[test]
    fn a_connection_without_a_first_step_is_served_right_away() {
        let (inner, mut handle) = mock::pair::<Connection<Io>, u8>();
        handle.allow(1);
        let mut future = task::spawn(FirstThen::serve(connection(), inner));
        assert_pending!(future.poll());
        assert!(assert_ready!(task::spawn(handle.next_request()).poll()).is_some());
    }

    #[test]
    fn it_is_as_large_as_the_wait_for_the_inner_service() {
        assert_eq!(
            size_of::<FirstThen<Inner, Io>>(),
            size_of::<WhenReady<Inner, Io>>()
        );
    }
}
