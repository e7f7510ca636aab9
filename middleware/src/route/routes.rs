//! The table of routes.

use crate::{
    BoxError, Connection,
    connection::Hello,
    peek::{Protocol, check_host_name},
};
use std::{
    collections::{HashMap, hash_map::Entry},
    error, fmt,
    hash::Hash,
    net::IpAddr,
};
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

/// The service of a route, with its type erased.
pub type Route<IO> = BoxCloneSyncService<Connection<IO>, (), BoxError>;

/// Services, each with the connections that it serves; see the [module docs](super).
pub struct Routes<IO> {
    alpn: HashMap<Box<[u8]>, Route<IO>>,
    names: HashMap<Box<str>, Route<IO>>,
    /// By the part after `*.`.
    wildcards: HashMap<Box<str>, Route<IO>>,
    protocols: HashMap<Protocol, Route<IO>>,
    default: Option<Route<IO>>,
}

impl<IO> Routes<IO> {
    /// Without a route, which rejects each connection.
    pub fn new() -> Self {
        Self {
            alpn: HashMap::new(),
            names: HashMap::new(),
            wildcards: HashMap::new(),
            protocols: HashMap::new(),
            default: None,
        }
    }

    /// Serves TLS clients that request `name`, such as `shop.example` or `*.shop.example`.
    ///
    /// # Errors
    ///
    /// If `name` is no host name, or has a route already.
    pub fn with_name<S>(mut self, name: &str, service: S) -> Result<Self, InvalidRoute>
    where
        S: Service<Connection<IO>, Response = (), Error: Into<BoxError>, Future: Send + 'static>,
        S: Clone + Send + Sync + 'static,
        IO: 'static,
    {
        let (names, host) = match name.strip_prefix("*.") {
            Some(host) => (&mut self.wildcards, host),
            None => (&mut self.names, name),
        };
        if check_host_name(host).is_err() {
            return Err(InvalidRoute::new(name, "is no host name"));
        }
        // Clients send no address as server name (RFC 6066, section 3).
        if host.trim_end_matches('.').parse::<IpAddr>().is_ok() {
            return Err(InvalidRoute::new(
                name,
                "is an address, and clients send only host names",
            ));
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        add(names, host.to_ascii_lowercase().into(), service, || {
            name.to_owned()
        })?;
        Ok(self)
    }

    /// Serves TLS clients that offer the application protocol `name`, such as `acme-tls/1`.
    ///
    /// # Errors
    ///
    /// If `name` is empty or longer than 255 bytes, or has a route already.
    pub fn with_alpn<S>(mut self, name: impl AsRef<[u8]>, service: S) -> Result<Self, InvalidRoute>
    where
        S: Service<Connection<IO>, Response = (), Error: Into<BoxError>, Future: Send + 'static>,
        S: Clone + Send + Sync + 'static,
        IO: 'static,
    {
        let name = name.as_ref();
        let shown = || format!("ALPN {}", name.escape_ascii());
        if name.is_empty() || name.len() > 255 {
            return Err(InvalidRoute::new(&shown(), "has to have 1 to 255 bytes"));
        }
        add(&mut self.alpn, name.into(), service, shown)?;
        Ok(self)
    }

    /// Serves the clients of `protocol`; for TLS those whose server name and ALPN names have no route.
    ///
    /// # Errors
    ///
    /// If `protocol` has a route already.
    pub fn with_protocol<S>(mut self, protocol: Protocol, service: S) -> Result<Self, InvalidRoute>
    where
        S: Service<Connection<IO>, Response = (), Error: Into<BoxError>, Future: Send + 'static>,
        S: Clone + Send + Sync + 'static,
        IO: 'static,
    {
        add(&mut self.protocols, protocol, service, || {
            format!("{protocol:?}")
        })?;
        Ok(self)
    }

    /// Serves all other connections; by default they are rejected.
    #[must_use]
    pub fn with_default<S>(mut self, service: S) -> Self
    where
        S: Service<Connection<IO>, Response = (), Error: Into<BoxError>, Future: Send + 'static>,
        S: Clone + Send + Sync + 'static,
        IO: 'static,
    {
        self.default = Some(boxed(service));
        self
    }

    /// The route of a connection.
    pub(super) fn find(
        &self,
        hello: Option<&Hello>,
        protocol: Option<Protocol>,
    ) -> Option<&Route<IO>> {
        let by_hello = |hello: &Hello| {
            let by_alpn = hello.alpn().find_map(|name| self.alpn.get(name));
            by_alpn.or_else(|| self.find_name(hello.server_name()?))
        };
        hello
            .and_then(by_hello)
            .or_else(|| self.protocols.get(&protocol?))
            .or(self.default.as_ref())
    }

    fn find_name(&self, name: &str) -> Option<&Route<IO>> {
        let by_wildcard = || self.wildcards.get(name.split_once('.')?.1);
        self.names.get(name).or_else(by_wildcard)
    }
}

fn add<K: Eq + Hash, IO, S>(
    routes: &mut HashMap<K, Route<IO>>,
    key: K,
    service: S,
    shown: impl FnOnce() -> String,
) -> Result<(), InvalidRoute>
where
    S: Service<Connection<IO>, Response = (), Error: Into<BoxError>, Future: Send + 'static>,
    S: Clone + Send + Sync + 'static,
    IO: 'static,
{
    match routes.entry(key) {
        Entry::Vacant(entry) => {
            entry.insert(boxed(service));
            Ok(())
        }
        Entry::Occupied(_) => Err(InvalidRoute::new(&shown(), "has two routes")),
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
        f.debug_struct("Routes")
            .field("alpn", &self.alpn.len())
            .field("names", &self.names.len())
            .field("wildcards", &self.wildcards.len())
            .field("protocols", &self.protocols.len())
            .field("default", &self.default.is_some())
            .finish()
    }
}

/// A route cannot be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidRoute {
    key: String,
    problem: &'static str,
}

impl InvalidRoute {
    fn new(key: &str, problem: &'static str) -> Self {
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
