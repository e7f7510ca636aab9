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
    task::{Context, Poll},
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
    rate: Option<BodyRate>,
    received: u64,
    waits: Option<Pin<Box<Waits>>>,
    failed: bool,
}

/// The times for which a body was waited for.
#[pin_project]
struct Waits {
    waited: Duration,
    since: Option<Instant>,
    #[pin]
    sleep: Sleep,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, rate: Option<BodyRate>) -> Self {
        Self {
            incoming,
            rate,
            received: 0,
            waits: None,
            failed: false,
        }
    }

    /// hyper's own body, without a bound on how slow it may come.
    pub fn into_inner(self) -> Incoming {
        self.incoming
    }

    fn note(&mut self, frame: &Frame<Bytes>) {
        let data = frame.data_ref().map_or(0, Bytes::len);
        self.received = self.received.saturating_add(data as u64);
    }

    /// Called where the body has to be waited for: whether it was for too long.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<Elapsed> {
        let Some(rate) = self.rate else {
            return Poll::Pending;
        };
        let allowed = rate.allows(self.received);
        let waits = self.waits.get_or_insert_with(|| {
            Box::pin(Waits {
                waited: Duration::ZERO,
                since: None,
                sleep: sleep_until(Instant::now()),
            })
        });
        let mut waits = waits.as_mut().project();
        if waits.since.is_none() {
            let now = Instant::now();
            *waits.since = Some(now);
            let left = allowed.saturating_sub(*waits.waited);
            // A time that cannot be told is as good as for ever.
            let Some(deadline) = now.checked_add(left) else {
                return Poll::Pending;
            };
            waits.sleep.as_mut().reset(deadline);
        }
        let elapsed = |()| Elapsed::new(TimeoutPhase::RequestBody, allowed);
        waits.sleep.poll(cx).map(elapsed)
    }

    fn wait_is_over(&mut self) {
        if let Some(waits) = &mut self.waits {
            let waits = waits.as_mut().project();
            if let Some(since) = waits.since.take() {
                *waits.waited += since.elapsed();
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.wait_is_over();
                if let Some(Ok(frame)) = &frame {
                    self.note(frame);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => self.poll_too_slow(cx).map(|elapsed| {
                self.failed = true;
                Some(Err(elapsed.into()))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.failed || self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.failed {
            true => SizeHint::with_exact(0),
            false => self.incoming.size_hint(),
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody")
            .field("incoming", &self.incoming)
            .field("rate", &self.rate)
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
