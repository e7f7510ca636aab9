//! What a pool knows about a server before it connects.

#[cfg(feature = "tls")]
use super::ServerTls;
#[cfg(feature = "dns")]
use super::SrvName;
use super::resolve::Found;
use crate::connect::{BadTarget, Buffers, ConnectError, Target};
#[cfg(feature = "proxy-protocol")]
use portcullis_middleware::proxy_protocol::ProxyHeaderEncoder;
#[cfg(unix)]
use std::path::{Path, PathBuf};
use std::{fmt, net::SocketAddr, str::FromStr, sync::Arc};

/// A server of a [`Pool`](super::Pool): its address and how to connect to it.
///
/// It is made from an address, or parsed from `"host:port"`, `"unix:/path"` or `"srv:_service._tcp.domain"` (feature
/// `dns`). A pool resolves names, repeatedly, and uses each address of a name as a server.
///
/// ```
/// use portcullis::upstream::Server;
///
/// let primary: Server = "10.0.1.10:8080".parse()?;
/// let spare = "spare.internal:8080".parse::<Server>()?.with_backup(true);
/// assert_eq!(primary.weight(), 100);
/// assert_eq!(spare.key().to_string(), "spare.internal:8080");
/// # Ok::<_, portcullis::connect::ConnectError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Server {
    address: ServerAddress,
    name: Option<ServerKey>,
    /// The server whose host name was resolved, if this is one of its addresses.
    resolved: Option<Resolved>,
    weight: u16,
    backup: bool,
    max_connections: Option<usize>,
    buffers: Buffers,
    #[cfg(feature = "proxy-protocol")]
    proxy_header: Option<ProxyHeaderEncoder>,
    #[cfg(feature = "tls")]
    tls: Option<ServerTls>,
}

impl Server {
    /// Plain text, weight 100, no limit.
    pub fn new(address: impl Into<ServerAddress>) -> Self {
        Self {
            address: address.into(),
            name: None,
            resolved: None,
            weight: DEFAULT_WEIGHT,
            backup: false,
            max_connections: None,
            buffers: Buffers::default(),
            #[cfg(feature = "proxy-protocol")]
            proxy_header: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// A server that listens on a Unix domain socket.
    #[cfg(unix)]
    pub fn unix(path: impl AsRef<Path>) -> Self {
        Self::new(ServerAddress::Unix(path.as_ref().to_owned()))
    }

    /// Names the server in logs, in its status and in calls such as [`Pool::drain`](super::Pool::drain).
    ///
    /// By default it is named by its address. Names are unique in a pool; a server replaces another one of the same
    /// name.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<ServerKey>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the share of connections that the server gets, compared with other servers; 100 by default.
    ///
    /// A server of weight zero gets no new connections. A weight above zero in an SRV record replaces this one.
    #[must_use]
    pub const fn with_weight(mut self, weight: u16) -> Self {
        self.weight = weight;
        self
    }

    /// Uses the server only while none of the others can be used.
    #[must_use]
    pub const fn with_backup(mut self, backup: bool) -> Self {
        self.backup = backup;
        self
    }

    /// Limits the connections to the server, including those that are being made; unlimited by default.
    ///
    /// Connections beyond the limits of all servers [wait](super::PoolBuilder::with_queue).
    #[must_use]
    pub fn with_max_connections(mut self, max: impl Into<Option<usize>>) -> Self {
        self.max_connections = max.into();
        self
    }

    /// Sets the kernel's receive buffer per TCP connection in bytes; by default that of the
    /// [connector](super::PoolBuilder::with_connector).
    ///
    /// See [`TcpOptions::with_recv_buffer_size`](crate::listener::TcpOptions::with_recv_buffer_size).
    #[must_use]
    pub fn with_recv_buffer_size(mut self, size: impl Into<Option<usize>>) -> Self {
        self.buffers.recv = size.into();
        self
    }

    /// Sets the kernel's send buffer per TCP connection in bytes; by default that of the
    /// [connector](super::PoolBuilder::with_connector).
    ///
    /// See [`TcpOptions::with_send_buffer_size`](crate::listener::TcpOptions::with_send_buffer_size).
    #[must_use]
    pub fn with_send_buffer_size(mut self, size: impl Into<Option<usize>>) -> Self {
        self.buffers.send = size.into();
        self
    }

    /// Sends a PROXY header that names the client, before anything else; off by default.
    ///
    /// Health checks send a header that names none.
    #[cfg(feature = "proxy-protocol")]
    #[must_use]
    pub fn with_proxy_header(mut self, encoder: impl Into<Option<ProxyHeaderEncoder>>) -> Self {
        self.proxy_header = encoder.into();
        self
    }

    /// Connects with TLS; off by default.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, tls: impl Into<Option<ServerTls>>) -> Self {
        self.tls = tls.into();
        self
    }

    /// The name, or else the address.
    pub fn key(&self) -> ServerKey {
        match &self.name {
            Some(name) => name.clone(),
            None => ServerKey(self.address.to_string().into()),
        }
    }

    /// The address.
    pub const fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// See [`with_weight`](Self::with_weight).
    pub const fn weight(&self) -> u16 {
        self.weight
    }

    /// See [`with_backup`](Self::with_backup).
    pub const fn is_backup(&self) -> bool {
        self.backup
    }

    /// See [`with_max_connections`](Self::with_max_connections).
    pub const fn max_connections(&self) -> Option<usize> {
        self.max_connections
    }

    /// See [`with_recv_buffer_size`](Self::with_recv_buffer_size).
    pub const fn recv_buffer_size(&self) -> Option<usize> {
        self.buffers.recv
    }

    /// See [`with_send_buffer_size`](Self::with_send_buffer_size).
    pub const fn send_buffer_size(&self) -> Option<usize> {
        self.buffers.send
    }

    pub(super) const fn buffers(&self) -> Buffers {
        self.buffers
    }

    #[cfg(feature = "proxy-protocol")]
    pub(super) const fn proxy_header(&self) -> Option<&ProxyHeaderEncoder> {
        self.proxy_header.as_ref()
    }

    #[cfg(feature = "tls")]
    pub(super) const fn tls(&self) -> Option<&ServerTls> {
        self.tls.as_ref()
    }

    /// The same server with other TLS settings.
    #[cfg(feature = "tls")]
    pub(super) fn with_check_tls(&self, tls: Option<ServerTls>) -> Self {
        let mut server = self.clone();
        server.tls = tls;
        server
    }

    /// What a check of another port connects to. It is no longer the server, so it gets no PROXY header.
    pub(super) fn for_check_at(mut self, address: SocketAddr) -> Self {
        #[cfg(feature = "proxy-protocol")]
        {
            self.proxy_header = None;
        }
        self.address = address.into();
        self
    }

    /// The name of the server that this is an address of.
    pub(super) fn resolved_name(&self) -> Option<&ServerKey> {
        self.resolved.as_ref().map(|resolved| &resolved.name)
    }

    /// The host as it was configured, which TLS verifies by default; `None` for Unix domain sockets.
    pub(super) fn host(&self) -> Option<String> {
        match (&self.resolved, &self.address) {
            (Some(resolved), _) => resolved.host.clone(),
            (None, ServerAddress::Tcp(target)) => Some(target.host()),
            #[cfg(feature = "dns")]
            (None, ServerAddress::Srv(service)) => Some(service.domain().to_owned()),
            #[cfg(unix)]
            (None, ServerAddress::Unix(_)) => None,
        }
    }

    /// The same server at one of the addresses of its name.
    pub(super) fn at(&self, found: &Found) -> Self {
        let address = found.address;
        let mut server = self.clone();
        let name = self.key();
        server.name = Some(ServerKey::at(&name, address));
        let host = self.host();
        server.resolved = Some(Resolved { name, host });
        server.address = address.into();
        server.weight = found.weight.unwrap_or(self.weight);
        server.backup |= found.is_backup;
        server
    }
}

#[derive(Clone, Debug)]
struct Resolved {
    name: ServerKey,
    host: Option<String>,
}

impl<A: Into<ServerAddress>> From<A> for Server {
    fn from(address: A) -> Self {
        Self::new(address)
    }
}

impl FromStr for Server {
    type Err = ConnectError;

    fn from_str(text: &str) -> Result<Self, ConnectError> {
        text.parse::<ServerAddress>().map(Self::new)
    }
}

/// Where a [`Server`] listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServerAddress {
    /// A host and a port.
    Tcp(Target),
    /// A service whose servers are in SRV records; see [`PoolBuilder::with_dns`](super::PoolBuilder::with_dns).
    #[cfg(feature = "dns")]
    Srv(SrvName),
    /// The path of a Unix domain socket.
    #[cfg(unix)]
    Unix(PathBuf),
}

impl ServerAddress {
    /// Whether it has to be resolved.
    pub(super) fn is_name(&self) -> bool {
        match self {
            Self::Tcp(target) => target.address().is_none(),
            #[cfg(feature = "dns")]
            Self::Srv(_) => true,
            #[cfg(unix)]
            Self::Unix(_) => false,
        }
    }
}

impl From<Target> for ServerAddress {
    fn from(target: Target) -> Self {
        Self::Tcp(target)
    }
}

impl From<SocketAddr> for ServerAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address.into())
    }
}

#[cfg(feature = "dns")]
impl From<SrvName> for ServerAddress {
    fn from(service: SrvName) -> Self {
        Self::Srv(service)
    }
}

/// Parses `"host:port"`, `"unix:"` with a path, or `"srv:"` with the name of SRV records (feature `dns`).
impl FromStr for ServerAddress {
    type Err = ConnectError;

    fn from_str(text: &str) -> Result<Self, ConnectError> {
        #[cfg(unix)]
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        if let Some(service) = text.strip_prefix("srv:") {
            return srv(service).map_err(|bad| ConnectError::bad_target_of(text, bad));
        }
        text.parse().map(Self::Tcp)
    }
}

#[cfg(feature = "dns")]
fn srv(name: &str) -> Result<ServerAddress, BadTarget> {
    name.parse().map(ServerAddress::Srv)
}

#[cfg(not(feature = "dns"))]
const fn srv(_: &str) -> Result<ServerAddress, BadTarget> {
    Err(BadTarget::NoSrvRecords)
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(target) => target.fmt(f),
            #[cfg(feature = "dns")]
            Self::Srv(service) => write!(f, "srv:{}", service.as_str().escape_debug()),
            #[cfg(unix)]
            Self::Unix(path) => write!(f, "unix:{}", path.to_string_lossy().escape_debug()),
        }
    }
}

/// The name of a server within its pool; clones are cheap.
///
/// It is the [name](Server::with_name) of the server or else its address. An address of a resolved host name is
/// appended to the name: `db.internal:5432@10.0.0.7:5432`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerKey(Arc<str>);

impl ServerKey {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, without a copy.
    pub(super) fn to_shared(&self) -> Arc<str> {
        self.0.clone()
    }

    /// That of the server with this name at one of its addresses.
    fn at(name: &Self, address: SocketAddr) -> Self {
        Self(format!("{}@{address}", name.0).into())
    }

    /// Whether this is an address of the server with this name.
    pub(super) fn is_at(&self, name: &Self) -> bool {
        let rest = self.0.strip_prefix(&*name.0);
        rest.is_some_and(|rest| rest.starts_with('@'))
    }
}

impl<T: AsRef<str>> From<T> for ServerKey {
    fn from(name: T) -> Self {
        Self(name.as_ref().into())
    }
}

impl fmt::Display for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_debug().fmt(f)
    }
}

/// Leaves capacity for half a share and less.
const DEFAULT_WEIGHT: u16 = 100;
