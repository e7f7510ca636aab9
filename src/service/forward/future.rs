//! The future of a forwarded connection.

use super::{
    forwarding::{Closing, Ended, Forwarding},
    late::LateTuning,
    report::{ForwardError, Forwarded},
    service::ForwardSettings,
};
use crate::connect::phase;
use pin_project::pin_project;
use portcullis_middleware::{
    BoxError, Connection, ConnectionInfo,
    connection::{EndedBy, ForcedClose, UpstreamInfo},
    error::{Elapsed, Refused, Unreachable, find},
    io::Passthrough,
};
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep, sleep_until},
};
use tower::{Service, util::Oneshot};

/// Future of [`ForwardService`](super::ForwardService).
#[pin_project]
pub struct ForwardFuture<B, IO, BackendIo>(#[pin] State<B, IO, BackendIo>)
where
    B: Service<ConnectionInfo>;

#[pin_project(project = StateProjection)]
enum State<B: Service<ConnectionInfo>, IO, BackendIo> {
    /// In a box, because it is larger than the state in which most connections stay.
    Connecting(Pin<Box<Connecting<B, IO>>>),
    Forwarding(Forwarding<IO, BackendIo>),
    Closing(Closing, Option<Result<Forwarded, ForwardError>>),
    Finished,
}

#[pin_project]
struct Connecting<B: Service<ConnectionInfo>, IO> {
    /// `None` once the backend is connected to.
    waiting: Option<(Connection<IO>, Wait)>,
    #[pin]
    connect: Oneshot<B, ConnectionInfo>,
    settings: ForwardSettings,
}

impl<B: Service<ConnectionInfo>, IO, BackendIo> ForwardFuture<B, IO, BackendIo> {
    pub(super) fn new(backend: B, client: Connection<IO>, settings: ForwardSettings) -> Self {
        let connect = Oneshot::new(backend, client.info().clone());
        Self(State::Connecting(Box::pin(Connecting {
            waiting: Some((client, Wait::new(settings.connect))),
            connect,
            settings,
        })))
    }
}

impl<B, IO, BackendIo> Future for ForwardFuture<B, IO, BackendIo>
where
    B: Service<ConnectionInfo, Response = Connection<BackendIo>, Error: Into<BoxError>>,
    IO: AsyncRead + AsyncWrite + Passthrough + Unpin + Send + 'static,
    BackendIo: AsyncRead + AsyncWrite + Passthrough + Unpin + Send + 'static,
{
    type Output = Result<Forwarded, BoxError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().0;
        // Apart from the rest, because most polls are of this state and pending.
        let moved = match state.as_mut().project() {
            StateProjection::Forwarding(forwarding) => Some(ready!(forwarding.poll_move(cx))),
            _ => None,
        };
        state.poll_next(cx, moved)
    }
}

impl<B, IO, BackendIo> State<B, IO, BackendIo>
where
    B: Service<ConnectionInfo, Response = Connection<BackendIo>, Error: Into<BoxError>>,
    IO: AsyncRead + AsyncWrite + Passthrough + Unpin + Send + 'static,
    BackendIo: AsyncRead + AsyncWrite + Passthrough + Unpin + Send + 'static,
{
    /// Goes on after what [`Forwarding::poll_move`] has returned, if it was polled.
    #[inline(never)]
    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut moved: Option<Option<Box<Ended>>>,
    ) -> Poll<Result<Forwarded, BoxError>> {
        loop {
            let next = match self.as_mut().project() {
                StateProjection::Connecting(connecting) => {
                    match ready!(connecting.as_mut().poll(cx)) {
                        Ok(forwarding) => Self::Forwarding(forwarding),
                        Err(error) => {
                            self.set(Self::Finished);
                            return Poll::Ready(Err(error));
                        }
                    }
                }
                StateProjection::Forwarding(forwarding) => {
                    let moved = match moved.take() {
                        Some(moved) => moved,
                        None => ready!(forwarding.poll_move(cx)),
                    };
                    match ready!(forwarding.poll_end(cx, moved)) {
                        Ended::Closing(closing, result) => Self::Closing(closing, Some(result)),
                        Ended::Dropped(result) => {
                            self.set(Self::Finished);
                            return Poll::Ready(result.map_err(Into::into));
                        }
                    }
                }
                StateProjection::Closing(closing, result) => {
                    ready!(closing.as_mut().poll(cx));
                    let result = result.take().expect("the future ends once");
                    self.set(Self::Finished);
                    return Poll::Ready(result.map_err(Into::into));
                }
                StateProjection::Finished => panic!("`ForwardFuture` polled after completion"),
            };
            self.set(next);
        }
    }
}

impl<B, IO, BackendIo> Connecting<B, IO>
where
    B: Service<ConnectionInfo, Response = Connection<BackendIo>, Error: Into<BoxError>>,
    IO: Passthrough,
{
    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Forwarding<IO, BackendIo>, BoxError>> {
        let this = self.project();
        let (client, wait) = this.waiting.as_mut().expect(CONNECTS);
        let backend = match this.connect.poll(cx) {
            Poll::Ready(Ok(backend)) => backend,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(unreachable(error.into()))),
            Poll::Pending => return wait.poll(cx, client).map(Err),
        };
        record_upstream(client.info(), backend.info(), wait.begun.elapsed());
        let (client, wait) = this.waiting.take().expect(CONNECTS);
        let late = LateTuning::new(backend.info(), || wait.into_timer());
        let forwarding = Forwarding::new(client, backend, late, *this.settings);
        // Before the first read, because the server's clock wakes the task by the same waker.
        forwarding.watch(cx);
        Poll::Ready(Ok(forwarding))
    }
}

/// An error of the backend's connector. What already has an outcome of its own keeps it.
fn unreachable(error: BoxError) -> BoxError {
    let has_outcome = find::<Unreachable>(&*error).is_some() || find::<Refused>(&*error).is_some();
    if has_outcome {
        error
    } else {
        Unreachable::new().with_source(error).into()
    }
}

/// Records the backend, unless the connector has done it.
fn record_upstream(client: &ConnectionInfo, backend: &ConnectionInfo, connect_time: Duration) {
    if client.upstream().is_none() {
        let address = backend.socket_peer().clone();
        let upstream = UpstreamInfo::new(address.to_string(), address)
            .with_connect_time(connect_time)
            .with_connected_at(backend.accepted_at());
        client.set_upstream(upstream);
    }
}

/// Limits the time to connect, and after a moment also looks after the client.
struct Wait {
    begun: Instant,
    limit: Option<Duration>,
    timer: Pin<Box<Sleep>>,
    /// Resolves when the client is force-closed; set once the client is looked after.
    closed: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Wait {
    fn new(limit: Option<Duration>) -> Self {
        let begun = Instant::now();
        let first = limit.map_or(LOOK_AFTER, |limit| limit.min(LOOK_AFTER));
        Self {
            begun,
            limit,
            timer: Box::pin(sleep_until(begun + first)),
            closed: None,
        }
    }

    /// The timer, which fires after a moment.
    fn into_timer(mut self) -> Pin<Box<Sleep>> {
        if self.closed.is_some() {
            self.timer.as_mut().reset(Instant::now() + LOOK_AFTER);
        }
        self.timer
    }

    /// Ready with the reason once it is pointless to wait for the backend.
    fn poll<IO: Passthrough>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Connection<IO>,
    ) -> Poll<BoxError> {
        if client.info().is_forced() {
            return Poll::Ready(ForcedClose::new().into());
        }
        loop {
            if let Some(closed) = &mut self.closed {
                if let Poll::Ready(left) = client.poll_departure(cx) {
                    client.info().set_ended_by(EndedBy::Client);
                    return Poll::Ready(left.into());
                }
                if closed.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(ForcedClose::new().into());
                }
            }
            ready!(self.timer.as_mut().poll(cx));
            if let Some(limit) = self.limit
                && self.begun.elapsed() >= limit
            {
                let elapsed = Elapsed::new(phase::CONNECT, limit);
                return Poll::Ready(unreachable(elapsed.into()));
            }
            self.closed
                .get_or_insert_with(|| Box::pin(client.info().closed()));
            let end = self.limit.and_then(|limit| self.begun.checked_add(limit));
            let end = end.unwrap_or_else(|| Instant::now() + A_YEAR);
            self.timer.as_mut().reset(end);
        }
    }
}

impl<B: Service<ConnectionInfo>, IO, BackendIo> fmt::Debug for ForwardFuture<B, IO, BackendIo> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.0 {
            State::Connecting { .. } => "connecting",
            State::Forwarding(_) => "forwarding",
            State::Closing(..) => "closing",
            State::Finished => "finished",
        };
        f.debug_struct("ForwardFuture")
            .field("state", &state)
            .finish()
    }
}

/// Most backends are connected to by then, without a system call for the client and an allocation.
///
/// The server is not asked to keep a timer armed for it (`note_timer`): that would cost 330 instructions per round trip,
/// and the counters see no system call less.
const LOOK_AFTER: Duration = Duration::from_millis(250);

const A_YEAR: Duration = Duration::from_secs(60 * 60 * 24 * 365);

const CONNECTS: &str = "the client waits while the backend is connected to";
