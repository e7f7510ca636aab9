use super::{ConnectionLimitLayer, layer::Policy, limiter::Place, refusal::Refusing};
use crate::{
    BoxError, Connection,
    connection::{ForcedClose, Phase},
    departure::poll_client_left,
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
/// Dropping it drops the connection. One that waited leaves the queue, one that was served frees its
/// slot unless the connection was moved elsewhere.
#[pin_project]
pub struct ConnectionLimitFuture<S: Service<Connection<IO>>, IO>(#[pin] State<S, IO>);

/// What waits is boxed: the plain way, which most take, shall not be larger for it.
#[pin_project(project = StateProjection)]
enum State<S: Service<Connection<IO>>, IO> {
    Served(#[pin] S::Future),
    Queued(Pin<Box<Queued<S, IO>>>),
    /// It has a slot after a wait.
    Admitted(Pin<Box<WhenReady<S, IO>>>),
    Refusing(Refusing),
}

impl<S: Service<Connection<IO>>, IO> ConnectionLimitFuture<S, IO> {
    pub(super) const fn served(future: S::Future) -> Self {
        Self(State::Served(future))
    }

    pub(super) const fn refusing(refusing: Refusing) -> Self {
        Self(State::Refusing(refusing))
    }

    pub(super) fn waiting(
        service: S,
        connection: Connection<IO>,
        place: Place,
        bound: Duration,
        policy: Arc<Policy>,
    ) -> Self {
        let phase = connection.info().phase();
        connection.info().set_phase(Phase::Waiting);
        let closed = Box::pin(connection.info().closed());
        Self(State::Queued(Box::pin(Queued {
            held: Some((service, connection)),
            place,
            bound: sleep(bound),
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

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().0;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Served(future) => return future.poll(cx).map_err(Into::into),
                StateProjection::Queued(waiting) => ready!(waiting.as_mut().poll_next(cx))?,
                StateProjection::Admitted(admitted) => return admitted.as_mut().poll(cx),
                StateProjection::Refusing(refusing) => {
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
            State::Served(_) => "Served",
            State::Queued(_) => "Queued",
            State::Admitted(_) => "Admitted",
            State::Refusing(_) => "Refusing",
        };
        f.debug_tuple("ConnectionLimitFuture")
            .field(&format_args!("{state}"))
            .finish()
    }
}

/// A connection that waits for a slot, together with a service for it.
///
/// The service need not be ready: what it reserves by that, a slot of another limit for example, would be held
/// through the wait.
#[pin_project]
struct Queued<S, IO> {
    held: Option<(S, Connection<IO>)>,
    place: Place,
    #[pin]
    bound: Sleep,
    closed: Pin<Box<dyn Future<Output = ()> + Send>>,
    phase: Phase,
    policy: Arc<Policy>,
}

impl<S, IO> Queued<S, IO>
where
    S: Service<Connection<IO>>,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<State<S, IO>, BoxError>> {
        let this = self.project();
        // The slot first: one that comes at the very bound is in time.
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
                ready!(this.bound.poll(cx));
                None
            }
        };
        let (service, mut connection) = this.held.take().expect(WAITS);
        Poll::Ready(Ok(match slot {
            Some(slot) => {
                connection.info().set_phase(*this.phase);
                connection.hold_slot(slot);
                State::Admitted(Box::pin(WhenReady::new(service, connection)))
            }
            None => {
                let reason = ConnectionLimitLayer::WAITED_TOO_LONG;
                let Policy {
                    limiter, refusal, ..
                } = &**this.policy;
                State::Refusing(refusal.refuse(connection, limiter, reason))
            }
        }))
    }
}

const WAITS: &str = "the connection is there while it waits";
