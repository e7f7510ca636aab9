//! The layer and its service.

use super::{Acl, AclHandle, Subject, Verdict, policy::AclPolicy};
use crate::{
    BoxError, Connection, ConnectionInfo,
    guard::{GuardFuture, Refusal},
};
use std::{
    sync::Arc,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::{Layer, Service};

/// Layer for [`Access`]; see the [module docs](super).
///
/// Clones and their services share one list.
#[derive(Clone, Debug)]
pub struct AclLayer {
    policy: AclPolicy,
}

impl AclLayer {
    /// The reason of a [`Refused`](crate::error::Refused); its source is [`Denied`](super::Denied).
    pub const DENIED: &'static str = "denied";

    /// Admits and rejects connections by `acl`.
    pub fn new(acl: Acl) -> Self {
        let policy = AclPolicy::new(acl);
        Self { policy }
    }

    /// Admits and rejects connections by a function of their information.
    ///
    /// It is [`with_predicate`](Self::with_predicate) of a list that admits every connection.
    pub fn predicate(judge: impl Fn(&ConnectionInfo) -> Verdict + Send + Sync + 'static) -> Self {
        Self::new(Acl::new()).with_predicate(judge)
    }

    /// Rejects connections that `judge` denies, in addition to the list and to other predicates.
    ///
    /// It is called for connections that the list admits, and by [`AclHandle::judge`].
    #[must_use]
    pub fn with_predicate(
        mut self,
        judge: impl Fn(&ConnectionInfo) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        self.policy.predicates.push(Arc::new(judge));
        self
    }

    /// Sets which address the list judges; by default the [client's](Subject::Client).
    #[must_use]
    pub const fn on(mut self, subject: Subject) -> Self {
        self.policy.subject = subject;
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

    /// Returns a handle that replaces the list and judges connections as this layer does.
    ///
    /// Call it after the layer's other methods. Settings that are changed later do not apply to the handle.
    pub fn handle(&self) -> AclHandle {
        AclHandle::new(self.policy.clone())
    }
}

impl<S> Layer<S> for AclLayer {
    type Service = Access<S>;

    fn layer(&self, inner: S) -> Access<S> {
        let policy = Arc::new(self.policy.clone());
        Access { inner, policy }
    }
}

/// Calls the inner service with the connections that are admitted; see the [module docs](super).
#[derive(Clone, Debug)]
pub struct Access<S> {
    inner: S,
    policy: Arc<AclPolicy>,
}

impl<S, IO> Service<Connection<IO>> for Access<S>
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
        let verdict = self.policy.judge(connection.info()).into_result();
        let guard = &self.policy.guard;
        guard.call(&mut self.inner, connection, verdict)
    }
}
