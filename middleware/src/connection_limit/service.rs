use super::{
    ConnectionLimitFuture, Refusal,
    layer::WhenFull,
    limiter::{Entry, Limiter},
};
use crate::{BoxError, Connection, error::RefusedReason};
use std::{
    mem,
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
    limiter: Arc<Limiter>,
    when_full: WhenFull,
    refusal: Refusal,
    reserved: Option<Entry>,
}

impl<S> ConnectionLimit<S> {
    pub(super) const fn new(
        inner: S,
        limiter: Arc<Limiter>,
        when_full: WhenFull,
        refusal: Refusal,
    ) -> Self {
        Self {
            inner,
            limiter,
            when_full,
            refusal,
            reserved: None,
        }
    }

    fn poll_reserve(&mut self, cx: &Context<'_>) -> Poll<()> {
        loop {
            match &mut self.reserved {
                None => self.reserved = self.limiter.enter(usize::MAX),
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
        let inner = self.inner.clone();
        let limiter = self.limiter.clone();
        Self::new(inner, limiter, self.when_full, self.refusal.clone())
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
        match self.when_full {
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
        let entry = match self.when_full {
            WhenFull::Wait => self.reserved.take(),
            WhenFull::WaitUpTo { max_waiting, .. } => self.limiter.enter(max_waiting),
            WhenFull::Refuse => self.limiter.enter(0),
        };
        let reason = match (entry, self.when_full) {
            (Some(Entry::Admitted(slot)), _) => {
                connection.hold_slot(slot);
                return ConnectionLimitFuture::served(self.inner.call(connection));
            }
            (Some(Entry::Queued(place)), WhenFull::WaitUpTo { bound, .. }) => {
                let clone = self.inner.clone();
                let ready = mem::replace(&mut self.inner, clone);
                let limiter = self.limiter.clone();
                let refusal = self.refusal.clone();
                return ConnectionLimitFuture::waiting(
                    ready, connection, place, bound, limiter, refusal,
                );
            }
            (_, WhenFull::Wait) => panic!("`poll_ready` must return ready before each `call`"),
            (_, WhenFull::WaitUpTo { .. }) => RefusedReason::TooManyWaiting,
            (_, WhenFull::Refuse) => RefusedReason::Full,
        };
        let refusing = self.refusal.refuse(connection, &self.limiter, reason);
        ConnectionLimitFuture::refusing(refusing)
    }
}
