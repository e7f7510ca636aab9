//! Options of TCP listeners.

use super::{
    BindError, Keepalive, TcpListener, UserTimeout,
    bind::{explain, no_address, resolve, reuse_port, set_reuse_port},
};
use crate::listener::{
    adopt::take_over,
    bind_error::{FailedStep, OrFail},
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::{
    fmt,
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

/// Options of a [`TcpListener`] and of the connections that it accepts.
///
/// `TCP_DEFER_ACCEPT`, `TCP_FASTOPEN` and Windows' `SO_EXCLUSIVEADDRUSE` are unavailable, because setting
/// them takes unsafe calls. A socket that the program sets up itself can be [adopted](Self::adopt).
///
/// ```
/// use portcullis::listener::TcpOptions;
///
/// let listener = TcpOptions::new()
///     .with_backlog(4096)
///     .with_only_v6(true)
///     .bind("[::1]:0");
/// # let _ = listener; // The machine may be without IPv6.
/// ```
#[derive(Clone, Debug)]
pub struct TcpOptions {
    backlog: u32,
    reuse_address: bool,
    reuse_port: bool,
    only_v6: bool,
    nodelay: bool,
    keepalive: Option<Keepalive>,
    linger: Option<Duration>,
    user_timeout: UserTimeout,
    recv_buffer: Option<usize>,
    send_buffer: Option<usize>,
}

impl TcpOptions {
    /// Uses the default of each option.
    pub const fn new() -> Self {
        Self {
            backlog: 1024,
            reuse_address: true,
            reuse_port: false,
            only_v6: false,
            nodelay: true,
            keepalive: Some(Keepalive::new()),
            linger: None,
            user_timeout: UserTimeout::AsKeepalive,
            recv_buffer: None,
            send_buffer: None,
        }
    }

    /// Sets how many connections may wait to be accepted; 1024 by default.
    ///
    /// The queue bridges times in which the server does not accept, such as a burst, a full limit or a busy
    /// worker. Clients beyond it retry after a second or more. The usual values of 100 and 128 come from
    /// systems that silently reduced larger ones to `somaxconn` (128 on Linux before 5.4 and on macOS). Linux
    /// still reduces them to `net.core.somaxconn`, 4096.
    pub const fn with_backlog(self, backlog: u32) -> Self {
        Self { backlog, ..self }
    }

    /// Lets a restarted server reuse its port immediately (`SO_REUSEADDR`); on by default.
    ///
    /// Without it, binding fails for about a minute while the last connections of the old process are in
    /// TIME-WAIT. It is skipped on Windows, where restarts work without it and the option would let other
    /// programs take over the port.
    pub const fn with_reuse_address(self, reuse_address: bool) -> Self {
        Self {
            reuse_address,
            ..self
        }
    }

    /// Lets several sockets share the address (`SO_REUSEPORT`); off by default.
    ///
    /// [Sharding](super::Listener::shard) needs it. Linux and FreeBSD (`SO_REUSEPORT_LB`) spread the clients
    /// over the sockets; macOS gives them all to one. Any program of the same user may bind the address too,
    /// and a second server that is started by mistake does so without an error. Systems without the option
    /// (Windows, Solaris) fail to bind.
    pub const fn with_reuse_port(self, reuse_port: bool) -> Self {
        Self { reuse_port, ..self }
    }

    /// Restricts an IPv6 socket to IPv6 (`IPV6_V6ONLY`); off by default.
    ///
    /// This matters for `[::]`. If it is off, `[::]` also accepts IPv4 clients, whatever the system's
    /// default, with addresses like `::ffff:192.0.2.7`. Turn it on to bind `0.0.0.0` and `[::]` to the same
    /// port. It is always on in OpenBSD.
    pub const fn with_only_v6(self, only_v6: bool) -> Self {
        Self { only_v6, ..self }
    }

    /// Sends small writes immediately (`TCP_NODELAY`); on by default.
    ///
    /// If it is off, a small write waits until the peer has acknowledged the previous one (Nagle's
    /// algorithm). A peer that delays its acknowledgements then adds 40 ms or more.
    pub const fn with_nodelay(self, nodelay: bool) -> Self {
        Self { nodelay, ..self }
    }

    /// Sets the probes for vanished peers (`SO_KEEPALIVE`); on by default, with [`Keepalive::new`].
    ///
    /// Without them a peer that lost power would hold its connection, and its connection permit,
    /// indefinitely. `None` leaves them off, as the system does.
    pub fn with_keepalive(mut self, keepalive: impl Into<Option<Keepalive>>) -> Self {
        self.keepalive = keepalive.into();
        self
    }

    /// Sets how a drop treats unsent data (`SO_LINGER`); off (`None`) by default.
    ///
    /// `Some(Duration::ZERO)` discards it and resets the connection. Any other value **blocks the worker
    /// thread** on every drop until the peer has acknowledged everything or the time, rounded up to seconds,
    /// is over. This also applies to non-blocking sockets and is rarely useful. Use `Connection::close` for a
    /// graceful close.
    pub fn with_linger(mut self, linger: impl Into<Option<Duration>>) -> Self {
        self.linger = linger.into();
        self
    }

    /// Sets how long sent data may stay unacknowledged (`TCP_USER_TIMEOUT`).
    ///
    /// By default this is as long as keepalive takes to give up, two minutes with [`Keepalive::new`]; without
    /// keepalive it is unset. Keepalive does not probe while data is unacknowledged, and retransmissions
    /// alone continue for 15 minutes or more. `None` and zero turn the option off.
    ///
    /// It also limits how long a live peer may keep its receive window closed, that is, leave data unread. It
    /// replaces the number of probes as the limit of keepalive. Values are rounded up to milliseconds and
    /// capped at 24 days. It has an effect on Linux and Android. See `tcp(7)`, RFC 5482 and, for the default,
    /// gRPC proposal A18.
    pub fn with_user_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.user_timeout = UserTimeout::Given(timeout.into());
        self
    }

    /// Sets the kernel's receive buffer per connection in bytes (`SO_RCVBUF`).
    ///
    /// With `None`, the default, the system adapts the size, which is usually best; a fixed size disables
    /// that. Linux doubles the number for its bookkeeping and caps it at `net.core.rmem_max`.
    pub fn with_recv_buffer_size(mut self, size: impl Into<Option<usize>>) -> Self {
        self.recv_buffer = size.into();
        self
    }

    /// Sets the kernel's send buffer per connection in bytes (`SO_SNDBUF`).
    ///
    /// As with [`with_recv_buffer_size`](Self::with_recv_buffer_size); Linux caps it at `net.core.wmem_max`.
    pub fn with_send_buffer_size(mut self, size: impl Into<Option<usize>>) -> Self {
        self.send_buffer = size.into();
        self
    }

    /// Listens on the first address that can be bound.
    ///
    /// Accepts `"localhost:80"`, `("::", 80)`, a [`SocketAddr`], a slice of them and more. With port 0 the
    /// system chooses a port. Resolving a name blocks the thread.
    ///
    /// # Errors
    ///
    /// [`BindError`] when the name is unknown or an option is rejected, or for the last address when all
    /// fail.
    pub fn bind(&self, address: impl ToSocketAddrs + fmt::Debug) -> Result<TcpListener, BindError> {
        let mut failed = None;
        for address in resolve(&address)? {
            match self.bind_one(address) {
                Ok(listener) => return Ok(listener),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| no_address(&address)))
    }

    /// Listens on all addresses of a name or a slice.
    ///
    /// With port 0 each address gets a different port.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind), and when any address fails; the others are then released.
    pub fn bind_all(
        &self,
        address: impl ToSocketAddrs + fmt::Debug,
    ) -> Result<Vec<TcpListener>, BindError> {
        let addresses = resolve(&address)?;
        if addresses.is_empty() {
            return Err(no_address(&address));
        }
        addresses
            .into_iter()
            .map(|address| self.bind_one(address))
            .collect()
    }

    /// Adopts a listening socket that was inherited or set up by other code.
    ///
    /// The options of connections (nodelay, keepalive, linger, timeout, buffers) are set on it; the options
    /// of binding stay unchanged. Close-on-exec is set too, as `sd_listen_fds(3)` does, so that child
    /// processes do not inherit the socket and keep the port in use.
    ///
    /// # Errors
    ///
    /// [`BindError`] when the file descriptor is not an IP socket, when the socket [does not
    /// listen](BindError::is_not_listening), or when it rejects an option.
    pub fn adopt(&self, socket: std::net::TcpListener) -> Result<TcpListener, BindError> {
        let local = socket.local_addr();
        let local = local.map_err(|error| {
            let advice = "the file descriptor must be an IP socket that listens";
            BindError::new("an inherited socket", "local_address", advice, error)
        })?;
        let inherited = SockRef::from(&socket);
        let set = take_over(&inherited).and_then(|()| self.set_accept_options(&inherited));
        set.map_err(|failed| explain(failed, local))?;
        let options = Self {
            reuse_port: reuse_port(&inherited),
            only_v6: local.is_ipv6() && inherited.only_v6().unwrap_or(false),
            ..self.clone()
        };
        Ok(options.listener(socket, local))
    }

    fn bind_one(&self, address: SocketAddr) -> Result<TcpListener, BindError> {
        let bound = self.bind_socket(address);
        let (socket, local) = bound.map_err(|failed| explain(failed, address))?;
        Ok(self.clone().listener(socket, local))
    }

    fn bind_socket(
        &self,
        address: SocketAddr,
    ) -> Result<(std::net::TcpListener, SocketAddr), FailedStep> {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).or_fail("socket")?;
        if cfg!(not(windows)) {
            let reuse = socket.set_reuse_address(self.reuse_address);
            reuse.or_fail("reuse_address")?;
        }
        if self.reuse_port {
            set_reuse_port(&socket).or_fail("reuse_port")?;
        }
        // OpenBSD rejects turning it off.
        if address.is_ipv6() && (self.only_v6 || cfg!(not(target_os = "openbsd"))) {
            socket.set_only_v6(self.only_v6).or_fail("only_v6")?;
        }
        socket.set_nonblocking(true).or_fail("nonblocking")?;
        // Set before listening, because the handshake advertises the buffer size and accepts may begin
        // immediately.
        self.set_accept_options(&socket)?;
        socket.bind(&address.into()).or_fail("bind")?;
        let backlog = i32::try_from(self.backlog).unwrap_or(i32::MAX);
        socket.listen(backlog).or_fail("listen")?;
        let socket = std::net::TcpListener::from(socket);
        let local = socket.local_addr().or_fail("local_address")?;
        Ok((socket, local))
    }

    /// Sets the options that connections inherit on a listening socket.
    fn set_accept_options(&self, socket: &Socket) -> Result<(), FailedStep> {
        if let Some(bytes) = self.recv_buffer {
            let set = socket.set_recv_buffer_size(bytes);
            set.or_fail("recv_buffer_size")?;
        }
        if let Some(bytes) = self.send_buffer {
            let set = socket.set_send_buffer_size(bytes);
            set.or_fail("send_buffer_size")?;
        }
        // Set on all systems, so that invalid values fail at start.
        self.set_stream_options(socket)
    }

    pub(super) fn set_stream_options(&self, socket: &Socket) -> Result<(), FailedStep> {
        socket.set_tcp_nodelay(self.nodelay).or_fail("nodelay")?;
        if let Some(keepalive) = self.keepalive {
            let set = socket.set_tcp_keepalive(&keepalive.to_socket2());
            set.or_fail("keepalive")?;
        }
        if let Some(linger) = self.linger {
            // The system truncates to seconds, so half a second would become zero, a reset.
            let part = u64::from(linger.subsec_nanos() > 0);
            let whole = Duration::from_secs(linger.as_secs().saturating_add(part));
            let set = socket.set_linger(Some(whole));
            set.or_fail("linger")?;
        }
        let set = self.user_timeout.set_on(socket, self.keepalive);
        set.or_fail("user_timeout")
    }

    fn listener(self, socket: std::net::TcpListener, local: SocketAddr) -> TcpListener {
        TcpListener {
            socket: socket.into(),
            registered: None,
            local,
            options: self,
        }
    }
}

/// Accessors.
impl TcpOptions {
    /// See [`with_backlog`](Self::with_backlog).
    pub const fn backlog(&self) -> u32 {
        self.backlog
    }

    /// See [`with_reuse_address`](Self::with_reuse_address).
    pub const fn reuse_address(&self) -> bool {
        self.reuse_address
    }

    /// See [`with_reuse_port`](Self::with_reuse_port).
    pub const fn reuse_port(&self) -> bool {
        self.reuse_port
    }

    /// See [`with_only_v6`](Self::with_only_v6).
    pub const fn only_v6(&self) -> bool {
        self.only_v6
    }

    /// See [`with_nodelay`](Self::with_nodelay).
    pub const fn nodelay(&self) -> bool {
        self.nodelay
    }

    /// See [`with_keepalive`](Self::with_keepalive).
    pub const fn keepalive(&self) -> Option<Keepalive> {
        self.keepalive
    }

    /// See [`with_linger`](Self::with_linger).
    pub const fn linger(&self) -> Option<Duration> {
        self.linger
    }

    /// See [`with_user_timeout`](Self::with_user_timeout); by default derived from [`keepalive`](Self::keepalive).
    pub fn user_timeout(&self) -> Option<Duration> {
        self.user_timeout.with(self.keepalive)
    }

    /// See [`with_recv_buffer_size`](Self::with_recv_buffer_size).
    pub const fn recv_buffer_size(&self) -> Option<usize> {
        self.recv_buffer
    }

    /// See [`with_send_buffer_size`](Self::with_send_buffer_size).
    pub const fn send_buffer_size(&self) -> Option<usize> {
        self.send_buffer
    }
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self::new()
    }
}
