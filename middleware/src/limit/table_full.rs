//! What happens to a connection whose key does not fit into the table.

use crate::{ConnectionInfo, error::Refused, log_limit::LogLimit, meter::Counter};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// What happens to a connection with a new key while the table of keys is full.
///
/// Connections with known keys are not affected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenTableFull {
    /// It is rejected.
    Refuse,
    /// It is admitted without a limit, and counted.
    Admit,
}

impl WhenTableFull {
    /// The reason of a [`Refused`] when the table is full.
    pub const REASON: &'static str = "table of keys is full";
}

/// Counts and logs the connections that were affected.
#[derive(Debug)]
pub(super) struct TableFullCounter {
    by: &'static str,
    affected: Counter,
    admitted: AtomicU64,
    log: LogLimit,
}

impl TableFullCounter {
    /// Of the layer `by`. The log has one line per minute.
    pub(super) fn new(by: &'static str) -> Self {
        Self {
            by,
            affected: Counter::table_full(by),
            admitted: AtomicU64::new(0),
            log: LogLimit::new(1, Duration::from_secs(60)),
        }
    }

    pub(super) fn judge(
        &self,
        when: WhenTableFull,
        observes: bool,
        info: &ConnectionInfo,
    ) -> Result<(), Refused> {
        let by = self.by;
        self.affected.increment();
        self.log.write(|suppressed| {
            let effect = match when {
                WhenTableFull::Refuse if !observes => "rejected",
                WhenTableFull::Refuse | WhenTableFull::Admit => "admitted without a limit",
            };
            tracing::warn!(
                peer = %info.peer(), by, suppressed,
                "the table of {by} is full; connections with new keys are {effect}"
            );
        });
        match when {
            WhenTableFull::Refuse => Err(Refused::new(by, WhenTableFull::REASON)),
            WhenTableFull::Admit => {
                self.admitted.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// Number of connections that were admitted without a limit.
    pub(super) fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed)
    }
}
