//! The settings of a pool.

use super::{
    Balance, HealthCheck, Pool, Server, ServerKey, dial::Dialer, ejection::Ejection,
    endpoints::apply, pool::Shared, task::Task,
};
use crate::connect::Connector;
use futures_core::Stream;
use portcullis_middleware::BoxError;
use std::{sync::Arc, time::Duration};
use tower::discover::Change;

/// Builds a [`Pool`].
#[derive(Clone, Debug)]
pub struct PoolBuilder {
    settings: Settings,
    connector: Connector,
    #[cfg(test)]
    script: Option<super::dial::Script>,
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) name: Option<Arc<str>>,
    pub(super) balance: Balance,
    pub(super) attempt_timeout: Duration,
    pub(super) timeout: Duration,
    pub(super) max_attempts: usize,
    pub(super) queue_timeout: Duration,
    pub(super) max_waiting: usize,
    pub(super) ejection: Option<Ejection>,
    pub(super) slow_start: Duration,
    pub(super) health: Option<Arc<HealthCheck>>,
    pub(super) try_all: bool,
    pub(super) drain_timeout: Option<Duration>,
    pub(super) resolve_interval: Duration,
    #[cfg(feature = "dns")]
    pub(super) dns: Option<super::Dns>,
}

impl PoolBuilder {
    /// Uses the default of each setting.
    pub fn new() -> Self {
        let settings = Settings {
            name: None,
            balance: Balance::default(),
            attempt_timeout: ATTEMPT_TIMEOUT,
            timeout: TIMEOUT,
            max_attempts: MAX_ATTEMPTS,
            queue_timeout: QUEUE_TIMEOUT,
            max_waiting: MAX_WAITING,
            ejection: Some(EJECTION),
            slow_start: SLOW_START,
            health: None,
            try_all: false,
            drain_timeout: Some(DRAIN_TIMEOUT),
            resolve_interval: RESOLVE_INTERVAL,
            #[cfg(feature = "dns")]
            dns: None,
        };
        let connector = Connector::new();
        Self {
            settings,
            connector,
            #[cfg(test)]
            script: None,
        }
    }

    /// Names the pool in logs, errors and metrics.
    #[must_use]
    pub fn with_name(mut self, name: impl AsRef<str>) -> Self {
        self.settings.name = Some(name.as_ref().into());
        self
    }

    /// Sets how connections are distributed; by default to the server with the [fewest
    /// connections](Balance::LeastConnections).
    #[must_use]
    pub const fn with_balance(mut self, balance: Balance) -> Self {
        self.settings.balance = balance;
        self
    }

    /// Limits each attempt to connect to a server, with its PROXY header and its TLS handshake; 3 s by default.
    ///
    /// If an attempt has less than nine tenths of it, because the [limit of the connect](Self::with_timeout) is near, its
    /// timeout does not count as a failure of its server.
    #[must_use]
    pub const fn with_attempt_timeout(mut self, timeout: Duration) -> Self {
        self.settings.attempt_timeout = timeout;
        self
    }

    /// Limits a connect with all attempts and the wait for capacity; 10 s by default.
    ///
    /// A [`SkipGreeting`](super::SkipGreeting) adds the timeout of a greeting.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// Limits the servers that are tried for one connection, each once; 32 by default.
    ///
    /// The [time](Self::with_timeout) of the connect limits them as well.
    ///
    /// # Panics
    ///
    /// If `max` is zero.
    #[must_use]
    pub const fn with_max_attempts(mut self, max: usize) -> Self {
        assert!(max > 0, "`max` must be at least 1");
        self.settings.max_attempts = max;
        self
    }

    /// Sets how long a connection waits for a server with capacity, and how many may wait; 5 s and 1024 by default.
    ///
    /// Zero for `max` rejects connections immediately. Until the first host name is resolved, connections wait up to the
    /// [limit of a connect](Self::with_timeout), at least 1024 of them. See
    /// [`Server::with_max_connections`](super::Server::with_max_connections).
    #[must_use]
    pub const fn with_queue(mut self, max: usize, timeout: Duration) -> Self {
        self.settings.max_waiting = max;
        self.settings.queue_timeout = timeout;
        self
    }

    /// Checks the health of each server; off by default.
    ///
    /// Servers that are down are not used. If all are, connects fail, unless [all are
    /// tried](Self::with_unhealthy_as_last_resort).
    #[must_use]
    pub fn with_health_check(mut self, check: impl Into<Option<HealthCheck>>) -> Self {
        self.settings.health = check.into().map(Arc::new);
        self
    }

    /// Tries servers that are down if no other server can be used; off by default.
    ///
    /// Leave it off if the check finds servers that must not be used, such as those with another role.
    #[must_use]
    pub const fn with_unhealthy_as_last_resort(mut self, tried: bool) -> Self {
        self.settings.try_all = tried;
        self
    }

    /// Sets how long a server is not used after `failures` failed connects in a row; 10 s after five by default.
    ///
    /// The time doubles with each further failure, up to five minutes, until a connect succeeds. At most half of the
    /// servers are ejected, and they are used if all others fail. `None` disables it.
    #[must_use]
    pub fn with_ejection(mut self, after: impl Into<Option<(u32, Duration)>>) -> Self {
        self.settings.ejection = after.into().map(|(failures, first)| Ejection {
            failures,
            first,
            longest: EJECTION.longest.max(first),
        });
        self
    }

    /// Sets how long a server that comes back takes to get its whole weight; 30 s by default.
    ///
    /// It begins with a tenth. Zero disables it.
    #[must_use]
    pub const fn with_slow_start(mut self, time: Duration) -> Self {
        self.settings.slow_start = time;
        self
    }

    /// Sets how long a server that was removed keeps its connections; five minutes by default.
    ///
    /// They are force-closed then. `None` keeps them until they end.
    #[must_use]
    pub fn with_drain_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings.drain_timeout = timeout.into();
        self
    }

    /// Sets how often host names are resolved; every 30 s by default, within a tenth, and 10 ms at least.
    ///
    /// An answer that fails is repeated within five seconds, and the previous addresses stay in use.
    #[must_use]
    pub const fn with_resolve_interval(mut self, interval: Duration) -> Self {
        self.settings.resolve_interval = interval;
        self
    }

    /// Resolves host names and SRV records by DNS; by default names are resolved by the system, and SRV records not at all.
    ///
    /// A name is resolved again when the time to live of its answer is over, within a fifth, and after a second at least.
    /// That time counts for a day at most. The [interval](Self::with_resolve_interval) and the resolver of the connector are not used then.
    ///
    /// If one kind of addresses, or one host of an SRV record, cannot be resolved, the last complete answer stays in
    /// use. Until there is one, the pool uses what is known.
    #[cfg(feature = "dns")]
    #[must_use]
    pub fn with_dns(mut self, dns: impl Into<Option<super::Dns>>) -> Self {
        self.settings.dns = dns.into();
        self
    }

    /// Sets the options of TCP sockets, the local address and the resolver of names.
    ///
    /// Its timeout and its fallback delay are not used.
    #[must_use]
    pub fn with_connector(mut self, connector: Connector) -> Self {
        self.connector = connector;
        self
    }

    /// A pool of these servers.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime if servers are checked, or if one has a host name, which a task resolves repeatedly.
    pub fn build<S: Into<Server>>(self, servers: impl IntoIterator<Item = S>) -> Pool {
        let pool = self.empty();
        pool.0
            .replace(servers.into_iter().map(Into::into).collect());
        pool
    }

    /// A pool whose servers come from a stream of changes, for example of a service registry.
    ///
    /// Connects wait for its first item. An error is logged, and the servers stay as they are. They also do when the
    /// stream ends or panics.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, because a task reads the stream.
    pub fn follow<C>(self, changes: C) -> Pool
    where
        C: Stream<Item = Result<Change<ServerKey, Server>, BoxError>> + Send + 'static,
    {
        let pool = self.empty();
        let task = Task::spawn(apply(Arc::downgrade(&pool.0), changes));
        let _once = pool.0.changes.set(task);
        pool
    }

    pub(super) fn into_settings(self) -> Settings {
        self.settings
    }

    fn empty(self) -> Pool {
        let dialer = Dialer::new(self.connector);
        #[cfg(test)]
        let dialer = dialer.with_script(self.script);
        Pool(Shared::new(self.settings, dialer))
    }

    /// Connects as `script` says.
    #[cfg(test)]
    pub(super) fn with_script(mut self, script: super::dial::Script) -> Self {
        self.script = Some(script);
        self
    }
}

impl Default for PoolBuilder {
    fn default() -> Self {
        Self::new()
    }
}

const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(10);
/// Enough for most pools. Without it, each client would try all servers of a large one that is down.
const MAX_ATTEMPTS: usize = 32;
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// Each of them holds the socket of a client.
pub(super) const MAX_WAITING: usize = 1024;
const EJECTION: Ejection = Ejection {
    failures: 5,
    first: Duration::from_secs(10),
    longest: Duration::from_secs(5 * 60),
};
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5 * 60);
const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);
const SLOW_START: Duration = Duration::from_secs(30);
