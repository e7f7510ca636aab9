//! The connector and its settings.

use super::{
    Buffers, ConnectError, Target, phase,
    race::{Race, interleave},
    stream,
    target::TargetKind,
};
use crate::listener::{Keepalive, UserTimeout};
use portcullis_middleware::{
    Connection, ConnectionInfo,
    connection::{KernelSocket, Socket, Transport},
    error::Elapsed,
    internal::LateOptions,
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
    net::{TcpStream, lookup_host},
    time::{Instant, timeout_at},
};
use tower::Service;

/// Connects over TCP; see the [module docs](super).
///
/// A clone has the same settings and shares no other state.
///
/// # Panics
///
/// Connecting panics outside of a tokio runtime with I/O and time enabled.
#[derive(Clone)]
pub struct Connector {
    timeout: Option<Duration>,
    fallback_delay: Duration,
    nodelay: bool,
    keepalive: Option<Keepalive>,
    user_timeout: UserTimeout,
    local_address: Option<IpAddr>,
    buffers: Buffers,
    resolver: Option<Arc<Resolve>>,
}

type Connected = Result<Connection<Socket<TcpStream>>, ConnectError>;
type Resolve = dyn Fn(String, u16) -> Resolving + Send + Sync;
type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

impl Connector {
    /// Uses the default of each setting.
    pub const fn new() -> Self {
        Self {
            timeout: Some(DEFAULT_TIMEOUT),
            fallback_delay: DEFAULT_FALLBACK_DELAY,
            nodelay: true,
            keepalive: Some(Keepalive::new()),
            user_timeout: UserTimeout::AsKeepalive,
            local_address: None,
            buffers: Buffers {
                recv: None,
                send: None,
            },
            resolver: None,
        }
    }

    /// Limits name resolution and all attempts together; 10 s by default.
    ///
    /// `None` leaves it to the system, which gives up on an address after two minutes or more (Linux: 127 s).
    /// In 10 s the system sends the first packet again three times. A host that has not answered by then is
    /// probably down, and the caller usually has a timeout as well.
    #[must_use]
    pub fn with_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Sets how long an attempt runs before the next address is tried too; 250 ms by default.
    ///
    /// The value is that of RFC 8305, section 5, which advises against less than 100 ms. The earlier attempt
    /// continues, and the first success of any wins. Zero tries all addresses concurrently, [`Duration::MAX`]
    /// one after the other.
    #[must_use]
    pub const fn with_fallback_delay(mut self, delay: Duration) -> Self {
        self.fallback_delay = delay;
        self
    }

    /// Sends small writes immediately (`TCP_NODELAY`); on by default.
    #[must_use]
    pub const fn with_nodelay(mut self, nodelay: bool) -> Self {
        self.nodelay = nodelay;
        self
    }

    /// Sets the probes for a vanished server (`SO_KEEPALIVE`); on by default, with [`Keepalive::new`].
    ///
    /// `None` leaves them off, as the system does.
    #[must_use]
    pub fn with_keepalive(mut self, keepalive: impl Into<Option<Keepalive>>) -> Self {
        self.keepalive = keepalive.into();
        self
    }

    /// Sets how long sent data may stay unacknowledged (`TCP_USER_TIMEOUT`).
    ///
    /// By default this is as long as keepalive takes to give up; `None` leaves it to the system. See
    /// [`TcpOptions::with_user_timeout`](crate::listener::TcpOptions::with_user_timeout). It is set after the
    /// connection is made, so it does not limit attempts.
    #[must_use]
    pub fn with_user_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.user_timeout = UserTimeout::Given(timeout.into());
        self
    }

    /// Sets the local address to connect from; by default the system chooses one.
    ///
    /// Attempts at addresses of the other IP version then fail. The system chooses the local port. On Linux
    /// and Android it chooses per destination (`IP_BIND_ADDRESS_NO_PORT`), so that connections to several
    /// servers share the ports. Elsewhere each connection takes its own port, which limits all connections
    /// from the address to the number of ephemeral ports.
    #[must_use]
    pub fn with_local_address(mut self, address: impl Into<Option<IpAddr>>) -> Self {
        self.local_address = address.into();
        self
    }

    /// Sets the kernel's receive buffer per connection in bytes (`SO_RCVBUF`).
    ///
    /// See [`TcpOptions::with_recv_buffer_size`](crate::listener::TcpOptions::with_recv_buffer_size).
    #[must_use]
    pub fn with_recv_buffer_size(mut self, size: impl Into<Option<usize>>) -> Self {
        self.buffers.recv = size.into();
        self
    }

    /// Sets the kernel's send buffer per connection in bytes (`SO_SNDBUF`).
    ///
    /// See [`TcpOptions::with_send_buffer_size`](crate::listener::TcpOptions::with_send_buffer_size).
    #[must_use]
    pub fn with_send_buffer_size(mut self, size: impl Into<Option<usize>>) -> Self {
        self.buffers.send = size.into();
        self
    }

    /// Resolves names with a custom function instead of the system's `getaddrinfo(3)`.
    ///
    /// It gets the host and the port and returns the addresses, the preferred one first. IP addresses bypass
    /// it. An error or an empty list becomes a [`ConnectError`] of the step `resolve`. An empty list, or an
    /// error of kind [`NotFound`](io::ErrorKind::NotFound), means that the [host is
    /// unknown](ConnectError::is_unknown_host). Any other error keeps its [kind](ConnectError::kind), for
    /// example `TimedOut` for a [timeout](ConnectError::is_timeout).
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

    /// See [`with_recv_buffer_size`](Self::with_recv_buffer_size).
    pub const fn recv_buffer_size(&self) -> Option<usize> {
        self.buffers.recv
    }

    /// See [`with_send_buffer_size`](Self::with_send_buffer_size).
    pub const fn send_buffer_size(&self) -> Option<usize> {
        self.buffers.send
    }

    /// Connects to `"host:port"`, `(host, port)`, a [`SocketAddr`] or another [`Target`].
    ///
    /// # Errors
    ///
    /// [`ConnectError`] when the target is invalid, the name is unknown, every address fails, or the timeout
    /// expires.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops all attempts. A lookup that the system has started runs to its end, in a
    /// thread of the runtime's blocking pool.
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

    /// Resolves the target and tries its addresses with `open`.
    pub(super) async fn reach<T, Fut>(
        &self,
        target: &Target,
        open: impl Fn(SocketAddr) -> Fut,
    ) -> Result<(SocketAddr, T), ConnectError>
    where
        Fut: Future<Output = io::Result<T>>,
    {
        let bound = ConnectDeadline::starting_now(self.timeout);
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

    /// The addresses of the target, in the order of the resolver. It has no timeout.
    pub(crate) async fn resolve(&self, target: &Target) -> Result<Vec<SocketAddr>, ConnectError> {
        let host = match target.kind() {
            TargetKind::Address(address) => return Ok(vec![*address]),
            TargetKind::Name { host, .. } => host,
        };
        let port = target.port().await?;
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

    /// Makes one attempt, without a timeout.
    pub(crate) async fn open<Io>(&self, address: SocketAddr) -> io::Result<Connection<Socket<Io>>>
    where
        Io: Transport + From<TcpStream>,
    {
        let stream = stream::connected(self.begin(address, Buffers::default())?).await?;
        self.set_late_options(&SockRef::from(&stream))?;
        stream::connection(stream, address, ConnectionInfo::new)
    }

    /// Makes one attempt, without a timeout. The connection has `options` in place of those that notice a vanished peer,
    /// and `buffers`, as far as they have sizes, in place of its own.
    ///
    /// It begins before it is polled, so that its future does not hold what only the beginning needs.
    pub(crate) fn open_with<Io>(
        &self,
        address: SocketAddr,
        options: &LateOptions,
        buffers: Buffers,
    ) -> impl Future<Output = io::Result<Connection<Socket<Io>>>>
    where
        Io: Transport + From<TcpStream>,
    {
        let begun = self.begin(address, buffers);
        async move {
            let stream = stream::connected(begun?).await?;
            stream::connection(stream, address, |peer, local| options.describe(peer, local))
        }
    }

    /// Connects as the service does, with connections that have `options` in place of those that notice a vanished peer.
    pub(crate) async fn connect_with(&self, target: &Target, options: &LateOptions) -> Connected {
        let open = |address| self.open_with(address, options, Buffers::default());
        let reached = self.reach(target, open).await;
        reached.map(|(_, connection)| connection)
    }

    /// The options that notice a vanished peer.
    pub(crate) fn late_options(&self) -> LateOptions {
        let connector = self.clone();
        LateOptions::new(move |socket| match socket {
            KernelSocket::Tcp(stream) => connector.set_late_options(&SockRef::from(stream)),
            _ => Ok(()),
        })
    }

    fn begin(&self, address: SocketAddr, buffers: Buffers) -> io::Result<TcpStream> {
        let socket = stream::socket(address)?;
        socket.set_tcp_nodelay(self.nodelay)?;
        buffers.or(self.buffers).set_on(&socket)?;
        stream::connect(&socket, address, self.local_address)?;
        TcpStream::from_std(socket.into())
    }

    fn set_late_options(&self, socket: &socket2::Socket) -> io::Result<()> {
        if let Some(keepalive) = self.keepalive {
            let probes = match self.user_timeout() {
                Some(_) => keepalive.with_user_timeout(),
                None => keepalive.to_socket2(),
            };
            socket.set_tcp_keepalive(&probes)?;
        }
        self.user_timeout.set_on(socket, self.keepalive)
    }
}

/// Gives errors of `getaddrinfo(3)` that mean an unknown name the kind `NotFound`.
///
/// The standard library has no stable kind for them.
fn of_system(error: io::Error) -> io::Error {
    let unknown = match error.raw_os_error() {
        Some(number) => cfg!(windows) && matches!(number, WSAHOST_NOT_FOUND | WSANO_DATA),
        // The runtime is shutting down, or the name contains a zero byte.
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
            .field("buffers", &self.buffers)
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
        Connecting::new(async move { connector.connect_to(&target).await })
    }
}

/// Future of a [`Connector`]. Dropping it drops all attempts.
pub struct Connecting(Pin<Box<dyn Future<Output = Connected> + Send>>);

impl Connecting {
    pub(crate) fn new(connecting: impl Future<Output = Connected> + Send + 'static) -> Self {
        Self(Box::pin(connecting))
    }
}

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

/// One deadline for several steps.
#[derive(Clone, Copy)]
pub(super) struct ConnectDeadline {
    /// Also `None` for a time that the clock cannot represent.
    deadline: Option<Instant>,
    elapsed: Elapsed,
}

impl ConnectDeadline {
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
