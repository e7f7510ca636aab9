//! The layer and its service.

use super::{
    KeyedLimitHandle,
    counts::{Counts, Taken},
};
use crate::{
    BoxError, Connection,
    error::Refused,
    guard::{Guard, GuardFuture, Refusal},
    limit::{
        key::Key,
        table_full::{TableFullCounter, WhenTableFull},
    },
    meter::Gauge,
};
use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::{Layer, Service};

/// Layer for [`KeyedLimit`]; see the [module docs](super).
///
/// Clones and their services share one table.
#[derive(Clone, Debug)]
pub struct KeyedLimitLayer {
    policy: KeyedLimitPolicy,
}

/// Settings of a layer. Clones share the counts.
#[derive(Clone)]
pub(super) struct KeyedLimitPolicy {
    pub(super) key: Arc<dyn Key>,
    pub(super) counts: Arc<Counts>,
    pub(super) table_full: Arc<TableFullCounter>,
    when_table_full: WhenTableFull,
    pub(super) guard: Guard,
}

impl KeyedLimitLayer {
    /// The reason of a [`Refused`] when the limit of the connection's key is reached.
    pub const FULL: &'static str = "limit of the key reached";
    /// The reason when the table of keys is full.
    pub const TABLE_FULL: &'static str = WhenTableFull::REASON;

    /// Serves at most `limit` connections of each key concurrently, and counts up to 65,536 keys.
    ///
    /// A limit of zero rejects every connection that has a key.
    pub fn new(key: impl Key, limit: usize) -> Self {
        Self::with_capacity(key, limit, CAPACITY)
    }

    /// Like [`new`](Self::new), with a table of up to `capacity` keys, and at least one.
    ///
    /// A key takes 32 bytes of memory, which is allocated as keys arrive. A table of 4,096 keys or more has
    /// 16 parts that fill unevenly, so it may reject a new key when it is 90 % full.
    pub fn with_capacity(key: impl Key, limit: usize, capacity: usize) -> Self {
        let policy = KeyedLimitPolicy {
            key: Arc::new(key),
            counts: Arc::new(Counts::new(limit, capacity, &Gauge::table_entries(NAME))),
            table_full: Arc::new(TableFullCounter::new(NAME)),
            when_table_full: WhenTableFull::Refuse,
            guard: Guard::new(NAME),
        };
        Self { policy }
    }

    /// Sets what happens to connections with new keys while the table is full; by default they are rejected.
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
    /// Admitted connections count towards the limit. The log has up to five lines per second, at INFO.
    #[must_use]
    pub const fn with_observe(mut self, observe: bool) -> Self {
        self.policy.guard.observe = observe;
        self
    }

    /// Returns a handle that reads and changes the limit.
    pub fn handle(&self) -> KeyedLimitHandle {
        KeyedLimitHandle::new(self.policy.clone())
    }
}

impl KeyedLimitPolicy {
    /// Counts `connection`, which then holds its slot.
    fn admit<IO>(&self, connection: &mut Connection<IO>) -> Result<(), Refused> {
        let Some(key) = self.key.of(connection.info()) else {
            return Ok(());
        };
        // Also where the table is full.
        if self.counts.limit() == 0 && !self.guard.observe {
            return Err(Refused::new(NAME, KeyedLimitLayer::FULL));
        }
        match self.counts.take(key, self.guard.observe) {
            Taken::Within(slot) => {
                connection.hold_slot(slot);
                Ok(())
            }
            Taken::Beyond(slot) => {
                if let Some(slot) = slot {
                    connection.hold_slot(slot);
                }
                Err(Refused::new(NAME, KeyedLimitLayer::FULL))
            }
            Taken::TableFull => {
                let (when, observes) = (self.when_table_full, self.guard.observe);
                self.table_full.judge(when, observes, connection.info())
            }
        }
    }
}

impl fmt::Debug for KeyedLimitPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedLimitPolicy")
            .field("counts", &self.counts)
            .field("when_table_full", &self.when_table_full)
            .field("guard", &self.guard)
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for KeyedLimitLayer {
    type Service = KeyedLimit<S>;

    fn layer(&self, inner: S) -> KeyedLimit<S> {
        let policy = Arc::new(self.policy.clone());
        KeyedLimit { inner, policy }
    }
}

/// Calls the inner service for up to a number of connections of each key; see the [module docs](super).
#[derive(Clone, Debug)]
pub struct KeyedLimit<S> {
    inner: S,
    policy: Arc<KeyedLimitPolicy>,
}

impl<S, IO> Service<Connection<IO>> for KeyedLimit<S>
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

    fn call(&mut self, mut connection: Connection<IO>) -> Self::Future {
        let verdict = self.policy.admit(&mut connection);
        let guard = &self.policy.guard;
        guard.call(&mut self.inner, connection, verdict)
    }
}

/// The layer's name in errors.
const NAME: &str = "keyed_limit";

/// Default number of keys; the table takes 2 MiB when it is full.
const CAPACITY: usize = 65_536;
