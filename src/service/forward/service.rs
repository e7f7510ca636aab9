//! The service and its settings.

use super::{ConnectTo, ForwardFuture, Forwarded};
use crate::connect::Target;
use portcullis_middleware::{BoxError, Connection, ConnectionInfo, io::Passthrough};
use std::{
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Service;

/// Forwards each connection to a backend; see the [module docs](super).
///
/// A clone connects with a clone of `B`.
#[derive(Clone, Debug)]
pub struct ForwardService<B> {
    backend: B,
    settings: ForwardSettings,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ForwardSettings {
    pub(super) connect: Option<Duration>,
    pub(super) half_closed: Option<Duration>,
    pub(super) drain: DrainPolicy,
}

/// What a forwarded connection does when its server shuts down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DrainPolicy {
    /// It goes on until a side ends it, or the deadline of the shutdown force-closes it.
    #[default]
    Continue,
    /// It ends once neither side has sent anything for this time, and everything was delivered. After a side has failed,
    /// the [limit of half-closed connections](ForwardService::with_half_closed_timeout) ends it instead.
    ///
    /// A forwarder sees bytes and no requests, so choose a time longer than a response takes. Clients
    /// that still wait for one would lose it.
    EndWhenIdle(Duration),
}

impl<B> ForwardService<B> {
    /// Forwards to the connections that `backend` makes.
    ///
    /// `backend` is called with the information of the client, a cheap clone. It is polled for readiness in
    /// the future of the connection, so a backend that is not ready delays only the connections to it.
    pub const fn new(backend: B) -> Self {
        Self {
            backend,
            settings: ForwardSettings {
                connect: Some(DEFAULT_CONNECT_TIMEOUT),
                half_closed: Some(DEFAULT_HALF_CLOSED_TIMEOUT),
                drain: DrainPolicy::Continue,
            },
        }
    }

    /// Limits the time until `B` returns a connection; 30 s by default. `None` leaves it to `B`.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings.connect = timeout.into();
        self
    }

    /// Limits silence in both directions after one side has ended its stream; 60 s by default.
    ///
    /// It also limits the time in which the other side takes what was sent before a reset.
    ///
    /// A timeout is rounded up to milliseconds, and is 49 days at most. Zero ends a connection as soon as one side has ended
    /// and nothing is left to move. `None` disables the limit. A half-closed connection that a side has forgotten then
    /// stays open until another timeout ends it.
    #[must_use]
    pub fn with_half_closed_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings.half_closed = timeout.into();
        self
    }

    /// Sets what connections do when their server shuts down; by default they go on.
    #[must_use]
    pub const fn with_drain(mut self, policy: DrainPolicy) -> Self {
        self.settings.drain = policy;
        self
    }
}

impl ForwardService<ConnectTo> {
    /// Forwards to one address or name, with the default [`Connector`](crate::connect::Connector).
    ///
    /// For other settings, pass a [`ConnectTo`] to [`new`](Self::new).
    pub fn to(target: impl Into<Target>) -> Self {
        Self::new(ConnectTo::new(target))
    }
}

impl<B, IO, BackendIo> Service<Connection<IO>> for ForwardService<B>
where
    B: Service<ConnectionInfo, Response = Connection<BackendIo>, Error: Into<BoxError>> + Clone,
    IO: AsyncRead + AsyncWrite + Passthrough + Unpin + Send + 'static,
    BackendIo: AsyncRead + AsyncWrite + Passthrough + Unpin + Send + 'static,
{
    type Response = Forwarded;
    type Error = BoxError;
    type Future = ForwardFuture<B, IO, BackendIo>;

    /// Always ready. The future waits for the backend.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, connection: Connection<IO>) -> Self::Future {
        ForwardFuture::new(self.backend.clone(), connection, self.settings)
    }
}

/// Longer than the timeouts of a connector or a pool by default, whose errors say more.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

const DEFAULT_HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(60);
