//! Connects to a server, and to the next one on failure.

use super::{
    BackendIo, NoBackend, Pool,
    dial::Purpose,
    error::{FailedConnect, NoBackendReason},
    jitter::after,
    local::is_local,
    member::{Member, Reservation},
    pool::{Shared, Unavailable, Wish},
    queue::NotServed,
    skip_greeting::Skip,
};
use crate::connect::phase;
use portcullis_middleware::{
    BoxError, Connection, ConnectionInfo, connection::UpstreamInfo, error::Elapsed,
};
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, timeout};
use tower::Service;

impl Pool {
    /// Connects to a server for `client`.
    ///
    /// If a server fails, the next one is tried. A server without capacity is waited for.
    /// The returned connection counts as one of the server's until it is dropped.
    ///
    /// # Errors
    ///
    /// [`NoBackend`] with each server that was tried and why it failed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the attempt or leaves the queue. The server no longer counts it.
    pub async fn connect(
        &self,
        client: &ConnectionInfo,
    ) -> Result<Connection<BackendIo>, NoBackend> {
        self.connect_and(client, None).await
    }

    /// Connects, and discards what `skip` says.
    pub(super) async fn connect_and(
        &self,
        client: &ConnectionInfo,
        skip: Option<Skip>,
    ) -> Result<Connection<BackendIo>, NoBackend> {
        let pool = &*self.0;
        let settings = pool.settings();
        if let Some(name) = &pool.name {
            client.set_pool(name.clone());
        }
        let begun = Instant::now();
        let greeting = skip.and_then(|skip| skip.timeout).unwrap_or_default();
        let time = settings.timeout.saturating_add(greeting);
        let deadline = after(begun, time);
        let mut wish = Wish::new(client, &settings);
        let mut failed = Vec::new();
        let reason = loop {
            let reserved = match pool.reserve_or_wait(&wish, deadline).await {
                Ok(reserved) => reserved,
                Err(reason) => break reason,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let bound = settings.attempt_timeout.min(left);
            let member = reserved.member.clone();
            let limits = Limits {
                connect: bound,
                // Up to a tenth passes before it, for example in a choice or a wait.
                counts: bound.saturating_add(settings.attempt_timeout / 10)
                    >= settings.attempt_timeout,
                skip,
            };
            match pool.attempt(reserved, client, limits).await {
                Ok(connection) => {
                    client.set_upstream(pool.upstream_info(&member, &connection, begun.elapsed()));
                    return Ok(connection);
                }
                Err(error) => failed.push(FailedConnect::new(&member, error)),
            }
            if failed.len() >= settings.max_attempts {
                break NoBackendReason::AttemptsFailed;
            }
            if Instant::now() >= deadline {
                break NoBackendReason::TimedOut(Elapsed::new(phase::CONNECT, time));
            }
            wish.tried.push(member.key.clone());
        };
        Err(NoBackend::new(pool, reason, failed))
    }
}

impl Shared {
    async fn reserve_or_wait(
        &self,
        wish: &Wish,
        deadline: Instant,
    ) -> Result<Reservation, NoBackendReason> {
        loop {
            // Connections that wait already come first.
            self.serve_queue();
            let unavailable = match self.reserve(wish) {
                Ok(reserved) => return Ok(reserved),
                Err(unavailable) => unavailable,
            };
            let bound = match unavailable {
                Unavailable::NoneUsable => return Err(NoBackendReason::none_usable(wish)),
                Unavailable::Pending => self.settings().timeout,
                Unavailable::Full => self.settings().queue_timeout,
            };
            let begun = Instant::now();
            let until = deadline.min(after(begun, bound));
            return match self.wait(wish, until, unavailable).await {
                Ok(reserved) => Ok(reserved),
                Err(NotServed::Changed) => continue,
                Err(NotServed::QueueFull) if unavailable == Unavailable::Pending => {
                    Err(NoBackendReason::none_usable(wish))
                }
                Err(NotServed::QueueFull) => Err(NoBackendReason::QueueFull),
                Err(NotServed::Elapsed) => {
                    let elapsed = Elapsed::new(phase::ADMISSION, until - begun);
                    Err(NoBackendReason::TimedOut(elapsed))
                }
            };
        }
    }

    fn upstream_info(
        &self,
        member: &Member,
        connection: &Connection<BackendIo>,
        connect_time: Duration,
    ) -> UpstreamInfo {
        let address = connection.info().socket_peer().clone();
        let info = UpstreamInfo::new(member.key.to_shared(), address)
            .with_connect_time(connect_time)
            .with_connected_at(connection.info().accepted_at());
        match &self.name {
            Some(pool) => info.with_pool(pool.clone()),
            None => info,
        }
    }

    /// Makes one attempt, and records its result.
    async fn attempt(
        &self,
        reserved: Reservation,
        client: &ConnectionInfo,
        limits: Limits,
    ) -> Result<Connection<BackendIo>, BoxError> {
        let member = reserved.member.clone();
        let begun = Instant::now();
        let bound = limits.connect;
        let dialing = self.dialer.dial(&member.server, Purpose::Client(client));
        let Ok(mut dialed) = timeout(bound, dialing).await else {
            // An attempt that began late says nothing about the server.
            if limits.counts {
                self.failed(&member);
            }
            return Err(Elapsed::new(phase::CONNECT, bound).into());
        };
        let took = begun.elapsed();
        if let Some(skip) = limits.skip {
            // Boxed, so that its state does not enlarge each connect.
            dialed = Box::pin(async move { skip.on(dialed?).await }).await;
        }
        match dialed {
            Ok(mut connection) => {
                self.succeeded(&member);
                self.presented(&member, connection.info());
                member.state.meters.connect_duration.record(took);
                reserved.hold_by(&mut connection);
                if member.state.is_closing() {
                    return Err("the server was removed".into());
                }
                if self.is_closed_on_down(&member) {
                    return Err("the server went down".into());
                }
                Ok(connection)
            }
            Err(error) => {
                if !is_local(&error, &member.state) {
                    self.failed(&member);
                }
                Err(error)
            }
        }
    }
}

/// The limits of an attempt.
#[derive(Clone, Copy)]
struct Limits {
    /// For the connect with its TLS handshake.
    connect: Duration,
    /// Whether reaching it is a failure of the server.
    counts: bool,
    skip: Option<Skip>,
}

/// A pool connects for the client whose [`ConnectionInfo`] it is called with; see [`Pool::connect`].
impl Service<ConnectionInfo> for Pool {
    type Response = Connection<BackendIo>;
    type Error = NoBackend;
    type Future = ConnectFuture;

    /// Always ready, because the servers that can be used depend on the client.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NoBackend>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, client: ConnectionInfo) -> ConnectFuture {
        let pool = self.clone();
        ConnectFuture::new(async move { pool.connect(&client).await })
    }
}

/// Future of a [`Pool`] as a service.
pub struct ConnectFuture(Pin<Box<dyn Future<Output = Connected> + Send>>);

type Connected = Result<Connection<BackendIo>, NoBackend>;

impl ConnectFuture {
    pub(super) fn new(connecting: impl Future<Output = Connected> + Send + 'static) -> Self {
        Self(Box::pin(connecting))
    }
}

impl Future for ConnectFuture {
    type Output = Connected;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ConnectFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectFuture").finish_non_exhaustive()
    }
}
