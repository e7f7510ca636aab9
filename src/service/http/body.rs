//! Request bodies with a minimum data rate, and response bodies that mark the end of a request.

use super::{activity::InFlight, phase};
use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project::pin_project;
use portcullis_middleware::{BoxError, error::Elapsed};
use std::{
    fmt,
    io::IoSlice,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// Minimum data rate for request bodies, after a grace period.
///
/// Only the time in which the server waits for the body counts. It may wait for `grace + received / rate` in
/// total. A client that sends single bytes now and then fails soon after the grace period. A handler that
/// does not read the body costs the client no time. (A handler that reads, does something else and reads
/// again has also waited in between, unless that took longer than the remaining time.) Streams of messages
/// over gRPC or the Connect protocol can be [exempted](crate::service::HttpService::with_streaming_calls).
///
/// Prior art: `MinRequestBodyDataRate` in Kestrel, `MinRate` in Apache's `mod_reqtimeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyRate {
    per_second: u32,
    grace: Duration,
}

impl BodyRate {
    /// At least `bytes_per_second` on average (1 or more), after `grace`.
    pub const fn new(bytes_per_second: u32, grace: Duration) -> Self {
        let per_second = match bytes_per_second {
            0 => 1,
            rate => rate,
        };
        Self { per_second, grace }
    }

    /// How long the server may wait in total after `received` bytes.
    fn allows(self, received: u64) -> Duration {
        let earned = received.saturating_mul(1000) / u64::from(self.per_second);
        self.grace.saturating_add(Duration::from_millis(earned))
    }
}

/// The body of a request.
///
/// It fails with [`Elapsed`] ([`REQUEST_BODY`](super::phase::REQUEST_BODY)) if it arrives slower than its [`BodyRate`].
/// [`into_inner`](Self::into_inner) returns hyper's own type for a service that takes that:
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
    /// Boxed, and only until the end of the body, because most requests have an empty body and are moved
    /// often.
    arrival: Option<Box<Arrival>>,
}

/// The arrival of a body.
struct Arrival {
    rate: Option<BodyRate>,
    received: u64,
    waits: Option<Pin<Box<Waits>>>,
    failed: bool,
    _in_flight: InFlight,
}

/// The times in which the server waited for a body.
#[pin_project]
struct Waits {
    waited: Duration,
    since: Option<Instant>,
    /// Whether it was already treated as abandoned once.
    renewed: bool,
    #[pin]
    sleep: Sleep,
}

impl RequestBody {
    #[inline]
    pub(super) fn new(incoming: Incoming, rate: Option<&BodyRate>, in_flight: &InFlight) -> Self {
        let arrival = match incoming.is_end_stream() {
            true => None,
            false => Some(Arrival::boxed(rate, in_flight)),
        };
        Self { incoming, arrival }
    }

    /// Returns hyper's own body, without a minimum rate.
    ///
    /// After the response, the rest of it no longer belongs to a request, so the connection counts as idle.
    pub fn into_inner(self) -> Incoming {
        self.incoming
    }

    fn has_failed(&self) -> bool {
        self.arrival.as_ref().is_some_and(|arrival| arrival.failed)
    }
}

impl Arrival {
    /// Kept out of line, because most requests skip it.
    #[inline(never)]
    fn boxed(rate: Option<&BodyRate>, in_flight: &InFlight) -> Box<Self> {
        Box::new(Self {
            rate: rate.copied(),
            received: 0,
            waits: None,
            failed: false,
            _in_flight: in_flight.another(),
        })
    }

    fn note(&mut self, frame: &Frame<Bytes>) {
        let data = frame.data_ref().map_or(0, Bytes::len);
        self.received = self.received.saturating_add(data as u64);
    }

    /// Called when the body is pending; ready if it took too long.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<Elapsed> {
        let Some(rate) = self.rate else {
            return Poll::Pending;
        };
        let allowed = rate.allows(self.received);
        let waits = self.waits.get_or_insert_with(|| Box::pin(Waits::new()));
        ready!(waits.as_mut().poll(allowed, cx));
        self.failed = true;
        Poll::Ready(Elapsed::new(phase::REQUEST_BODY, allowed))
    }

    fn wait_is_over(&mut self) {
        if let Some(waits) = &mut self.waits {
            waits.as_mut().end();
        }
    }
}

impl Waits {
    fn new() -> Self {
        Self {
            waited: Duration::ZERO,
            since: None,
            renewed: false,
            sleep: sleep_until(Instant::now()),
        }
    }

    /// Waits; ready when all waits together exceed `allowed`.
    fn poll(mut self: Pin<&mut Self>, allowed: Duration, cx: &mut Context<'_>) -> Poll<()> {
        if self.since.is_none() {
            self.as_mut().begin(allowed);
        }
        ready!(self.as_mut().project().sleep.poll(cx));
        if !self.was_abandoned() || self.renewed {
            return Poll::Ready(());
        }
        // Only once, so that slow clients time out even on a machine that is always late.
        *self.as_mut().project().renewed = true;
        self.as_mut().begin(allowed);
        self.project().sleep.poll(cx)
    }

    fn begin(self: Pin<&mut Self>, allowed: Duration) {
        let this = self.project();
        let now = Instant::now();
        *this.since = Some(now);
        let left = allowed.saturating_sub(*this.waited);
        let deadline = now.checked_add(left).unwrap_or_else(|| now + FOREVER);
        this.sleep.reset(deadline);
    }

    fn end(mut self: Pin<&mut Self>) {
        let Some(since) = self.since else { return };
        let waited = match self.was_abandoned() {
            true => Duration::ZERO,
            false => since.elapsed(),
        };
        let this = self.as_mut().project();
        *this.waited += waited;
        *this.since = None;
        *this.renewed = false;
    }

    /// Whether the body was not polled at the deadline, because the handler was doing something else.
    fn was_abandoned(&self) -> bool {
        Instant::now() > self.sleep.deadline() + SLACK
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
        let Some(arrival) = &mut this.arrival else {
            return polled.map_err(Into::into);
        };
        match polled {
            Poll::Ready(frame) => {
                arrival.wait_is_over();
                match &frame {
                    Some(Ok(frame)) if !this.incoming.is_end_stream() => arrival.note(frame),
                    // A handler may keep a body that it has read.
                    _ => this.arrival = None,
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                let too_slow = arrival.poll_too_slow(cx);
                too_slow.map(|elapsed| Some(Err(elapsed.into())))
            }
        }
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
            .field(
                "rate",
                &self.arrival.as_ref().and_then(|arrival| arrival.rate),
            )
            .finish_non_exhaustive()
    }
}

/// A response body, which is in flight until its last data has been sent.
#[pin_project]
#[derive(Debug)]
pub(super) struct ResponseBody<B> {
    #[pin]
    body: B,
    /// `None` once the last data has it.
    in_flight: Option<InFlight>,
}

impl<B> ResponseBody<B> {
    pub(super) const fn new(body: B, in_flight: InFlight) -> Self {
        let in_flight = Some(in_flight);
        Self { body, in_flight }
    }
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = Outgoing<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Outgoing<B::Data>>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        let outgoing = |data| {
            let in_flight = match this.body.is_end_stream() {
                true => this.in_flight.take().map(InFlight::into_data),
                false => this.in_flight.as_ref().map(InFlight::data),
            };
            Outgoing { data, in_flight }
        };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(outgoing))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Response data on its way through hyper, which keeps it until the client reads it.
#[derive(Debug)]
pub(super) struct Outgoing<D> {
    data: D,
    /// `None` for data that follows the last data, which is invalid.
    in_flight: Option<InFlight>,
}

impl<D: Buf> Buf for Outgoing<D> {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.data.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.data.advance(count);
        if let Some(in_flight) = &self.in_flight {
            in_flight.note_sent();
        }
    }
}

/// Effectively unlimited.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// A wait that is polled this long after its deadline counts as abandoned.
const SLACK: Duration = Duration::from_millis(100);
