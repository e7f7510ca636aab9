//! What happens to a connection after a guard's verdict.

use super::{GuardFuture, Held, Refusal};
use crate::{
    Connection, ConnectionInfo,
    error::Refused,
    log_limit::LogLimit,
    log_text::{Causes, Escaped},
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Service;

/// How a guard rejects, and its counters. Clones share the counters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guard {
    pub(crate) refusal: Refusal,
    pub(crate) observe: bool,
    pub(super) state: Arc<GuardCounters>,
}

#[derive(Debug, Default)]
pub(super) struct GuardCounters {
    held: Arc<Held>,
    refused: AtomicU64,
    observed: AtomicU64,
    log: LogLimit,
}

impl Guard {
    /// Calls `inner` if the verdict admits the connection or the guard only observes, and rejects it otherwise.
    pub(crate) fn call<S, IO>(
        &self,
        inner: &mut S,
        connection: Connection<IO>,
        verdict: Result<(), Refused>,
    ) -> GuardFuture<S::Future>
    where
        S: Service<Connection<IO>>,
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match verdict {
            Err(refused) if self.observe => self.observe(connection.info(), &refused),
            Err(refused) => {
                self.state.refused.fetch_add(1, Ordering::Relaxed);
                let refusing = self.refusal.refuse(connection, &self.state.held, refused);
                return GuardFuture::refusing(refusing);
            }
            Ok(()) => {}
        }
        GuardFuture::served(inner.call(connection))
    }

    fn observe(&self, info: &ConnectionInfo, refused: &Refused) {
        self.state.observed.fetch_add(1, Ordering::Relaxed);
        self.state.log.write(|suppressed| {
            let (by, error) = (refused.by(), Escaped(Causes(refused)));
            tracing::info!(
                connection.id = info.id().get(), peer = %info.peer(), by, %error, suppressed,
                "{by} observes only and admitted a connection that it would have rejected: {error}"
            );
        });
    }

    /// Number of connections rejected so far.
    pub(crate) fn refused(&self) -> u64 {
        self.state.refused.load(Ordering::Relaxed)
    }

    /// Number of connections that were admitted only because the guard observes.
    pub(crate) fn observed(&self) -> u64 {
        self.state.observed.load(Ordering::Relaxed)
    }
}
