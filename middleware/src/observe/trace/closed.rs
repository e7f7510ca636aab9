//! Information about a closed connection.

use crate::{connection::ConnectionInfo, outcome::Outcome};
use std::{cell::OnceCell, error::Error, time::Duration};

/// How a connection ended; see [`TraceLayer::on_close`](super::TraceLayer::on_close).
#[derive(Debug)]
pub struct Closed<'a> {
    info: &'a ConnectionInfo,
    outcome: Outcome,
    error: Option<&'a (dyn Error + 'static)>,
    /// Read from the clock on first use.
    duration: OnceCell<Duration>,
}

impl<'a> Closed<'a> {
    pub(super) const fn new(
        info: &'a ConnectionInfo,
        outcome: Outcome,
        error: Option<&'a (dyn Error + 'static)>,
    ) -> Self {
        Self {
            info,
            outcome,
            error,
            duration: OnceCell::new(),
        }
    }

    /// Addresses, byte counts and TLS parameters of the connection.
    pub const fn info(&self) -> &'a ConnectionInfo {
        self.info
    }

    /// Time from accepting the connection to the end of its service.
    pub fn duration(&self) -> Duration {
        *self.duration.get_or_init(|| self.info.age())
    }

    /// How the connection ended.
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The error of the service, if it returned one; see [`find`](crate::error::find).
    ///
    /// Its text may quote input of the peer, so escape it in logs.
    pub const fn error(&self) -> Option<&'a (dyn Error + 'static)> {
        self.error
    }
}
