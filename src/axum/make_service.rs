//! Tells requests of their connection, where axum serves them.

use super::DepartingIo;
use crate::service::http::request_context::RequestContext;
use ::axum::serve::{IncomingStream, Listener};
use http::Request;
use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};
use tower::Service;

/// Has `axum::serve` tell requests what [`HttpService`](crate::service::HttpService) tells them.
///
/// That is the `ConnectionInfo`, what layers left in the connection's extensions, and
/// `ConnectInfo<SocketAddr>` where the peer has an IP address: handlers need not know which of the two
/// serves them. It is made of a `Router`, or of whatever else `axum::serve` takes.
#[derive(Clone, Copy, Debug)]
pub struct MakeService<S> {
    service: S,
}

impl<S> MakeService<S> {
    /// Serves the requests of each connection with a clone of `service`.
    pub const fn new(service: S) -> Self {
        Self { service }
    }
}

impl<S, L, IO> Service<IncomingStream<'_, L>> for MakeService<S>
where
    S: Clone,
    L: Listener<Io = DepartingIo<IO>>,
{
    type Response = WithConnection<S>;
    type Error = Infallible;
    type Future = Ready<Result<WithConnection<S>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, stream: IncomingStream<'_, L>) -> Self::Future {
        ready(Ok(WithConnection {
            service: self.service.clone(),
            facts: Arc::new(RequestContext::of(stream.io().get_ref())),
        }))
    }
}

/// Tells each request of one connection about it; see [`MakeService`].
#[derive(Clone, Debug)]
pub struct WithConnection<S> {
    service: S,
    facts: Arc<RequestContext>,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for WithConnection<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        self.facts.tell(&mut request);
        self.service.call(request)
    }
}
