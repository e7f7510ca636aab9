//! The service that hyper calls for each request.

use super::{
    Settings,
    activity::{Activity, InFlight},
    answer::Answer,
    body::{RequestBody, ResponseBody},
    messages,
    request_context::RequestContext,
    tasks,
};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header::CONNECTION};
use hyper::body::Incoming;
use pin_project::pin_project;
use portcullis_middleware::{BoxError, Connection};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tower::Service;

/// The requests of one connection on their way to the service `S`.
#[derive(Debug)]
pub(super) struct HttpRequests<S> {
    service: S,
    request_context: RequestContext,
    activity: Arc<Activity>,
    settings: Arc<Settings>,
}

impl<S> HttpRequests<S> {
    pub(super) fn new<IO>(
        service: S,
        connection: &Connection<IO>,
        settings: Arc<Settings>,
    ) -> Self {
        Self {
            service,
            request_context: RequestContext::of(connection),
            activity: Activity::new(connection.info().clone()),
            settings,
        }
    }

    pub(super) const fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }
}

impl<S, B> hyper::service::Service<Request<Incoming>> for HttpRequests<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<B>>;
    type Error = BoxError;
    type Future = RequestFuture<S>;

    fn call(&self, mut request: Request<Incoming>) -> RequestFuture<S> {
        let in_flight = self.activity.begin();
        let kind = Kind::of(&request);
        let rate = match self.settings.streaming_calls && kind.is_http2() {
            true if messages::are_streamed(&request) => None,
            _ => self.settings.body.as_ref(),
        };
        self.request_context.tell(&mut request);
        #[cfg(feature = "tonic")]
        if messages::may_be_grpc(&request) {
            self.request_context.add_to_tonic_request(&mut request);
        }
        let service = self.service.clone();
        let request = request.map(|body| RequestBody::new(body, rate, &in_flight));
        let answered_by = |answer| RequestFuture {
            answer,
            in_flight: Some(in_flight),
            kind,
        };
        match kind {
            Kind::Http1 | Kind::Http1Connect => Answer::begin(service, request, answered_by),
            // In the task that the request will have: they are served side by side.
            Kind::Http2 | Kind::Http2Connect => answered_by(Answer::later(service, request)),
        }
    }
}

/// One request being answered.
#[pin_project]
pub(super) struct RequestFuture<S: Service<Request<RequestBody>>> {
    #[pin]
    answer: Answer<S>,
    in_flight: Option<InFlight>,
    kind: Kind,
}

/// What counts at the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One of HTTP/1, whose responses can say that they are the last.
    Http1,
    /// One of HTTP/1 that may turn the connection into something else.
    Http1Connect,
    Http2,
    /// One of HTTP/2 that may turn its stream into a tunnel.
    Http2Connect,
}

impl Kind {
    fn of<B>(request: &Request<B>) -> Self {
        let connect = request.method() == Method::CONNECT;
        match (request.version() == Version::HTTP_2, connect) {
            (false, false) => Self::Http1,
            (false, true) => Self::Http1Connect,
            (true, false) => Self::Http2,
            (true, true) => Self::Http2Connect,
        }
    }

    const fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Http2Connect)
    }
}

impl<S, B> Future for RequestFuture<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
{
    type Output = Result<Response<ResponseBody<B>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.answer.poll(cx))?;
        let in_flight = this.in_flight.take().expect("polled after its end");
        let switches = match this.kind {
            Kind::Http1 => response.status() == StatusCode::SWITCHING_PROTOCOLS,
            Kind::Http1Connect | Kind::Http2Connect => response.status().is_success(),
            Kind::Http2 => false,
        };
        match this.kind {
            Kind::Http2Connect if switches => tasks::next_is_tunnel(in_flight.tunnel()),
            Kind::Http1 | Kind::Http1Connect if switches => in_flight.upgrades(),
            Kind::Http1 | Kind::Http1Connect if in_flight.activity().is_last() => {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            _ => {}
        }
        Poll::Ready(Ok(response.map(|body| ResponseBody::new(body, in_flight))))
    }
}
