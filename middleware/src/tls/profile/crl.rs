//! The revocation lists of a profile, and how long each is up to date.

use std::{path::PathBuf, time::SystemTime};

/// A certificate revocation list in use: the newest one of its authority.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredCrl {
    /// Its file, unless it was added as bytes.
    pub source: Option<PathBuf>,
    /// The common name of the authority that issued it, or its organization if it has none.
    pub issuer: Option<String>,
    /// The time from which it is out of date.
    pub next_update: SystemTime,
    /// Whether clients of its authority are rejected from then on; see
    /// [`Trust::with_outdated_crls`](crate::tls::Trust::with_outdated_crls).
    pub is_enforced: bool,
}

impl StoredCrl {
    /// Whether it is out of date.
    pub fn is_outdated(&self, now: SystemTime) -> bool {
        self.next_update <= now
    }

    /// Logs that it is out of date, if it is.
    pub(in crate::tls) fn warn(&self, now: SystemTime) {
        if !self.is_outdated(now) {
            return;
        }
        let file = self.source.as_ref().map(tracing::field::debug);
        match self.is_enforced {
            true => tracing::warn!(
                file,
                "a revocation list is out of date, so clients of its authority are rejected: renew it"
            ),
            false => tracing::warn!(file, "a revocation list in use is out of date: renew it"),
        }
    }
}
