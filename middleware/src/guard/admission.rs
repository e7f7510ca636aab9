//! What happens to a connection after a guard's verdict.

use super::{GuardFuture, Held, Observer, Refusal};
use crate::{Connection, error::Refused, log_text::Causes};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Service;

/// How a guard rejects, and its counters. Clones share the counters.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    pub(crate) refusal: Refusal,
    pub(crate) observe: bool,
    pub(super) state: Arc<GuardCounters>,
}

#[derive(Debug)]
pub(super) struct GuardCounters {
    held: Arc<Held>,
    refused: AtomicU64,
    observer: Observer,
}

impl Guard {
    /// The guard of the layer `name`, which closes the connections that it rejects.
    pub(crate) fn new(name: &'static str) -> Self {
        let state = GuardCounters {
            held: Arc::default(),
            refused: AtomicU64::new(0),
            observer: Observer::new(name),
        };
        Self {
            refusal: Refusal::default(),
            observe: false,
            state: Arc::new(state),
        }
    }

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
            Err(refused) if self.observe => {
                let (info, reason) = (connection.info(), refused.reason());
                self.state.observer.observe(info, reason, Causes(&refused));
            }
            Err(refused) => {
                self.state.refused.fetch_add(1, Ordering::Relaxed);
                let refusing = self.refusal.refuse(connection, &self.state.held, refused);
                return GuardFuture::refusing(refusing);
            }
            Ok(()) => {}
        }
        GuardFuture::served(inner.call(connection))
    }

    /// Number of connections rejected so far.
    pub(crate) fn refused(&self) -> u64 {
        self.state.refused.load(Ordering::Relaxed)
    }

    /// Number of connections that were admitted only because the guard observes.
    pub(crate) fn observed(&self) -> u64 {
        self.state.observer.observed()
    }
}
