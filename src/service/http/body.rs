//! The bodies of requests, which may not come too slowly, and of responses, which end an exchange.

use super::exchanges::InFlight;
use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project::pin_project;
use portcullis_middleware::{
    BoxError,
    error::{Elapsed, TimeoutPhase},
};
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// How slow the body of a request may come: a rate, after some time to begin with.
///
/// All the time for which the server waits for the body counts, and no other: it may wait for
/// `grace + received / rate`. A client that sends one byte now and then is cut soon after the grace; a handler
/// that does not ask for the body costs the client nothing. Bodies of gRPC and of the Connect protocol are
/// exempt: their messages have a pace of their own.
///
/// Same idea: `MinRequestBodyDataRate` in Kestrel, `MinRate` in Apache's `mod_reqtimeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyRate {
    per_second: u32,
    grace: Duration,
}

impl BodyRate {
    /// At least `bytes_per_second` on average, at least one, after `grace`.
    pub const fn new(bytes_per_second: u32, grace: Duration) -> Self {
        let per_second = match bytes_per_second {
            0 => 1,
            rate => rate,
        };
        Self { per_second, grace }
    }

    /// For how long `received` bytes may be waited for, all waits together.
    fn allows(self, received: u64) -> Duration {
        let earned = received.saturating_mul(1000) / u64::from(self.per_second);
        self.grace.saturating_add(Duration::from_millis(earned))
    }
}

/// The body of a request.
///
/// It fails with [`Elapsed`] (`RequestBody`) when it comes slower than its [`BodyRate`].
/// [`into_inner`](Self::into_inner) gives hyper's own type to a service that wants that:
///
/// ```
/// use http::{Request, Response};
/// use hyper::body::Incoming;
/// use portcullis::service::{HttpService, http::RequestBody};
/// use tower::{ServiceBuilder, service_fn};
///
/// async fn hello(request: Request<Incoming>) -> Result<Response<String>, hyper::Error> {
///     Ok(Response::new(format!("Hello from {}!", request.uri())))
/// }
///
/// let service = ServiceBuilder::new()
///     .map_request(|request: Request<RequestBody>| request.map(RequestBody::into_inner))
///     .service_fn(hello);
/// let end_of_stack = HttpService::new(service);
/// ```
pub struct RequestBody {
    incoming: Incoming,
    /// In a box, and only where there is a body: most requests have none, and are moved often.
    pace: Option<Box<Pace>>,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, rate: Option<BodyRate>) -> Self {
        let rate = rate.filter(|_| !incoming.is_end_stream());
        Self {
            incoming,
            pace: rate.map(|rate| Box::new(Pace::new(rate))),
        }
    }

    /// hyper's own body, without a bound on how slow it may come.
    pub fn into_inner(self) -> Incoming {
        self.incoming
    }

    fn has_failed(&self) -> bool {
        self.pace.as_ref().is_some_and(|pace| pace.failed)
    }
}

/// How fast a body came so far.
struct Pace {
    rate: BodyRate,
    received: u64,
    /// Waits that are over, all together.
    waited: Duration,
    /// The wait that goes on.
    since: Option<Instant>,
    /// Set at the first wait.
    deadline: Option<Pin<Box<Sleep>>>,
    failed: bool,
}

impl Pace {
    const fn new(rate: BodyRate) -> Self {
        Self {
            rate,
            received: 0,
            waited: Duration::ZERO,
            since: None,
            deadline: None,
            failed: false,
        }
    }

    fn note(&mut self, data: &Bytes) {
        self.received = self.received.saturating_add(data.len() as u64);
    }

    fn wait_is_over(&mut self) {
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
    }

    /// Called where the body has to be waited for; ready when that was for too long.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<Elapsed> {
        let allowed = self.rate.allows(self.received);
        if self.since.is_none() {
            let now = Instant::now();
            self.since = Some(now);
            let left = allowed.saturating_sub(self.waited);
            // A time that cannot be told is as good as for ever.
            let Some(deadline) = now.checked_add(left) else {
                self.deadline = None;
                return Poll::Pending;
            };
            match &mut self.deadline {
                Some(sleep) => sleep.as_mut().reset(deadline),
                None => self.deadline = Some(Box::pin(sleep_until(deadline))),
            }
        }
        let Some(deadline) = &mut self.deadline else {
            return Poll::Pending;
        };
        ready!(deadline.as_mut().poll(cx));
        self.failed = true;
        Poll::Ready(Elapsed::new(TimeoutPhase::RequestBody, allowed))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.has_failed() {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        let polled = Pin::new(&mut this.incoming).poll_frame(cx);
        let Some(pace) = &mut this.pace else {
            return polled.map_err(Into::into);
        };
        let Poll::Ready(frame) = polled else {
            return pace.poll_wait(cx).map(|elapsed| Some(Err(elapsed.into())));
        };
        pace.wait_is_over();
        if let Some(data) = frame.as_ref().and_then(|f| f.as_ref().ok()?.data_ref()) {
            pace.note(data);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.has_failed() || self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.has_failed() {
            true => SizeHint::with_exact(0),
            false => self.incoming.size_hint(),
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody")
            .field("incoming", &self.incoming)
            .field("rate", &self.pace.as_ref().map(|pace| pace.rate))
            .finish_non_exhaustive()
    }
}

/// The body of a response, at whose end the request is no longer in flight.
#[pin_project]
#[derive(Debug)]
pub(super) struct ResponseBody<B> {
    #[pin]
    body: B,
    _in_flight: InFlight,
}

impl<B> ResponseBody<B> {
    pub(super) const fn new(body: B, in_flight: InFlight) -> Self {
        Self {
            body,
            _in_flight: in_flight,
        }
    }
}

impl<B: Body<Data: Buf>> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
