//! What is known of a connection at its end.

use crate::{connection::ConnectionInfo, outcome::Outcome};
use std::{cell::OnceCell, error::Error, time::Duration};

/// How a connection ended; see [`TraceLayer::on_close`](super::TraceLayer::on_close).
#[derive(Debug)]
pub struct Closed<'a> {
    info: &'a ConnectionInfo,
    outcome: Outcome,
    error: Option<&'a (dyn Error + 'static)>,
    /// The clock is read on first use.
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

    /// What is known of the connection: addresses, bytes, TLS.
    pub const fn info(&self) -> &'a ConnectionInfo {
        self.info
    }

    /// Time from accept to the end of the service.
    pub fn duration(&self) -> Duration {
        *self.duration.get_or_init(|| self.info.age())
    }

    /// How it ended, in one word.
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The error of the service, if it returned one; [`find`](crate::error::find) looks into it.
    ///
    /// Its text may quote what the peer sent: escape it in logs.
    pub const fn error(&self) -> Option<&'a (dyn Error + 'static)> {
        self.error
    }
}
