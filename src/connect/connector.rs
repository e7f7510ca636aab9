//! Connects, within bounds.

use super::{
    ConnectError, Target, phase,
    race::{Race, interleave},
    services,
    target::{Kind, Port},
};
use crate::listener::{Keepalive, UserTimeout};
#[cfg(any(target_os = "android", target_os = "linux"))]
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use portcullis_middleware::{
    Connection, ConnectionInfo,
    connection::{Address, Socket, Transport},
    error::Elapsed,
};
use socket2::SockRef;
use std::{
    fmt,
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    net::{TcpSocket, TcpStream, lookup_host},
    task::spawn_blocking,
    time::{Instant, timeout_at},
};
use tower::Service;

/// Connects over TCP; see the [module docs](super).
///
/// A clone has the same settings; nothing else is shared.
///
/// # Panics
///
/// Connecting panics outside of a tokio runtime with IO and time enabled.
#[derive(Clone)]
pub struct Connector {
    timeout: Option<Duration>,
    fallback_delay: Duration,
    nodelay: bool,
    keepalive: Option<Keepalive>,
    user_timeout: UserTimeout,
    local_address: Option<IpAddr>,
    resolver: Option<Arc<Resolve>>,
}

type Connected = Result<Connection<Socket<TcpStream>>, ConnectError>;
type Resolve = dyn Fn(String, u16) -> Resolving + Send + Sync;
type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

impl Connector {
    /// The defaults, as each method names them.
    pub const fn new() -> Self {
        Self {
            timeout: Some(DEFAULT_TIMEOUT),
            fallback_delay: DEFAULT_FALLBACK_DELAY,
            nodelay: true,
            keepalive: Some(Keepalive::new()),
            user_timeout: UserTimeout::AsKeepalive,
            local_address: None,
            resolver: None,
        }
    }

    /// Bounds looking up names and trying all addresses, together; 10 s by default.
    ///
    /// `None` leaves it to the system, which gives up on an address after two minutes or more
    /// (Linux: 127 s). In 10 s it sends the first packet again three times; a host that has not
    /// answered by then is probably down, and the caller usually has a timeout, too.
    #[must_use]
    pub fn with_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// How long an address may be silent before the next is tried as well; 250 ms by default.
    ///
    /// The value is that of RFC 8305, section 5, which advises against less than 100 ms. The first
    /// attempt goes on, and the first success of any wins. Zero tries all addresses at once,
    /// [`Duration::MAX`] one after the other.
    #[must_use]
    pub const fn with_fallback_delay(mut self, delay: Duration) -> Self {
        self.fallback_delay = delay;
        self
    }

    /// Whether small writes leave at once (`TCP_NODELAY`); on by default.
    #[must_use]
    pub const fn with_nodelay(mut self, nodelay: bool) -> Self {
        self.nodelay = nodelay;
        self
    }

    /// Probes for a server that vanished (`SO_KEEPALIVE`); on by default, with [`Keepalive::new`].
    ///
    /// `None` leaves the socket as the system makes it: without.
    #[must_use]
    pub fn with_keepalive(mut self, keepalive: impl Into<Option<Keepalive>>) -> Self {
        self.keepalive = keepalive.into();
        self
    }

    /// How long sent data may stay unacknowledged before the connection fails (`TCP_USER_TIMEOUT`).
    ///
    /// By default as long as keepalive takes to give up; `None` leaves it to the system. Everything
    /// else is as in [`TcpOptions::with_user_timeout`](crate::listener::TcpOptions::with_user_timeout).
    /// It is set once the connection is made, so that it does not end attempts.
    #[must_use]
    pub fn with_user_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.user_timeout = UserTimeout::Given(timeout.into());
        self
    }

    /// Connects from an address of this machine; by default the system chooses one.
    ///
    /// Addresses of the other IP version fail then. The local port is the system's choice. On Linux
    /// and Android it is chosen for each destination (`IP_BIND_ADDRESS_NO_PORT`), so that connections
    /// to several servers share the ports. Elsewhere each connection takes a port of its own, which
    /// limits all connections from the address to the number of ephemeral ports.
    #[must_use]
    pub fn with_local_address(mut self, address: impl Into<Option<IpAddr>>) -> Self {
        self.local_address = address.into();
        self
    }

    /// Looks names up with a custom function instead of the system's `getaddrinfo(3)`.
    ///
    /// It gets the host and the port and returns the addresses, the preferred one first. IP addresses
    /// do not go through it. An error, or no address at all, becomes a [`ConnectError`] of the step
    /// `resolve`. No address, or an error made of [`NotFound`](io::ErrorKind::NotFound), means that the
    /// [host is unknown](ConnectError::is_unknown_host). Any other error keeps its
    /// [kind](ConnectError::kind): `TimedOut` is a [timeout](ConnectError::is_timeout), for example.
    ///
    /// ```
    /// use portcullis::connect::Connector;
    /// use std::net::SocketAddr;
    ///
    /// let pinned = Connector::new().with_resolver(async |host: String, port| {
    ///     match host.as_str() {
    ///         "db.internal" => Ok(vec![SocketAddr::from(([10, 0, 0, 7], port))]),
    ///         _ => Ok(vec![]),
    ///     }
    /// });
    /// ```
    #[must_use]
    pub fn with_resolver<F, Fut>(mut self, resolve: F) -> Self
    where
        F: Fn(String, u16) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        self.resolver = Some(Arc::new(move |host, port| Box::pin(resolve(host, port))));
        self
    }

    /// See [`with_timeout`](Self::with_timeout).
    pub const fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// See [`with_fallback_delay`](Self::with_fallback_delay).
    pub const fn fallback_delay(&self) -> Duration {
        self.fallback_delay
    }

    /// See [`with_nodelay`](Self::with_nodelay).
    pub const fn nodelay(&self) -> bool {
        self.nodelay
    }

    /// See [`with_keepalive`](Self::with_keepalive).
    pub const fn keepalive(&self) -> Option<Keepalive> {
        self.keepalive
    }

    /// See [`with_user_timeout`](Self::with_user_timeout); by default derived from
    /// [`keepalive`](Self::keepalive).
    pub fn user_timeout(&self) -> Option<Duration> {
        self.user_timeout.with(self.keepalive)
    }

    /// See [`with_local_address`](Self::with_local_address).
    pub const fn local_address(&self) -> Option<IpAddr> {
        self.local_address
    }

    /// Connects to `"host:port"`, `(host, port)`, a [`SocketAddr`] or another [`Target`].
    ///
    /// # Errors
    ///
    /// [`ConnectError`] when the target makes no sense, a name is not known, no address can be
    /// connected to, or all that takes too long.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops all attempts. A name that the system is asked for is looked up to
    /// its end, in a thread of the runtime's blocking pool.
    pub async fn connect<T>(&self, target: T) -> Result<Connection<Socket<TcpStream>>, ConnectError>
    where
        T: TryInto<Target, Error: Into<ConnectError>>,
    {
        let target = target.try_into().map_err(Into::into)?;
        self.connect_to(&target).await
    }

    async fn connect_to(&self, target: &Target) -> Connected {
        let reached = self.reach(target, |address| self.open(address)).await;
        reached.map(|(_, connection)| connection)
    }

    /// Looks the target up and tries its addresses by `open`.
    pub(super) async fn reach<T, Fut>(
        &self,
        target: &Target,
        open: impl Fn(SocketAddr) -> Fut,
    ) -> Result<(SocketAddr, T), ConnectError>
    where
        Fut: Future<Output = io::Result<T>>,
    {
        let bound = Bound::starting_now(self.timeout);
        let addresses = match bound.hold(self.resolve(target)).await {
            Ok(addresses) => interleave(addresses?),
            Err(elapsed) => return Err(ConnectError::elapsed_resolving(target, elapsed)),
        };
        if addresses.is_empty() {
            return Err(ConnectError::no_address(target));
        }
        let mut race = Race::new(addresses, self.fallback_delay, open);
        match bound.hold(poll_fn(|cx| race.poll(cx))).await {
            Ok(Some(won)) => Ok(won),
            Ok(None) => Err(ConnectError::connect(target, race.into_failures(None))),
            Err(elapsed) => {
                let attempts = race.into_failures(Some(elapsed));
                Err(ConnectError::elapsed_connecting(target, elapsed, attempts))
            }
        }
    }

    async fn resolve(&self, target: &Target) -> Result<Vec<SocketAddr>, ConnectError> {
        let (host, port) = match target.kind() {
            Kind::Address(address) => return Ok(vec![*address]),
            Kind::Name { host, port } => (host, port),
        };
        let port = match port {
            Port::Number(port) => *port,
            Port::Service(name) => service_port(target, name).await?,
        };
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let resolved = match &self.resolver {
            Some(resolve) => resolve(host.clone(), port).await,
            None => match lookup_host((host.as_str(), port)).await {
                Ok(addresses) => Ok(addresses.collect()),
                Err(error) => Err(of_system(error)),
            },
        };
        resolved.map_err(|error| ConnectError::resolve(target, error))
    }

    /// One attempt.
    async fn open(&self, address: SocketAddr) -> io::Result<Connection<Socket<TcpStream>>> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_nodelay(self.nodelay)?;
        if let Some(keepalive) = self.keepalive {
            SockRef::from(&socket).set_tcp_keepalive(&keepalive.to_socket2())?;
        }
        if let Some(local) = self.local_address {
            bind(&socket, local, address)?;
        }
        let stream = socket.connect(address).await?;
        let socket = SockRef::from(&stream);
        self.user_timeout.set_on(&socket, self.keepalive)?;
        connection(stream, address)
    }
}

async fn service_port(target: &Target, name: &str) -> Result<u16, ConnectError> {
    let service = name.to_owned();
    let found = spawn_blocking(move || services::look_up(&service)).await;
    let found = found.unwrap_or_else(|cancelled| Err(cancelled.into()));
    let found = found.map_err(|error| ConnectError::services(target, error))?;
    found.ok_or_else(|| ConnectError::unknown_service(target, name))
}

/// Gives the errors of `getaddrinfo(3)` a kind: that the name is unknown.
///
/// The standard library has no stable one for them.
fn of_system(error: io::Error) -> io::Error {
    let unknown = match error.raw_os_error() {
        Some(number) => cfg!(windows) && matches!(number, WSAHOST_NOT_FOUND | WSANO_DATA),
        // The runtime shuts down, or there is a zero byte in the name.
        None => !matches!(
            error.kind(),
            io::ErrorKind::Other | io::ErrorKind::InvalidInput
        ),
    };
    if unknown {
        return io::Error::new(io::ErrorKind::NotFound, error);
    }
    error
}

fn bind(socket: &TcpSocket, local: IpAddr, peer: SocketAddr) -> io::Result<()> {
    if local.is_ipv4() != peer.is_ipv4() {
        let message = format!("the local address {local} is of the other IP version");
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, message));
    }
    share_ports(socket);
    let bound = socket.bind(SocketAddr::new(local, 0));
    bound.map_err(|error| io::Error::new(error.kind(), format!("local address {local}: {error}")))
}

/// Leaves the choice of the local port to connect, which knows the destination.
///
/// Bound to an address alone, the socket would take a port that no other connection from there can
/// have, whatever its destination. Linux before 4.2 refuses the option and does that.
#[cfg(any(target_os = "android", target_os = "linux"))]
fn share_ports(socket: &TcpSocket) {
    let _refused = setsockopt(socket, IpBindAddressNoPort, &true);
}

#[cfg(not(any(target_os = "android", target_os = "linux")))]
fn share_ports(_: &TcpSocket) {}

/// Fails where the two ends are one socket.
///
/// A local port without a listener may be chosen for the client's own side, and TCP then
/// connects the socket to itself (RFC 9293, 3.5: simultaneous open).
pub(super) fn connection(
    stream: TcpStream,
    address: SocketAddr,
) -> io::Result<Connection<Socket<TcpStream>>> {
    let local = stream.local_address();
    let peer = match stream.peer_address() {
        // The server has reset the connection already.
        Address::Unknown => address.into(),
        // Not `address`, which may be 0.0.0.0.
        peer => peer,
    };
    if local == peer {
        let message = "nothing listens there: the socket connected to itself";
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, message));
    }
    let info = ConnectionInfo::new(peer, local);
    Ok(Connection::with_info(stream, info))
}

impl Default for Connector {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("timeout", &self.timeout)
            .field("fallback_delay", &self.fallback_delay)
            .field("nodelay", &self.nodelay)
            .field("keepalive", &self.keepalive)
            .field("user_timeout", &self.user_timeout)
            .field("local_address", &self.local_address)
            .field("own_resolver", &self.resolver.is_some())
            .finish()
    }
}

impl Service<Target> for Connector {
    type Response = Connection<Socket<TcpStream>>;
    type Error = ConnectError;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Target) -> Connecting {
        let connector = self.clone();
        Connecting(Box::pin(async move { connector.connect_to(&target).await }))
    }
}

/// Future of a [`Connector`]. Dropping it drops all attempts.
pub struct Connecting(Pin<Box<dyn Future<Output = Connected> + Send>>);

impl Future for Connecting {
    type Output = Connected;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Connecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connecting").finish_non_exhaustive()
    }
}

/// One bound on several steps.
#[derive(Clone, Copy)]
pub(super) struct Bound {
    /// `None` also for a time that the clock cannot express.
    deadline: Option<Instant>,
    elapsed: Elapsed,
}

impl Bound {
    pub(super) fn starting_now(timeout: Option<Duration>) -> Self {
        let elapsed = Elapsed::new(phase::CONNECT, timeout.unwrap_or_default());
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Self { deadline, elapsed }
    }

    pub(super) async fn hold<F: Future>(&self, step: F) -> Result<F::Output, Elapsed> {
        match self.deadline {
            Some(deadline) => timeout_at(deadline, step).await.map_err(|_| self.elapsed),
            None => Ok(step.await),
        }
    }
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_FALLBACK_DELAY: Duration = Duration::from_millis(250);

const WSAHOST_NOT_FOUND: i32 = 11_001;
const WSANO_DATA: i32 = 11_004;
