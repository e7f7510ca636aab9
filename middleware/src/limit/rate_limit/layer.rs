//! The layer and its service.

use super::{
    Rate, RateLimitHandle,
    rate::{Arrival, Gcra},
};
use crate::{
    BoxError, Connection, ConnectionInfo,
    error::Refused,
    guard::{Guard, GuardFuture, Refusal},
    limit::{
        key::Key,
        table::{Full, Table},
        table_full::{TableFullCounter, WhenTableFull},
    },
    meter::Gauge,
};
use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tower::{Layer, Service};

/// Layer for [`RateLimit`]; see the [module docs](super).
///
/// Clones and their services share one table.
#[derive(Clone, Debug)]
pub struct RateLimitLayer {
    policy: RateLimitPolicy,
}

/// Settings of a layer. Clones share the rate and the table.
#[derive(Clone)]
pub(super) struct RateLimitPolicy {
    key: Arc<dyn Key>,
    pub(super) rates: Arc<Rates>,
    pub(super) table_full: Arc<TableFullCounter>,
    when_table_full: WhenTableFull,
    pub(super) guard: Guard,
}

/// The rate, and what each key has used of it.
pub(super) struct Rates {
    rate: RwLock<(Rate, Gcra)>,
    pub(super) table: Table<Arrival>,
    started: Instant,
}

impl RateLimitLayer {
    /// The reason of a [`Refused`] when the rate of the connection's key is exceeded.
    pub const EXCEEDED: &'static str = "rate exceeded";
    /// The reason when the table of keys is full.
    pub const TABLE_FULL: &'static str = WhenTableFull::REASON;

    /// Admits the connections of each key at `rate`, and remembers up to 65,536 keys.
    ///
    /// The key `()` makes it one rate for all connections.
    pub fn new(key: impl Key, rate: Rate) -> Self {
        Self::with_capacity(key, rate, CAPACITY)
    }

    /// Like [`new`](Self::new), with a table of up to `capacity` keys, and at least one.
    ///
    /// A key takes 36 bytes of memory, which is allocated as keys arrive. A table of 4,096 keys or more has
    /// 16 parts that fill unevenly, so it may be full for a new key when 90 % of it are in use.
    pub fn with_capacity(key: impl Key, rate: Rate, capacity: usize) -> Self {
        let rates = Rates {
            rate: RwLock::new((rate, rate.into())),
            table: Table::new(capacity, &Gauge::table_entries(NAME)),
            started: Instant::now(),
        };
        let policy = RateLimitPolicy {
            key: Arc::new(key),
            rates: Arc::new(rates),
            table_full: Arc::new(TableFullCounter::new(NAME)),
            when_table_full: WhenTableFull::Admit,
            guard: Guard::new(NAME),
        };
        Self { policy }
    }

    /// Sets what happens to connections with new keys while the table is full; by default they are admitted.
    #[must_use]
    pub const fn when_table_full(mut self, when: WhenTableFull) -> Self {
        self.policy.when_table_full = when;
        self
    }

    /// Sets how connections are rejected; by default they are [closed](Refusal::Close).
    #[must_use]
    pub fn with_refusal(mut self, refusal: Refusal) -> Self {
        self.policy.guard.refusal = refusal;
        self
    }

    /// Only counts and logs the connections that would be rejected, and admits them; off by default.
    ///
    /// The log has up to five lines per second, at INFO.
    #[must_use]
    pub const fn with_observe(mut self, observe: bool) -> Self {
        self.policy.guard.observe = observe;
        self
    }

    /// Returns a handle that reads and changes the rate.
    pub fn handle(&self) -> RateLimitHandle {
        RateLimitHandle::new(self.policy.clone())
    }
}

impl RateLimitPolicy {
    fn admit(&self, info: &ConnectionInfo) -> Result<(), Refused> {
        let Some(key) = self.key.of(info) else {
            return Ok(());
        };
        let (now, by) = (self.rates.now(), self.rates.get().1);
        if by.admits_nothing() {
            return Err(Refused::new(NAME, RateLimitLayer::EXCEEDED));
        }
        let admit = |arrival: &mut Arrival| arrival.admit(now, by);
        match self.rates.table.change(key, now, Arrival::NEW, admit) {
            Ok((true, _)) => Ok(()),
            Ok((false, _)) => Err(Refused::new(NAME, RateLimitLayer::EXCEEDED)),
            Err(Full) => {
                let (when, observes) = (self.when_table_full, self.guard.observe);
                self.table_full.judge(when, observes, info)
            }
        }
    }
}

impl RateLimitPolicy {
    /// Whether a connection would be admitted, without counting it.
    pub(super) fn admits(&self, info: &ConnectionInfo) -> bool {
        let Some(key) = self.key.of(info) else {
            return true;
        };
        let (now, by) = (self.rates.now(), self.rates.get().1);
        let mut arrival = self.rates.table.get(key).unwrap_or(Arrival::NEW);
        !by.admits_nothing() && arrival.admit(now, by)
    }
}

impl Rates {
    /// Nanoseconds since the layer was made, by tokio's clock.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn get(&self) -> (Rate, Gcra) {
        *self.rate.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn rate(&self) -> Rate {
        self.get().0
    }

    pub(super) fn set_rate(&self, rate: Rate) {
        *self.rate.write().unwrap_or_else(PoisonError::into_inner) = (rate, rate.into());
    }
}

impl fmt::Debug for RateLimitPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitPolicy")
            .field("rate", &self.rates.rate())
            .field("keys", &self.rates.table.len())
            .field("when_table_full", &self.when_table_full)
            .field("guard", &self.guard)
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimit<S>;

    fn layer(&self, inner: S) -> RateLimit<S> {
        let policy = Arc::new(self.policy.clone());
        RateLimit { inner, policy }
    }
}

/// Calls the inner service at up to a rate for each key; see the [module docs](super).
#[derive(Clone, Debug)]
pub struct RateLimit<S> {
    inner: S,
    policy: Arc<RateLimitPolicy>,
}

impl<S, IO> Service<Connection<IO>> for RateLimit<S>
where
    S: Service<Connection<IO>, Error: Into<BoxError>>,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = GuardFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, connection: Connection<IO>) -> Self::Future {
        let verdict = self.policy.admit(connection.info());
        let guard = &self.policy.guard;
        guard.call(&mut self.inner, connection, verdict)
    }
}

/// The layer's name in errors.
const NAME: &str = "rate_limit";

/// Default number of keys; the table takes 2.3 MiB when it is full.
const CAPACITY: usize = 65_536;
