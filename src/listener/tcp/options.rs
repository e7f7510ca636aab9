//! What a TCP listener and its connections are bound with.

use super::{
    BindError, Keepalive, TcpListener, UserTimeout,
    bind::{explain, no_address, resolve, reuse_port, set_reuse_port},
};
use crate::listener::{
    adopt::take_over,
    bind_error::{Failed, OrFail},
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::{
    fmt,
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

/// Options of a [`TcpListener`] and of the connections that it accepts.
///
/// `TCP_DEFER_ACCEPT`, `TCP_FASTOPEN` and Windows' `SO_EXCLUSIVEADDRUSE` are not among them: no safe
/// call sets them. A socket that the program sets up by itself can be [adopted](Self::adopt).
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
    /// The defaults, as each method names them.
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

    /// How many finished connections may wait for accept; 1024 by default.
    ///
    /// The queue bridges the time in which the server does not accept: a burst, a full limit, a busy
    /// worker. Clients beyond it retry after a second or more. The values of 100 and 128 that many
    /// programs carry come from systems that cut it there (`somaxconn` was 128 on Linux before 5.4,
    /// and is on macOS); systems cut it silently still, Linux at `net.core.somaxconn`, 4096.
    pub const fn with_backlog(self, backlog: u32) -> Self {
        Self { backlog, ..self }
    }

    /// Whether a restarted server gets its port back at once (`SO_REUSEADDR`); on by default.
    ///
    /// Without it binding fails for a minute or so, while the last connections of the old process are
    /// in TIME-WAIT. Not set on Windows, where restarts need no help and the option means that other
    /// programs may take the port over.
    pub const fn with_reuse_address(self, reuse_address: bool) -> Self {
        Self {
            reuse_address,
            ..self
        }
    }

    /// Whether several sockets may share the address (`SO_REUSEPORT`); off by default.
    ///
    /// Needed to [shard](super::Listener::shard). Linux and FreeBSD (`SO_REUSEPORT_LB`) spread the
    /// clients over the sockets; macOS gives them all to one. Any program of the same user may join
    /// in, and a second server started by mistake does so without an error. Systems without the
    /// option (Windows, Solaris) refuse to bind.
    pub const fn with_reuse_port(self, reuse_port: bool) -> Self {
        Self { reuse_port, ..self }
    }

    /// Whether an IPv6 socket leaves IPv4 alone (`IPV6_V6ONLY`); off by default.
    ///
    /// It concerns `[::]`: with it off that takes IPv4 clients too, whatever the system's own default
    /// is, and their addresses read `::ffff:192.0.2.7`. Turn it on to bind `0.0.0.0` and `[::]` to
    /// the same port. OpenBSD has it always on.
    pub const fn with_only_v6(self, only_v6: bool) -> Self {
        Self { only_v6, ..self }
    }

    /// Whether small writes leave at once (`TCP_NODELAY`); on by default.
    ///
    /// Off, a small write waits until the peer has acknowledged the one before (Nagle's algorithm),
    /// and a peer that delays its acknowledgements holds it up for 40 ms or more.
    pub const fn with_nodelay(self, nodelay: bool) -> Self {
        Self { nodelay, ..self }
    }

    /// Probes for peers that vanished (`SO_KEEPALIVE`); on by default, with [`Keepalive::new`].
    ///
    /// On, because a peer without power says no goodbye: its connection, and its place under a limit,
    /// would be held indefinitely. `None` leaves the socket as the system makes it: without.
    pub const fn with_keepalive(self, keepalive: Option<Keepalive>) -> Self {
        Self { keepalive, ..self }
    }

    /// What the drop of a connection does with unsent data (`SO_LINGER`); off (`None`) by default.
    ///
    /// `Some(Duration::ZERO)` throws it away and resets the connection. Anything above zero **blocks
    /// the worker thread** on every drop until the peer has acknowledged everything or the time is
    /// over, rounded up to seconds, also with non-blocking sockets: there is hardly a use for it.
    /// `Connection::close` is the polite end.
    pub const fn with_linger(self, linger: Option<Duration>) -> Self {
        Self { linger, ..self }
    }

    /// How long sent data may stay unacknowledged before the connection fails (`TCP_USER_TIMEOUT`).
    ///
    /// By default as long as keepalive takes to give up, two minutes with [`Keepalive::new`]; without
    /// keepalive it is not set. Keepalive does not probe while data is unacknowledged, and the
    /// retransmissions alone go on for 15 minutes or more. `None` and zero turn the option off.
    ///
    /// It also limits how long a living peer may keep its receive window closed, that is, read
    /// nothing while data waits for it. It decides when keepalive gives up, in place of the number of
    /// probes. Milliseconds, rounded up; what is longer than 24 days is cut to that. It has an effect on
    /// Linux and Android. See `tcp(7)`, RFC 5482 and, for the default, gRPC proposal A18.
    pub const fn with_user_timeout(self, user_timeout: Option<Duration>) -> Self {
        let user_timeout = UserTimeout::Given(user_timeout);
        Self {
            user_timeout,
            ..self
        }
    }

    /// Size in bytes of the kernel's receive buffer per connection (`SO_RCVBUF`).
    ///
    /// `None`, the default, lets the system adapt it, which is best for nearly all; a fixed size
    /// turns that off. Linux doubles the number for its bookkeeping, and cuts it at
    /// `net.core.rmem_max`.
    pub const fn with_recv_buffer_size(self, recv_buffer: Option<usize>) -> Self {
        Self {
            recv_buffer,
            ..self
        }
    }

    /// Size in bytes of the kernel's send buffer per connection (`SO_SNDBUF`).
    ///
    /// As with [`with_recv_buffer_size`](Self::with_recv_buffer_size); Linux cuts it at
    /// `net.core.wmem_max`.
    pub const fn with_send_buffer_size(self, send_buffer: Option<usize>) -> Self {
        Self {
            send_buffer,
            ..self
        }
    }

    /// Listens on the first of the addresses that can be bound.
    ///
    /// `"localhost:80"`, `("::", 80)`, a [`SocketAddr`], a slice of them… Port 0 lets the system
    /// choose. Looking a name up blocks the thread.
    ///
    /// # Errors
    ///
    /// [`BindError`] when the name is unknown, when an option is refused, or for the last address
    /// when none can be bound.
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

    /// Listens on all of the addresses: all that a name has, or all of a slice.
    ///
    /// Port 0 becomes another port for each.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind), and when any of them cannot be bound; none stays bound then.
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

    /// Takes over a listening socket: inherited from a supervisor, or set up in another way.
    ///
    /// The options of connections (nodelay, keepalive, linger, timeout, buffers) are set on it; those
    /// that concern binding stay as they are. Close-on-exec is set too, as `sd_listen_fds(3)` does:
    /// child processes do not inherit the socket, which would keep the port in use.
    ///
    /// # Errors
    ///
    /// [`BindError`] when the file descriptor is not an IP socket, when the socket
    /// [does not listen](BindError::is_not_listening), or when it refuses an option.
    pub fn adopt(&self, socket: std::net::TcpListener) -> Result<TcpListener, BindError> {
        let local = socket.local_addr();
        let local = local.map_err(|error| {
            let advice = "the descriptor must be an IP socket that listens";
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
    ) -> Result<(std::net::TcpListener, SocketAddr), Failed> {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).or_fail("socket")?;
        if cfg!(not(windows)) {
            let reuse = socket.set_reuse_address(self.reuse_address);
            reuse.or_fail("reuse_address")?;
        }
        if self.reuse_port {
            set_reuse_port(&socket).or_fail("reuse_port")?;
        }
        // OpenBSD refuses to turn it off.
        if address.is_ipv6() && (self.only_v6 || cfg!(not(target_os = "openbsd"))) {
            socket.set_only_v6(self.only_v6).or_fail("only_v6")?;
        }
        socket.set_nonblocking(true).or_fail("nonblocking")?;
        // Before listening: a handshake tells the size of the buffer, and accepts may begin at once.
        self.set_accept_options(&socket)?;
        socket.bind(&address.into()).or_fail("bind")?;
        let backlog = i32::try_from(self.backlog).unwrap_or(i32::MAX);
        socket.listen(backlog).or_fail("listen")?;
        let socket = std::net::TcpListener::from(socket);
        let local = socket.local_addr().or_fail("local_address")?;
        Ok((socket, local))
    }

    /// Sets on a listening socket what its connections get from it.
    fn set_accept_options(&self, socket: &Socket) -> Result<(), Failed> {
        if let Some(bytes) = self.recv_buffer {
            let set = socket.set_recv_buffer_size(bytes);
            set.or_fail("recv_buffer_size")?;
        }
        if let Some(bytes) = self.send_buffer {
            let set = socket.set_send_buffer_size(bytes);
            set.or_fail("send_buffer_size")?;
        }
        // Also where connections do not inherit them: values that are refused fail here, at the start.
        self.set_stream_options(socket)
    }

    pub(super) fn set_stream_options(&self, socket: &Socket) -> Result<(), Failed> {
        socket.set_tcp_nodelay(self.nodelay).or_fail("nodelay")?;
        if let Some(keepalive) = self.keepalive {
            let set = socket.set_tcp_keepalive(&keepalive.to_socket2());
            set.or_fail("keepalive")?;
        }
        if let Some(linger) = self.linger {
            // Cut off to seconds by the system; half a second would become zero, a reset.
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
            socket,
            registered: None,
            local,
            options: self,
        }
    }
}

/// What is set.
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
