//! Turns panics of the inner service into errors.
//!
//! Panics are caught in `call`, in every poll of the returned future, and in the drop of that future.
//!
//! The layer is for custom accept loops. The server of the package `portcullis` catches panics at its task
//! boundary, and [`OnErrorLayer`](crate::handler::OnErrorLayer) catches those of the stack inside of it.
//!
//! # Position in the stack
//!
//! Anywhere, because the layer accepts any request type.
//!
//! # Errors and outcomes
//!
//! The error is [`Panicked`], inside a [`BoxError`]; the outcome is
//! [`Panicked`](crate::outcome::Outcome::Panicked). A panic in `poll_ready` becomes the error of `poll_ready`.
//! After that the service must not be used again, as tower's contract requires, so an accept loop ends with an
//! error instead of unwinding.
//!
//! # Cancellation and drop
//!
//! Before the future resolves with the error, it drops the inner future. By then the connection is closed and its
//! guards are released.
//!
//! # Limitations
//!
//! Panics must unwind; the layer has no effect in programs built with `panic = "abort"`. It does not log the
//! panic, which the panic hook does. State shared between connections stays as the panic left it.
//!
//! # Performance
//!
//! The layer allocates only after a panic. Each poll runs inside `catch_unwind`.
//!
//! # Example
//! ```
//! use portcullis_middleware::{Connection, handler::CatchPanicLayer, error::Panicked};
//! use tower::{Service, ServiceBuilder};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let mut stack = ServiceBuilder::new()
//!     .layer(CatchPanicLayer::new())
//!     .service_fn(|connection: Connection<_>| async move {
//!         let peer = connection.peer_addr().expect("only TCP clients");
//!         std::io::Result::Ok(peer)
//!     });
//!
//! let (ours, _theirs) = tokio::io::duplex(64);
//! let error = stack.call(Connection::accept(ours)).await.unwrap_err();
//!
//! let panicked = error.downcast_ref::<Panicked>().expect("it panicked");
//! assert_eq!(panicked.message(), "only TCP clients");
//! # }
//! ```

use crate::error::{BoxError, Panicked};
use pin_project::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tower::{Layer, Service};

/// Layer for [`CatchPanic`]; see the [module docs](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct CatchPanicLayer(());

impl CatchPanicLayer {
    /// Catches every panic of the inner service.
    pub const fn new() -> Self {
        Self(())
    }
}

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanic<S>;

    fn layer(&self, inner: S) -> CatchPanic<S> {
        CatchPanic { inner }
    }
}

/// Fails with [`Panicked`] if `S` panics.
#[derive(Clone, Copy, Debug)]
pub struct CatchPanic<S> {
    inner: S,
}

impl<S, Request> Service<Request> for CatchPanic<S>
where
    S: Service<Request, Error: Into<BoxError>>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = CatchPanicFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match Panicked::catch(|| self.inner.poll_ready(cx)) {
            Ok(polled) => polled.map_err(Into::into),
            Err(panicked) => Poll::Ready(Err(panicked.into())),
        }
    }

    fn call(&mut self, request: Request) -> Self::Future {
        CatchPanicFuture::new(|| self.inner.call(request))
    }
}

/// Future of [`CatchPanic`]. It drops the inner future before it resolves.
#[pin_project]
#[derive(Debug)]
pub struct CatchPanicFuture<F> {
    #[pin]
    state: CatchPanicState<F>,
}

#[pin_project(project = CatchPanicStateProj)]
#[derive(Debug)]
enum CatchPanicState<F> {
    Running(#[pin] F),
    /// `call` panicked. In a box, which makes the future smaller.
    Panicked(Box<Panicked>),
    Done,
}

impl<F> CatchPanicFuture<F> {
    pub(crate) fn new(call: impl FnOnce() -> F) -> Self {
        let state = match Panicked::catch(call) {
            Ok(future) => CatchPanicState::Running(future),
            Err(panicked) => CatchPanicState::Panicked(Box::new(panicked)),
        };
        Self { state }
    }
}

impl<F, T, E> Future for CatchPanicFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = match self.as_mut().project().state.project() {
            CatchPanicStateProj::Running(inner) => Panicked::catch(|| inner.poll(cx)),
            CatchPanicStateProj::Panicked(panicked) => Err(Panicked::clone(panicked)),
            CatchPanicStateProj::Done => {
                panic!("`CatchPanicFuture` polled after completion")
            }
        };
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(result)) => Poll::Ready(self.end(result.map_err(Into::into))),
            Err(panicked) => Poll::Ready(self.end(Err(panicked.into()))),
        }
    }
}

impl<F> CatchPanicFuture<F> {
    /// Closes the connection before the caller sees the error. Out of line, because a future is polled more often.
    #[inline(never)]
    fn end<T>(self: Pin<&mut Self>, result: Result<T, BoxError>) -> Result<T, BoxError> {
        let mut state = self.project().state;
        // This drop can panic as well.
        let dropped = Panicked::catch(|| state.set(CatchPanicState::Done));
        result.and_then(|response| {
            dropped?;
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Connection;
    use std::{
        convert::Infallible,
        future::{Ready, ready},
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
    };
    use tokio::io::{AsyncReadExt, duplex};
    use tokio_test::{assert_pending, assert_ready, assert_ready_eq, task};
    use tower::service_fn;

    static_assertions::assert_impl_all!(CatchPanicFuture<Ready<Result<(), BoxError>>>: Send, Unpin);

    fn caught<S>(service: S) -> CatchPanic<S> {
        CatchPanicLayer::new().layer(service)
    }

    fn message<T>(result: Result<T, BoxError>) -> String {
        let error = result.err().expect("a panic");
        error.downcast::<Panicked>().unwrap().message().to_owned()
    }

    #[tokio::test]
    async fn a_panic_in_call_is_an_error_and_the_service_lives_on() {
        let mut service = caught(service_fn(|number: u8| {
            assert_ne!(number, 1, "one");
            ready(Ok::<_, Infallible>(number))
        }));
        assert!(message(service.call(1).await).ends_with("one\n  left: 1\n right: 1"));
        assert_eq!(service.call(2).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_panic_in_a_later_poll_closes_the_connection_before_the_error_is_seen() {
        let mut service = caught(service_fn(|mut connection: Connection<_>| async move {
            let byte = connection.read_u8().await?;
            panic!("got {byte}");
            #[expect(unreachable_code, reason = "names the result")]
            std::io::Result::Ok(())
        }));
        let (ours, mut theirs) = duplex(8);
        let mut connection = Connection::accept(ours);
        let guard = Arc::new(());
        connection.hold(guard.clone());

        let mut future = task::spawn(service.call(connection));
        assert_pending!(future.poll());
        tokio::io::AsyncWriteExt::write_u8(&mut theirs, 7)
            .await
            .unwrap();
        assert_eq!(message(assert_ready!(future.poll())), "got 7");

        assert_eq!(Arc::strong_count(&guard), 1);
        let mut read = task::spawn(theirs.read_u8());
        assert!(assert_ready!(read.poll()).is_err(), "the end of the stream");
    }

    /// Panics on drop, after `polls` polls.
    struct Bomb {
        polls: usize,
        answer: fn() -> Result<u8, BoxError>,
        drops: Arc<AtomicUsize>,
    }

    impl Future for Bomb {
        type Output = Result<u8, BoxError>;

        fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
            match self.polls.checked_sub(1) {
                Some(left) => self.polls = left,
                None => return Poll::Ready((self.answer)()),
            }
            Poll::Pending
        }
    }

    impl Drop for Bomb {
        fn drop(&mut self) {
            self.drops.fetch_add(1, Relaxed);
            panic!("in drop");
        }
    }

    #[track_caller]
    fn explode(answer: fn() -> Result<u8, BoxError>) -> Result<u8, BoxError> {
        let drops = Arc::new(AtomicUsize::new(0));
        let (polls, bomb_drops) = (1, drops.clone());
        let mut service = caught(service_fn(move |()| Bomb {
            polls,
            answer,
            drops: bomb_drops.clone(),
        }));
        let mut future = task::spawn(service.call(()));
        assert_pending!(future.poll());
        let result = assert_ready!(future.poll());
        drop(future);
        assert_eq!(drops.load(Relaxed), 1, "dropped once");
        result
    }

    #[test]
    fn a_panic_in_the_drop_is_caught_and_the_first_failure_tells() {
        assert_eq!(message(explode(|| panic!("in poll"))), "in poll");
        assert_eq!(message(explode(|| Ok(1))), "in drop");
        assert_eq!(
            explode(|| Err("its own".into())).unwrap_err().to_string(),
            "its own"
        );
    }

    #[test]
    fn what_does_not_panic_passes_untouched() {
        let (service, mut handle) = tower_test::mock::pair::<u8, u8>();
        let mut service = task::spawn(caught(service));
        handle.allow(0);
        assert!(
            service
                .enter(|cx, mut service| service.poll_ready(cx))
                .is_pending()
        );
        handle.allow(2);
        for error in [false, true] {
            assert!(assert_ready!(service.enter(|cx, mut service| service.poll_ready(cx))).is_ok());
            let mut future = task::spawn(service.call(3));
            assert_pending!(future.poll());
            let mut requests = task::spawn(handle.next_request());
            let (request, answer) = assert_ready!(requests.poll()).unwrap();
            assert_eq!(request, 3);
            drop(requests);
            if error {
                answer.send_error("no");
                assert_eq!(assert_ready!(future.poll()).unwrap_err().to_string(), "no");
            } else {
                answer.send_response(4);
                assert_ready_eq!(future.poll().map(Result::unwrap), 4);
            }
        }
    }

    #[test]
    fn a_panic_in_poll_ready_is_its_error() {
        struct Unready;
        impl Service<()> for Unready {
            type Response = ();
            type Error = Infallible;
            type Future = Ready<Result<(), Infallible>>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                panic!("not ready");
            }

            fn call(&mut self, (): ()) -> Self::Future {
                ready(Ok(()))
            }
        }
        let mut service = caught(Unready);
        let polled = service.poll_ready(&mut Context::from_waker(std::task::Waker::noop()));
        assert_eq!(message(assert_ready!(polled)), "not ready");
    }
}
