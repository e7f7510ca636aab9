//! Adds connection info to requests that axum serves.

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

/// Makes `axum::serve` insert the same connection info as [`HttpService`](crate::service::HttpService).
///
/// It inserts the `ConnectionInfo`, the extensions that layers left in the connection, and
/// `ConnectInfo<SocketAddr>` if the peer has an IP address. Handlers therefore work the same in both setups.
/// It wraps a `Router`, or any other service that `axum::serve` accepts.
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
            context: Arc::new(RequestContext::of(stream.io().get_ref())),
        }))
    }
}

/// Inserts the info of one connection into each of its requests; see [`MakeService`].
#[derive(Clone, Debug)]
pub struct WithConnection<S> {
    service: S,
    context: Arc<RequestContext>,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for WithConnection<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        self.context.insert_into(&mut request);
        self.service.call(request)
    }
}
