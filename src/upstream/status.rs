//! What a pool knows about its servers, and what an operator can request.

use super::{
    CheckReport, Pool, Server, ServerAddress, ServerKey, events,
    member::Member,
    pool::Shared,
    standing::{Clock, Health, ServerRequest},
};
use portcullis_middleware::ConnectionInfo;
use std::{
    fmt,
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

impl Pool {
    /// The servers in their order, then those whose names were never resolved, and those that were removed and still
    /// have connections.
    pub fn servers(&self) -> Vec<ServerStatus> {
        let members = self.0.members();
        let mut servers: Vec<_> = members.iter().map(|member| self.0.status(member)).collect();
        let unresolved = self.0.never_resolved().into_iter();
        servers.extend(unresolved.map(|it| ServerStatus::unresolved(it.0, it.1, &it.2)));
        for leaving in self.0.leaving().iter() {
            let state = ServerState::Removed;
            let status = self.0.status(&leaving.member);
            servers.push(ServerStatus { state, ..status });
        }
        servers
    }

    /// The servers of which one would be chosen now for this client, without a connect.
    ///
    /// It is a single one if the client or the order decides ([`Balance::Hash`](super::Balance::Hash),
    /// [`Balance::First`](super::Balance::First)). It is empty if no server can be used, or each is full.
    pub fn candidates(&self, client: &ConnectionInfo) -> Vec<ServerStatus> {
        let candidates = self.0.candidates(client).into_iter();
        candidates.map(|member| self.0.status(&member)).collect()
    }

    /// Connections that wait for a server with capacity.
    pub fn waiting(&self) -> usize {
        self.0.queue.live()
    }

    /// How many connections may wait, and for how long; see [`PoolBuilder::with_queue`](super::PoolBuilder::with_queue).
    pub fn queue_limits(&self) -> (usize, Duration) {
        let settings = self.0.settings();
        (settings.max_waiting, settings.queue_timeout)
    }

    /// Replaces the servers.
    ///
    /// Servers with a name that the pool has already keep their connections, and unless their address changes, their
    /// health and their failures. Servers that are missing in the new list get no new connections, and [lose the others
    /// after a time](super::PoolBuilder::with_drain_timeout). Their checks end.
    ///
    /// # Panics
    ///
    /// As [`PoolBuilder::build`](super::PoolBuilder::build).
    pub fn replace<S: Into<Server>>(&self, servers: impl IntoIterator<Item = S>) {
        // Before the lock, because the iterator may use the pool.
        self.0
            .replace(servers.into_iter().map(Into::into).collect());
    }

    /// Gives a server no new connections. Returns false if the pool has no such server.
    ///
    /// It keeps those that it has. [`undrain`](Self::undrain) reverts it.
    ///
    /// The key of a server with a host name means all of its addresses, also those that are found later, here and for
    /// [`take_down`](Self::take_down) and [`restore`](Self::restore). What is requested for one address of a name
    /// stays when that address vanishes, and applies when it returns, also as that of another machine.
    pub fn drain(&self, server: &ServerKey) -> bool {
        self.request(server, ServerRequest::Drain)
    }

    /// Takes a server out of use like one that is down. Returns false if the pool has no such server.
    ///
    /// Its connections are closed if [health checks do that](super::HealthCheck::with_on_down).
    /// [`restore`](Self::restore) reverts it.
    pub fn take_down(&self, server: &ServerKey) -> bool {
        self.request(server, ServerRequest::Down)
    }

    /// Reverts [`drain`](Self::drain), with a [slow start](super::PoolBuilder::with_slow_start). A server that was
    /// [taken down](Self::take_down) stays so. Returns false if the pool has no such server.
    ///
    /// The key of a server with a host name reverts it for all of its addresses.
    pub fn undrain(&self, server: &ServerKey) -> bool {
        let is_known = self.0.undrain(server);
        if is_known {
            self.0.standing_changed();
        }
        is_known
    }

    /// Uses a server as its health allows, with a [slow start](super::PoolBuilder::with_slow_start). Returns false if the
    /// pool has no such server.
    pub fn restore(&self, server: &ServerKey) -> bool {
        self.request(server, ServerRequest::Auto)
    }

    /// Does what [`drain`](Self::drain), [`take_down`](Self::take_down) or [`restore`](Self::restore) does.
    ///
    /// Until a host name is resolved, the keys of all addresses are taken for addresses of it.
    pub fn request(&self, server: &ServerKey, request: ServerRequest) -> bool {
        let Some(members) = self.0.note_request(server, request) else {
            return false;
        };
        for member in &members {
            match request {
                ServerRequest::Down => self.0.went_down(member, "its server was taken down"),
                ServerRequest::Drain if member.state.count() == 0 => {
                    events::drained(&self.0, member);
                }
                ServerRequest::Drain | ServerRequest::Auto => {}
            }
        }
        self.0.standing_changed();
        true
    }

    /// What was requested for servers, such that [requesting](Self::request) it of another pool, in this order, does
    /// the same there.
    pub fn requests(&self) -> Vec<(ServerKey, ServerRequest)> {
        self.0.requests()
    }

    /// Shows its servers as gone in metrics, because it gets no new connections.
    ///
    /// Health checks end, unless they [close connections](super::OnDown::Close). Everything else goes on, and
    /// connections are counted until they end.
    pub fn retire(&self) {
        self.0.retire();
    }
}

impl Shared {
    fn status(&self, member: &Member) -> ServerStatus {
        let (server, state) = (&member.server, &member.state);
        ServerStatus {
            key: member.key.clone(),
            address: server.address().clone(),
            state: self.state(member),
            weight: server.weight(),
            is_backup: server.is_backup(),
            connections: state.count(),
            max_connections: server.max_connections(),
            connects: state.connects.load(Ordering::Relaxed),
            last_check: state.checks.last(),
            connect_failures: state.connect_failures.load(Ordering::Relaxed),
            certificate_not_after: self.certificate_not_after(member),
            progress: self.progress(member),
            error: None,
        }
    }

    /// How far a server is on its way up or down.
    fn progress(&self, member: &Member) -> Option<(u32, u32)> {
        let settings = self.settings();
        let check = settings.health.as_ref()?;
        let health = member.state.standing.health();
        match (health, member.state.checks.in_a_row()) {
            (_, (0, _)) => None,
            (Health::Up, (failed, false)) => Some((failed, check.fall)),
            (Health::Down, (passed, true)) => Some((passed, check.rise)),
            _ => None,
        }
    }

    pub(super) fn state(&self, member: &Member) -> ServerState {
        let standing = &member.state.standing;
        let now = self.clock.now();
        match (standing.request(), standing.health()) {
            (ServerRequest::Drain, _) => ServerState::Draining,
            (ServerRequest::Down, _) => ServerState::TakenDown,
            (ServerRequest::Auto, Health::Down) => ServerState::Down,
            (ServerRequest::Auto, _) if standing.is_ejected(now) => {
                ServerState::Ejected(Clock::until(now, standing.ejected_until()))
            }
            (ServerRequest::Auto, Health::Unknown) if self.settings().health.is_some() => {
                ServerState::Unknown
            }
            (ServerRequest::Auto, _) => ServerState::Up,
        }
    }
}

/// A server of a [`Pool`] at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerStatus {
    /// Its name.
    pub key: ServerKey,
    /// Its address.
    pub address: ServerAddress,
    /// Whether it is used.
    pub state: ServerState,
    /// Its [weight](Server::with_weight).
    pub weight: u16,
    /// Whether it is a [backup](Server::with_backup).
    pub is_backup: bool,
    /// Its open connections, and those that are being made.
    pub connections: usize,
    /// Its [limit](Server::with_max_connections).
    pub max_connections: Option<usize>,
    /// Connects that succeeded, health checks not included.
    pub connects: u64,
    /// Connects that failed, health checks not included.
    pub connect_failures: u64,
    /// Its last health check.
    pub last_check: Option<CheckReport>,
    /// When the certificate ends that it presented last, in a full handshake of a connection or of a health check that
    /// passed. A check of [another port](super::HealthCheck::with_port) counts if connections have no TLS.
    pub certificate_not_after: Option<SystemTime>,
    /// The checks in a row that contradict its state, and how many change it. `None` if the last one does not.
    pub progress: Option<(u32, u32)>,
    /// Why its name was not resolved, if it never was.
    pub error: Option<String>,
}

impl ServerStatus {
    /// That of a server whose name was never resolved.
    fn unresolved(server: Server, request: ServerRequest, error: &str) -> Self {
        Self {
            key: server.key(),
            address: server.address().clone(),
            state: match request {
                ServerRequest::Auto => ServerState::Unresolved,
                ServerRequest::Drain => ServerState::Draining,
                ServerRequest::Down => ServerState::TakenDown,
            },
            weight: server.weight(),
            is_backup: server.is_backup(),
            connections: 0,
            max_connections: server.max_connections(),
            connects: 0,
            connect_failures: 0,
            last_check: None,
            certificate_not_after: None,
            progress: None,
            error: Some(error.into()),
        }
    }
}

/// Whether a server is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerState {
    /// It is used. Without health checks each server is.
    Up,
    /// It was not checked yet. It is used while that is so for all servers of the pool, and until one has passed a check.
    Unknown,
    /// Health checks fail.
    Down,
    /// It is not used for this time, because [connects have failed](super::PoolBuilder::with_ejection).
    Ejected(Duration),
    /// It gets no new connections, by [`Pool::drain`].
    Draining,
    /// It is out of use by [`Pool::take_down`].
    TakenDown,
    /// Its name was never resolved, so it has no address.
    Unresolved,
    /// It is no longer a server of the pool, and still has connections.
    Removed,
}

impl ServerState {
    /// The name for metrics and log fields, in snake case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Unknown => "unknown",
            Self::Down => "down",
            Self::Ejected(_) => "ejected",
            Self::Draining => "draining",
            Self::TakenDown => "taken_down",
            Self::Unresolved => "unresolved",
            Self::Removed => "removed",
        }
    }
}

/// Writes the name with spaces, for use in a sentence.
impl fmt::Display for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TakenDown => "taken down",
            other => other.as_str(),
        })
    }
}
