//! Which route takes a connection, whatever a route is.

use super::InvalidRoute;
use crate::{
    connection::Hello,
    peek::{Protocol, check_host_name},
};
use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    hash::Hash,
    net::IpAddr,
};

/// Values by server name, ALPN and protocol, found as a [`Router`](super::Router) finds its routes.
///
/// [`Routes`](super::Routes) is such a table of services. Others answer which route a client would get, without a
/// connection.
///
/// ```
/// use portcullis_middleware::{peek::Protocol, route::RouteTable};
///
/// # fn main() -> Result<(), portcullis_middleware::BoxError> {
/// let backends = RouteTable::new()
///     .with_protocol(Protocol::Ssh, "bastion")?
///     .with_default("web");
/// assert_eq!(backends.find(None, Some(Protocol::Ssh)), Some(&"bastion"));
/// assert_eq!(backends.find(None, Some(Protocol::Http1)), Some(&"web"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RouteTable<T> {
    alpn: HashMap<Box<[u8]>, T>,
    names: HashMap<Box<str>, T>,
    /// By the part after `*.`.
    wildcards: HashMap<Box<str>, T>,
    protocols: HashMap<Protocol, T>,
    default: Option<T>,
}

impl<T> RouteTable<T> {
    /// Without a value, so nothing is found.
    pub fn new() -> Self {
        Self {
            alpn: HashMap::new(),
            names: HashMap::new(),
            wildcards: HashMap::new(),
            protocols: HashMap::new(),
            default: None,
        }
    }

    /// Adds a value for TLS clients that request `name`, such as `shop.example` or `*.shop.example`.
    ///
    /// # Errors
    ///
    /// If `name` is not a host name, or has a value already.
    pub fn with_name(mut self, name: &str, value: T) -> Result<Self, InvalidRoute> {
        let (names, host) = match name.strip_prefix("*.") {
            Some(host) => (&mut self.wildcards, host),
            None => (&mut self.names, name),
        };
        if check_host_name(host).is_err() {
            return Err(InvalidRoute::new(name, "is not a host name"));
        }
        // Clients send no address as server name (RFC 6066, section 3).
        if host.trim_end_matches('.').parse::<IpAddr>().is_ok() {
            return Err(InvalidRoute::new(
                name,
                "is an address, and clients send only host names",
            ));
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        add(names, host.to_ascii_lowercase().into(), value, || {
            name.to_owned()
        })?;
        Ok(self)
    }

    /// Adds a value for TLS clients that offer the application protocol `name`, such as `acme-tls/1`.
    ///
    /// # Errors
    ///
    /// If `name` is empty or longer than 255 bytes, or has a value already.
    pub fn with_alpn(mut self, name: impl AsRef<[u8]>, value: T) -> Result<Self, InvalidRoute> {
        let name = name.as_ref();
        let shown = || format!("ALPN {}", name.escape_ascii());
        if name.is_empty() || name.len() > 255 {
            return Err(InvalidRoute::new(&shown(), "has to have 1 to 255 bytes"));
        }
        add(&mut self.alpn, name.into(), value, shown)?;
        Ok(self)
    }

    /// Adds a value for the clients of `protocol`; for TLS those whose server name and ALPN names have none.
    ///
    /// # Errors
    ///
    /// If `protocol` has a value already.
    pub fn with_protocol(mut self, protocol: Protocol, value: T) -> Result<Self, InvalidRoute> {
        add(&mut self.protocols, protocol, value, || {
            format!("{protocol:?}")
        })?;
        Ok(self)
    }

    /// Sets the value for all other connections.
    #[must_use]
    pub fn with_default(mut self, value: T) -> Self {
        self.default = Some(value);
        self
    }

    /// The first match, in the order of the [module docs](super).
    pub fn find(&self, hello: Option<&Hello>, protocol: Option<Protocol>) -> Option<&T> {
        let by_hello = |hello: &Hello| {
            let by_alpn = hello.alpn().find_map(|name| self.alpn.get(name));
            by_alpn.or_else(|| self.find_name(hello.server_name()?))
        };
        hello
            .and_then(by_hello)
            .or_else(|| self.protocols.get(&protocol?))
            .or(self.default.as_ref())
    }

    /// The same table with other values.
    pub fn map<U>(&self, mut change: impl FnMut(&T) -> U) -> RouteTable<U> {
        RouteTable {
            alpn: map(&self.alpn, &mut change),
            names: map(&self.names, &mut change),
            wildcards: map(&self.wildcards, &mut change),
            protocols: map(&self.protocols, &mut change),
            default: self.default.as_ref().map(change),
        }
    }

    /// The match of a TLS server name in lower case among the names alone, for connections without a [`Hello`].
    pub fn find_name(&self, name: &str) -> Option<&T> {
        let by_wildcard = || self.wildcards.get(name.split_once('.')?.1);
        self.names.get(name).or_else(by_wildcard)
    }
}

fn add<K: Eq + Hash, T>(
    values: &mut HashMap<K, T>,
    key: K,
    value: T,
    shown: impl FnOnce() -> String,
) -> Result<(), InvalidRoute> {
    match values.entry(key) {
        Entry::Vacant(entry) => {
            entry.insert(value);
            Ok(())
        }
        Entry::Occupied(_) => Err(InvalidRoute::new(&shown(), "has two routes")),
    }
}

fn map<K: Clone + Eq + Hash, T, U>(
    values: &HashMap<K, T>,
    mut change: impl FnMut(&T) -> U,
) -> HashMap<K, U> {
    let changed = values.iter();
    changed
        .map(|(key, value)| (key.clone(), change(value)))
        .collect()
}

impl<T> Default for RouteTable<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Prints the number of values only.
impl<T> fmt::Debug for RouteTable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteTable")
            .field("alpn", &self.alpn.len())
            .field("names", &self.names.len())
            .field("wildcards", &self.wildcards.len())
            .field("protocols", &self.protocols.len())
            .field("default", &self.default.is_some())
            .finish()
    }
}
