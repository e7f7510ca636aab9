//! The service, its handle and its future.

use super::{Route, Routes};
use crate::{BoxError, Connection, error::Refused, first_then::FirstThen, peek::Protocol};
use arc_swap::ArcSwap;
use pin_project::pin_project;
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tower::Service;

/// Passes each connection to the first route that matches; see the [module docs](super).
///
/// Clones share the routes. It is always ready.
pub struct Router<IO>(Arc<ArcSwap<Routes<IO>>>);

impl<IO> Router<IO> {
    /// The reason of a [`Refused`] for which no route matches.
    pub const NO_ROUTE: &'static str = "no route matches";
    const NAME: &'static str = "route";

    /// Chooses among `routes`.
    pub fn new(routes: Routes<IO>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(routes)))
    }

    /// A handle that replaces the routes at run time.
    pub fn handle(&self) -> RouterHandle<IO> {
        RouterHandle(self.0.clone())
    }

    /// Rejects a connection that has no route.
    fn reject(connection: Connection<IO>, protocol: Option<Protocol>) -> Refused {
        let refused = Refused::new(Self::NAME, Self::NO_ROUTE);
        let hello = connection.info().hello();
        let refused = match (hello.and_then(|hello| hello.server_name()), protocol) {
            (Some(name), _) => refused.with_source(format!("server name {name}")),
            (None, Some(protocol)) => refused.with_source(format!("protocol {protocol:?}")),
            (None, None) => refused,
        };
        connection.abort();
        refused
    }
}

impl<IO: 'static> Service<Connection<IO>> for Router<IO> {
    type Response = ();
    type Error = BoxError;
    type Future = RouterFuture<IO>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, connection: Connection<IO>) -> Self::Future {
        let protocol = connection.extensions().get().copied();
        let route = self
            .0
            .load()
            .find(connection.info().hello(), protocol)
            .cloned();
        RouterFuture(match route {
            Some(route) => FirstThen::serve(connection, route),
            None => FirstThen::reject(Self::reject(connection, protocol)),
        })
    }
}

impl<IO> Clone for Router<IO> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<IO> fmt::Debug for Router<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Router").field(&**self.0.load()).finish()
    }
}

/// Replaces the routes of a [`Router`]; clones share it.
pub struct RouterHandle<IO>(Arc<ArcSwap<Routes<IO>>>);

impl<IO> RouterHandle<IO> {
    /// Chooses among `routes` from the next connection on.
    ///
    /// Connections with a route keep it, also those that still wait for it to become ready.
    pub fn replace(&self, routes: Routes<IO>) {
        self.0.store(Arc::new(routes));
    }
}

impl<IO> Clone for RouterHandle<IO> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<IO> fmt::Debug for RouterHandle<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let routes = self.0.load();
        f.debug_tuple("RouterHandle").field(&**routes).finish()
    }
}

/// Future of [`Router`]: the wait for the route, then the route.
#[pin_project]
pub struct RouterFuture<IO>(#[pin] FirstThen<Route<IO>, IO>);

impl<IO: 'static> Future for RouterFuture<IO> {
    type Output = Result<(), BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().0.poll(cx)
    }
}

impl<IO> fmt::Debug for RouterFuture<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state("routing");
        f.debug_tuple("RouterFuture").field(&state).finish()
    }
}
