//! The layer, its service and its future.

use super::{Prelude, speak::speak};
use crate::{
    BoxError, Connection,
    first_then::FirstThen,
    io::{PIPELINED, PrefixedIo},
};
use pin_project::pin_project;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::{Layer, Service};

/// Layer for [`SpeakPrelude`]; see the [module docs](super).
#[derive(Clone, Debug)]
pub struct PreludeLayer<P> {
    pub(super) prelude: P,
    pub(super) max_len: usize,
    pub(super) max_replies: usize,
    pub(super) timeout: Option<Duration>,
}

impl<P> PreludeLayer<P> {
    /// The reason of a [`Refused`](crate::error::Refused) whose client sent bytes behind its request for TLS.
    ///
    /// Under TLS they would count as the client's, although anyone on the network could have added them.
    pub const PIPELINED: &'static str = PIPELINED;
    /// The reason of a [`Refused`](crate::error::Refused) whose client requested TLS and did not begin it.
    pub const NO_TLS: &'static str = "no TLS follows the request for TLS";
    /// The reason of a [`Refused`](crate::error::Refused) whose client sent too many bytes before TLS.
    pub const TOO_LONG: &'static str = "its bytes before TLS exceed the limit";
    /// The reason of a [`Refused`](crate::error::Refused) whose client sent too many commands before TLS.
    pub const TOO_MANY: &'static str = "its commands before TLS exceed the limit";
    pub(super) const NAME: &'static str = "prelude";

    /// Speaks `prelude`, a clone for each connection.
    pub const fn new(prelude: P) -> Self {
        Self {
            prelude,
            max_len: DEFAULT_MAX_LEN,
            max_replies: DEFAULT_MAX_REPLIES,
            timeout: Some(DEFAULT_TIMEOUT),
        }
    }

    /// Limits the bytes that a client may send before TLS; 4096 by default.
    ///
    /// # Panics
    ///
    /// If `max_len` is less than 512, which one command may take.
    #[must_use]
    pub const fn with_max_len(mut self, max_len: usize) -> Self {
        assert!(max_len >= 512, "one command may take 512 bytes");
        self.max_len = max_len;
        self
    }

    /// Limits the commands that are answered before the one for TLS; 16 by default.
    #[must_use]
    pub const fn with_max_commands(mut self, max_commands: usize) -> Self {
        self.max_replies = max_commands;
        self
    }

    /// Limits the time until TLS begins, counted from the call; 10 s by default.
    ///
    /// `None` disables the timeout. Once the server has stopped accepting, half a second remains.
    #[must_use]
    pub fn with_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }
}

impl<S, P: Clone> Layer<S> for PreludeLayer<P> {
    type Service = SpeakPrelude<S, P>;

    fn layer(&self, inner: S) -> SpeakPrelude<S, P> {
        let layer = self.clone();
        SpeakPrelude { inner, layer }
    }
}

/// Speaks the plain text before TLS with each client, then calls the inner service.
///
/// It is always ready, and waits for the inner service afterwards.
#[derive(Clone, Debug)]
pub struct SpeakPrelude<S, P> {
    inner: S,
    layer: PreludeLayer<P>,
}

impl<S, P, IO> Service<Connection<IO>> for SpeakPrelude<S, P>
where
    S: Service<Connection<PrefixedIo<IO>>, Error: Into<BoxError>> + Clone,
    P: Prelude + Send + Sync + 'static,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = PreludeFuture<S, IO>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, connection: Connection<IO>) -> Self::Future {
        let speaking = Box::pin(speak(self.layer.clone(), connection));
        PreludeFuture(FirstThen::new(speaking, self.inner.clone()))
    }
}

/// Future of [`SpeakPrelude`]: the plain text, then the inner service `S`.
#[pin_project]
pub struct PreludeFuture<S: Service<Connection<PrefixedIo<IO>>>, IO>(
    #[pin] FirstThen<S, PrefixedIo<IO>>,
);

impl<S, IO> Future for PreludeFuture<S, IO>
where
    S: Service<Connection<PrefixedIo<IO>>, Error: Into<BoxError>>,
    IO: 'static,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().0.poll(cx)
    }
}

impl<S: Service<Connection<PrefixedIo<IO>>>, IO> fmt::Debug for PreludeFuture<S, IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state("speaking");
        f.debug_tuple("PreludeFuture").field(&state).finish()
    }
}

const DEFAULT_MAX_LEN: usize = 4096;
const DEFAULT_MAX_REPLIES: usize = 16;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
