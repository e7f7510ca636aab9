use super::{ConnectionLimitLayer, layer::LimitPolicy, limiter::QueuePlace};
use crate::{
    BoxError, Connection,
    connection::{ForcedClose, Phase},
    departure::poll_client_left,
    guard::Refusing,
    when_ready::WhenReady,
};
use pin_project::pin_project;
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Sleep, sleep},
};
use tower::Service;

/// Future of [`ConnectionLimit`](super::ConnectionLimit).
///
/// # Cancel safety
///
/// Dropping the future drops the connection. A waiting connection leaves the queue. A served one releases
/// its slot, unless the connection was moved to another task.
#[pin_project]
pub struct ConnectionLimitFuture<S: Service<Connection<IO>>, IO>(#[pin] LimitState<S, IO>);

/// The waiting states are boxed to keep the future small for connections that are served immediately.
#[pin_project(project = LimitStateProjection)]
enum LimitState<S: Service<Connection<IO>>, IO> {
    Served(#[pin] S::Future),
    Queued(Pin<Box<Queued<S, IO>>>),
    /// The connection got a slot after a wait.
    Admitted(Pin<Box<WhenReady<S, IO>>>),
    Refusing(Refusing),
}

impl<S: Service<Connection<IO>>, IO> ConnectionLimitFuture<S, IO> {
    pub(super) const fn served(future: S::Future) -> Self {
        Self(LimitState::Served(future))
    }

    pub(super) const fn refusing(refusing: Refusing) -> Self {
        Self(LimitState::Refusing(refusing))
    }

    pub(super) fn waiting(
        service: S,
        connection: Connection<IO>,
        place: QueuePlace,
        timeout: Duration,
        policy: Arc<LimitPolicy>,
    ) -> Self {
        let phase = connection.info().phase();
        connection.info().set_phase(Phase::Waiting);
        let closed = Box::pin(connection.info().closed());
        Self(LimitState::Queued(Box::pin(Queued {
            held: Some((service, connection)),
            place,
            timeout: sleep(timeout),
            closed,
            phase,
            policy,
        })))
    }
}

impl<S, IO> Future for ConnectionLimitFuture<S, IO>
where
    S: Service<Connection<IO>, Error: Into<BoxError>>,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = Result<S::Response, BoxError>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.as_mut().project().0.project() {
            LimitStateProjection::Served(future) => future.poll(cx).map_err(Into::into),
            _ => self.poll_waiting(cx),
        }
    }
}

impl<S, IO> ConnectionLimitFuture<S, IO>
where
    S: Service<Connection<IO>, Error: Into<BoxError>>,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// Out of line, so that the path of served connections remains small.
    #[cold]
    fn poll_waiting(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<S::Response, BoxError>> {
        let mut state = self.project().0;
        loop {
            let next = match state.as_mut().project() {
                LimitStateProjection::Served(future) => return future.poll(cx).map_err(Into::into),
                LimitStateProjection::Queued(waiting) => ready!(waiting.as_mut().poll_next(cx))?,
                LimitStateProjection::Admitted(admitted) => return admitted.as_mut().poll(cx),
                LimitStateProjection::Refusing(refusing) => {
                    let refused = ready!(Pin::new(refusing).poll(cx));
                    return Poll::Ready(Err(refused.into()));
                }
            };
            state.set(next);
        }
    }
}

impl<S: Service<Connection<IO>>, IO> fmt::Debug for ConnectionLimitFuture<S, IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.0 {
            LimitState::Served(_) => "Served",
            LimitState::Queued(_) => "Queued",
            LimitState::Admitted(_) => "Admitted",
            LimitState::Refusing(_) => "Refusing",
        };
        f.debug_tuple("ConnectionLimitFuture")
            .field(&format_args!("{state}"))
            .finish()
    }
}

/// A connection that waits for a slot, together with a service for it.
///
/// The service becomes ready after the wait, because readiness may hold a permit, such as a slot of another
/// limit.
#[pin_project]
struct Queued<S, IO> {
    held: Option<(S, Connection<IO>)>,
    place: QueuePlace,
    #[pin]
    timeout: Sleep,
    closed: Pin<Box<dyn Future<Output = ()> + Send>>,
    phase: Phase,
    policy: Arc<LimitPolicy>,
}

impl<S, IO> Queued<S, IO>
where
    S: Service<Connection<IO>>,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<LimitState<S, IO>, BoxError>> {
        let this = self.project();
        // Poll the slot first, so that a slot that arrives exactly at the timeout counts.
        let slot = match this.place.poll_slot(cx) {
            Poll::Ready(slot) => Some(slot),
            Poll::Pending => {
                let (_, connection) = this.held.as_mut().expect(WAITS);
                let end = match poll_client_left(connection, cx) {
                    Poll::Ready(left) => Poll::Ready(left.into()),
                    Poll::Pending => this
                        .closed
                        .as_mut()
                        .poll(cx)
                        .map(|()| ForcedClose::new().into()),
                };
                if let Poll::Ready(end) = end {
                    *this.held = None;
                    return Poll::Ready(Err(end));
                }
                ready!(this.timeout.poll(cx));
                None
            }
        };
        let (service, mut connection) = this.held.take().expect(WAITS);
        Poll::Ready(Ok(match slot {
            Some(slot) => {
                connection.info().set_phase(*this.phase);
                connection.hold_slot(slot);
                LimitState::Admitted(Box::pin(WhenReady::new(service, connection)))
            }
            None => {
                let reason = ConnectionLimitLayer::WAITED_TOO_LONG;
                LimitState::Refusing(this.policy.refuse(connection, reason))
            }
        }))
    }
}

const WAITS: &str = "the future holds the connection while it waits";
