//! A pool of mail servers whose clients were greeted already.

use super::{BackendIo, ConnectFuture, NoBackend, Pool};
use portcullis_middleware::{
    BoxError, Connection, ConnectionInfo,
    error::{Elapsed, TimeoutPhase},
    prelude::Greeting,
};
use std::{
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::timeout;
use tower::Service;

/// A [`Pool`] whose connections begin behind the greeting of the mail server.
///
/// A [`PreludeLayer`](portcullis_middleware::prelude::PreludeLayer) greets the clients for SMTP, IMAP and POP3, and they
/// go on without a second greeting under TLS. Reading the greeting is a part of each attempt, so a server that refuses
/// the connection in its greeting has failed, and the next one is tried.
///
/// ```
/// use portcullis::{
///     middleware::prelude::Greeting,
///     service::ForwardService,
///     upstream::{Pool, SkipGreeting},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), portcullis::BoxError> {
/// let pool = Pool::new(["10.0.3.3:10587".parse::<std::net::SocketAddr>()?]);
/// // Behind `PreludeLayer::new(Smtp::new("mail.example"))` and `TlsLayer`.
/// let submission = ForwardService::new(SkipGreeting::new(pool, Greeting::Smtp));
/// # drop(submission);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SkipGreeting {
    pool: Pool,
    skip: Skip,
}

/// What is discarded at the beginning of a connection, and how long it may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Skip {
    pub(super) greeting: Greeting,
    pub(super) timeout: Option<Duration>,
}

impl Skip {
    /// The connection behind the greeting of the server.
    pub(super) async fn on(
        self,
        mut connection: Connection<BackendIo>,
    ) -> Result<Connection<BackendIo>, BoxError> {
        let bound = self.timeout.unwrap_or(Duration::MAX);
        let skipping = self.greeting.skip(&mut connection);
        let Ok(skipped) = timeout(bound, skipping).await else {
            return Err(Elapsed::new(TimeoutPhase::PRELUDE, bound).into());
        };
        let rest = skipped?;
        Ok(connection.map_io(|io| io.behind(rest)))
    }
}

impl SkipGreeting {
    /// Discards the `greeting` of the connections that `pool` makes.
    pub const fn new(pool: Pool, greeting: Greeting) -> Self {
        let timeout = Some(DEFAULT_TIMEOUT);
        let skip = Skip { greeting, timeout };
        Self { pool, skip }
    }

    /// Limits the time until the greeting is complete, counted from the connect with its TLS handshake; 10 s by default.
    /// `None` disables the timeout, and a silent server is waited for.
    ///
    /// The [limit of the whole connect](super::PoolBuilder::with_timeout) is extended by it, so that another server is
    /// tried after a silent one.
    #[must_use]
    pub fn with_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.skip.timeout = timeout.into();
        self
    }

    /// Connects to a server for `client`, and discards its greeting; else as [`Pool::connect`].
    ///
    /// # Errors
    ///
    /// [`NoBackend`] with each server that was tried and why it failed. The words of a server that refuses the
    /// connection are part of it.
    ///
    /// # Cancel safety
    ///
    /// As for [`Pool::connect`].
    pub async fn connect(
        &self,
        client: &ConnectionInfo,
    ) -> Result<Connection<BackendIo>, NoBackend> {
        self.pool.connect_and(client, Some(self.skip)).await
    }
}

impl Service<ConnectionInfo> for SkipGreeting {
    type Response = Connection<BackendIo>;
    type Error = NoBackend;
    type Future = ConnectFuture;

    /// Always ready, because the servers that can be used depend on the client.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NoBackend>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, client: ConnectionInfo) -> ConnectFuture {
        let this = self.clone();
        ConnectFuture::new(async move { this.connect(&client).await })
    }
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
