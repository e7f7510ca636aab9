//! The service that hyper calls for each request.

use super::{
    HttpSettings,
    activity::{Activity, InFlight},
    body::{RequestBody, ResponseBody},
    messages,
    request_context::RequestContext,
    service_call::ServiceCall,
    tasks,
    upgrade::TakeBack,
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
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Service;

/// Passes the requests of one connection to the service `S`.
#[derive(Debug)]
pub(super) struct HttpRequests<S> {
    service: S,
    request_context: RequestContext,
    activity: Arc<Activity>,
    settings: Arc<HttpSettings>,
    take_back: TakeBack,
}

impl<S> HttpRequests<S> {
    pub(super) fn new<IO>(
        service: S,
        connection: &Connection<IO>,
        settings: Arc<HttpSettings>,
    ) -> Self
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let request_context = RequestContext::of(connection);
        #[cfg(feature = "axum")]
        let request_context = request_context.with_connect_info(settings.connect_info);
        Self {
            service,
            request_context,
            activity: Activity::new(connection.info().clone()),
            settings,
            take_back: TakeBack::of::<IO>(),
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
        let kind = RequestKind::of(&request);
        let rate = match self.settings.streaming_calls && kind.is_http2() {
            true if messages::are_streamed(&request) => None,
            _ => self.settings.body.as_ref(),
        };
        if !kind.is_http2() {
            self.take_back.insert_into(&mut request);
        }
        self.request_context.insert_into(&mut request);
        #[cfg(feature = "tonic")]
        if messages::may_be_grpc(&request) {
            self.request_context.add_to_tonic_request(&mut request);
        }
        let service = self.service.clone();
        let request = request.map(|body| RequestBody::new(body, rate, &in_flight));
        let future_of = |call| RequestFuture {
            call,
            in_flight: Some(in_flight),
            kind,
        };
        match kind {
            RequestKind::Http1 | RequestKind::Http1Connect => {
                ServiceCall::begin(service, request, future_of)
            }
            // In the task of the request, so that requests run concurrently.
            RequestKind::Http2 | RequestKind::Http2Connect => {
                future_of(ServiceCall::later(service, request))
            }
        }
    }
}

/// Future of a request.
#[pin_project]
pub(super) struct RequestFuture<S: Service<Request<RequestBody>>> {
    #[pin]
    call: ServiceCall<S>,
    in_flight: Option<InFlight>,
    kind: RequestKind,
}

/// How a response must be treated, by its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestKind {
    /// An HTTP/1 request, whose response can carry `connection: close`.
    Http1,
    /// An HTTP/1 request that may turn the connection into a tunnel.
    Http1Connect,
    Http2,
    /// An HTTP/2 request that may turn its stream into a tunnel.
    Http2Connect,
}

impl RequestKind {
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
        let mut response = ready!(this.call.poll(cx))?;
        let in_flight = this.in_flight.take().expect("polled after completion");
        let switches = match this.kind {
            RequestKind::Http1 => response.status() == StatusCode::SWITCHING_PROTOCOLS,
            RequestKind::Http1Connect | RequestKind::Http2Connect => response.status().is_success(),
            RequestKind::Http2 => false,
        };
        match this.kind {
            RequestKind::Http2Connect if switches => tasks::next_is_tunnel(in_flight.tunnel()),
            RequestKind::Http1 | RequestKind::Http1Connect if switches => in_flight.upgrades(),
            RequestKind::Http1 | RequestKind::Http1Connect if in_flight.activity().is_last() => {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            _ => {}
        }
        Poll::Ready(Ok(response.map(|body| ResponseBody::new(body, in_flight))))
    }
}
