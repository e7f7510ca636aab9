use super::{
    ConnectionLimitFuture, ConnectionLimitLayer,
    layer::{Policy, WhenFull},
    limiter::Entry,
};
use crate::{BoxError, Connection};
use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Service;

/// Calls the inner service while there is room; see the [module docs](super).
///
/// A clone shares the limit, not the slot that this one may have reserved. Dropping a service gives
/// its reserved slot to the next who waits.
#[derive(Debug)]
pub struct ConnectionLimit<S> {
    inner: S,
    policy: Arc<Policy>,
    reserved: Option<Entry>,
}

impl<S> ConnectionLimit<S> {
    pub(super) const fn new(inner: S, policy: Arc<Policy>) -> Self {
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
                Some(Entry::Queued(place)) => {
                    let slot = ready!(place.poll_slot(cx));
                    self.reserved = Some(Entry::Admitted(slot));
                }
                Some(Entry::Admitted(_)) => return Poll::Ready(()),
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

    /// Waits for the inner service and then, where that is what to do when full, for a slot.
    ///
    /// In this order no slot is taken for a connection that cannot be served yet.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        ready!(self.inner.poll_ready(cx)).map_err(Into::into)?;
        match self.policy.when_full {
            WhenFull::Wait => self.poll_reserve(cx).map(Ok),
            WhenFull::WaitUpTo { .. } | WhenFull::Refuse => Poll::Ready(Ok(())),
        }
    }

    /// Serves `connection`, lets it wait, or refuses it.
    ///
    /// # Panics
    ///
    /// When it waits before accepting, and `poll_ready` has not returned ready before.
    fn call(&mut self, mut connection: Connection<IO>) -> Self::Future {
        let Policy {
            limiter,
            when_full,
            refusal,
        } = &*self.policy;
        let entry = match *when_full {
            WhenFull::Wait => self.reserved.take(),
            WhenFull::WaitUpTo { max_waiting, .. } => limiter.enter(max_waiting),
            WhenFull::Refuse => limiter.enter(0),
        };
        let reason = match (entry, *when_full) {
            (Some(Entry::Admitted(slot)), _) => {
                connection.hold_slot(slot);
                return ConnectionLimitFuture::served(self.inner.call(connection));
            }
            (Some(Entry::Queued(place)), WhenFull::WaitUpTo { bound, .. }) => {
                let service = self.inner.clone();
                // Gives back what the one that was ready reserved.
                self.inner = service.clone();
                let policy = self.policy.clone();
                return ConnectionLimitFuture::waiting(service, connection, place, bound, policy);
            }
            (_, WhenFull::Wait) => panic!("`poll_ready` must return ready before each `call`"),
            (_, WhenFull::WaitUpTo { .. }) => ConnectionLimitLayer::TOO_MANY_WAITING,
            (_, WhenFull::Refuse) => ConnectionLimitLayer::FULL,
        };
        let refusing = refusal.refuse(connection, limiter, reason);
        ConnectionLimitFuture::refusing(refusing)
    }
}
