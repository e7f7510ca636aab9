//! The routes of a router: a table of services.

use super::RouteTable;
use crate::{BoxError, Connection, connection::Hello, peek::Protocol};
use std::{error, fmt};
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

/// The service of a route, with its type erased.
pub type Route<IO> = BoxCloneSyncService<Connection<IO>, (), BoxError>;

/// Services, each with the connections that it serves; see the [module docs](super).
pub struct Routes<IO>(RouteTable<Route<IO>>);

impl<IO> Routes<IO> {
    /// Without a route, which rejects each connection.
    pub fn new() -> Self {
        Self(RouteTable::new())
    }

    /// Serves TLS clients that request `name`, such as `shop.example` or `*.shop.example`.
    ///
    /// # Errors
    ///
    /// If `name` is not a host name, or has a route already.
    pub fn with_name<S>(self, name: &str, service: S) -> Result<Self, InvalidRoute>
    where
        S: Service<Connection<IO>, Response = (), Error: Into<BoxError>, Future: Send + 'static>,
        S: Clone + Send + Sync + 'static,
        IO: 'static,
    {
        self.0.with_name(name, boxed(service)).map(Self)
    }

    /// Serves TLS clients that offer the application protocol `name`, such as `acme-tls/1`.
    ///
    /// # Errors
    ///
    /// If `name` is empty or longer than 255 bytes, or has a route already.
    pub fn with_alpn<S>(self, name: impl AsRef<[u8]>, service: S) -> Result<Self, InvalidRoute>
    where
        S: Service<Connection<IO>, Response = (), Error: Into<BoxError>, Future: Send + 'static>,
        S: Clone + Send + Sync + 'static,
        IO: 'static,
    {
        self.0.with_alpn(name, boxed(service)).map(Self)
    }

    /// Serves the clients of `protocol`; for TLS those whose server name and ALPN names have no route.
    ///
    /// # Errors
    ///
    /// If `protocol` has a route already.
    pub fn with_protocol<S>(self, protocol: Protocol, service: S) -> Result<Self, InvalidRoute>
    where
        S: Service<Connection<IO>, Response = (), Error: Into<BoxError>, Future: Send + 'static>,
        S: Clone + Send + Sync + 'static,
        IO: 'static,
    {
        self.0.with_protocol(protocol, boxed(service)).map(Self)
    }

    /// Serves all other connections; by default they are rejected.
    #[must_use]
    pub fn with_default<S>(self, service: S) -> Self
    where
        S: Service<Connection<IO>, Response = (), Error: Into<BoxError>, Future: Send + 'static>,
        S: Clone + Send + Sync + 'static,
        IO: 'static,
    {
        Self(self.0.with_default(boxed(service)))
    }

    /// The route of a connection.
    pub(super) fn find(
        &self,
        hello: Option<&Hello>,
        protocol: Option<Protocol>,
    ) -> Option<&Route<IO>> {
        self.0.find(hello, protocol)
    }
}

impl<IO> From<RouteTable<Route<IO>>> for Routes<IO> {
    fn from(table: RouteTable<Route<IO>>) -> Self {
        Self(table)
    }
}

fn boxed<IO, S>(service: S) -> Route<IO>
where
    S: Service<Connection<IO>, Response = (), Error: Into<BoxError>, Future: Send + 'static>,
    S: Clone + Send + Sync + 'static,
    IO: 'static,
{
    BoxCloneSyncService::new(service.map_err(Into::into))
}

impl<IO> Default for Routes<IO> {
    fn default() -> Self {
        Self::new()
    }
}

impl<IO> fmt::Debug for Routes<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Routes").field(&self.0).finish()
    }
}

/// A route cannot be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidRoute {
    key: String,
    problem: &'static str,
}

impl InvalidRoute {
    pub(super) fn new(key: &str, problem: &'static str) -> Self {
        let key = key.to_owned();
        Self { key, problem }
    }
}

impl fmt::Display for InvalidRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invalid route: \"{}\" {}",
            self.key.escape_debug(),
            self.problem
        )
    }
}

impl error::Error for InvalidRoute {}
