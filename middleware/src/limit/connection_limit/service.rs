use super::{
    ConnectionLimitFuture, ConnectionLimitLayer,
    layer::{LimitPolicy, WhenFull},
    limiter::LimiterEntry,
};
use crate::{BoxError, Connection};
use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Service;

/// Calls the inner service for up to a limited number of connections; see the [module docs](super).
///
/// A clone shares the limit and reserves a slot of its own. Dropping a service gives its reserved slot to
/// the next in the queue.
#[derive(Debug)]
pub struct ConnectionLimit<S> {
    inner: S,
    policy: Arc<LimitPolicy>,
    reserved: Option<LimiterEntry>,
}

impl<S> ConnectionLimit<S> {
    pub(super) const fn new(inner: S, policy: Arc<LimitPolicy>) -> Self {
        Self {
            inner,
            policy,
            reserved: None,
        }
    }

    fn poll_reserve(&mut self, cx: &Context<'_>) -> Poll<()> {
        loop {
            match &mut self.reserved {
                None => self.reserved = self.policy.limiter.enter(usize::MAX),
                Some(LimiterEntry::Queued(place)) => {
                    let slot = ready!(place.poll_slot(cx));
                    self.reserved = Some(LimiterEntry::Admitted(slot));
                }
                Some(LimiterEntry::Admitted(_)) => return Poll::Ready(()),
            }
        }
    }
}

impl<S: Clone> Clone for ConnectionLimit<S> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.policy.clone())
    }
}

impl<S, IO> Service<Connection<IO>> for ConnectionLimit<S>
where
    S: Service<Connection<IO>, Error: Into<BoxError>> + Clone,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ConnectionLimitFuture<S, IO>;

    /// Waits for the inner service and then, if the layer waits before accepting, for a slot.
    ///
    /// In this order, slots are taken only for connections that can be served.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        ready!(self.inner.poll_ready(cx)).map_err(Into::into)?;
        match self.policy.when_full {
            _ if self.policy.observe => Poll::Ready(Ok(())),
            WhenFull::Wait => self.poll_reserve(cx).map(Ok),
            WhenFull::WaitUpTo { .. } | WhenFull::Refuse => Poll::Ready(Ok(())),
        }
    }

    /// Serves `connection`, queues it, or rejects it.
    ///
    /// # Panics
    ///
    /// Panics if the layer waits before accepting and `poll_ready` has not returned ready.
    fn call(&mut self, mut connection: Connection<IO>) -> Self::Future {
        let LimitPolicy {
            limiter, when_full, ..
        } = &*self.policy;
        if self.policy.observe {
            let (slot, within) = limiter.enter_always();
            if !within {
                self.policy.observe(connection.info());
            }
            connection.hold_slot(slot);
            return ConnectionLimitFuture::served(self.inner.call(connection));
        }
        let entry = match *when_full {
            WhenFull::Wait => self.reserved.take(),
            WhenFull::WaitUpTo { max_waiting, .. } => limiter.enter(max_waiting),
            WhenFull::Refuse => limiter.enter(0),
        };
        let reason = match (entry, *when_full) {
            (Some(LimiterEntry::Admitted(slot)), _) => {
                connection.hold_slot(slot);
                return ConnectionLimitFuture::served(self.inner.call(connection));
            }
            (Some(LimiterEntry::Queued(place)), WhenFull::WaitUpTo { timeout, .. }) => {
                let service = self.inner.clone();
                // Replacing the ready instance releases what it reserved.
                self.inner = service.clone();
                let policy = self.policy.clone();
                return ConnectionLimitFuture::waiting(service, connection, place, timeout, policy);
            }
            (_, WhenFull::Wait) => panic!("`poll_ready` must return ready before each `call`"),
            (_, WhenFull::WaitUpTo { .. }) => ConnectionLimitLayer::TOO_MANY_WAITING,
            (_, WhenFull::Refuse) => ConnectionLimitLayer::FULL,
        };
        ConnectionLimitFuture::refusing(self.policy.refuse(connection, reason))
    }
}
