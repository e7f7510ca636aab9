//! Settings and report of a graceful shutdown.

use portcullis_middleware::ConnectionInfo;
#[cfg(doc)]
use portcullis_middleware::drain::DrainStage;
use std::{io, sync::Arc, time::Duration};
use tokio::time::Instant;

/// How a server, or [one of its listeners](super::ListenerHandle::drain), shuts down gracefully.
///
/// 1. *Notify*: [`ConnectionInfo::drain`] resolves in handlers, and the server goes on accepting for the
///    notice period. Behind a load balancer, set this to the time it needs to take the instance out of
///    rotation. It is zero by default; connections then see this and the next stage as one. A server that
///    was [paused](super::Handle::pause) stays paused.
/// 2. *Stop accepting*: connections that wait in the kernel's accept queue are served, then the listeners
///    close. Connections see [`DrainStage::Closing`], and those without work end. TLS handshakes and PROXY
///    headers that are incomplete half a second later fail with a timeout.
/// 3. *Wait* until all tasks and all connections have ended, including upgraded and handed-off ones.
/// 4. *Force-close* at the deadline, 30 s after the notification by default. I/O fails on all sockets, then tasks
///    are aborted. A handler that blocks its thread is still running after that, but its listener is closed. A
///    service whose `clone` or `poll_ready` blocks keeps its listener open until it returns. Clients that are
///    still in the accept queue are reset. They were not accepted, so the report does not contain them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    notice_period: Duration,
    deadline: Duration,
}

impl Drain {
    /// Without a notice period, and with a deadline of 30 s.
    pub const fn new() -> Self {
        Self {
            notice_period: Duration::ZERO,
            deadline: Duration::from_secs(30),
        }
    }

    /// Sets how long the server goes on accepting after the notification.
    #[must_use]
    pub const fn with_notice_period(mut self, notice_period: Duration) -> Self {
        self.notice_period = notice_period;
        self
    }

    /// Sets the time from the notification until the remaining connections are force-closed.
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long the server goes on accepting after the notification.
    pub const fn notice_period(&self) -> Duration {
        self.notice_period
    }

    /// The time from the notification until the remaining connections are force-closed.
    pub const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// When a drain that begins at `begun` goes on to its stages.
    pub(super) fn schedule(&self, begun: Instant) -> Schedule {
        Schedule {
            begun,
            stop_accepting: later(begun, self.notice_period.min(self.deadline)),
            deadline: later(begun, self.deadline),
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

/// When a drain goes on to its stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Schedule {
    pub(super) begun: Instant,
    pub(super) stop_accepting: Instant,
    /// When the remaining connections are force-closed.
    pub(super) deadline: Instant,
}

impl Schedule {
    /// The earlier time of both for each stage.
    pub(super) fn earliest(self, other: Self) -> Self {
        Self {
            begun: self.begun.min(other.begun),
            stop_accepting: self.stop_accepting.min(other.stop_accepting),
            deadline: self.deadline.min(other.deadline),
        }
    }
}

/// How a server or one of its listeners stopped.
#[derive(Clone, Debug, Default)]
pub struct Report(Arc<ReportData>);

#[derive(Debug, Default)]
pub(super) struct ReportData {
    pub(super) ended: u64,
    /// Without those that ended in a drain of the listener alone, before that of its server.
    pub(super) ended_in_server_drain: u64,
    pub(super) force_closed: Vec<ConnectionInfo>,
    pub(super) still_running: usize,
    pub(super) took: Duration,
    pub(super) broken: Vec<BrokenListener>,
}

impl ReportData {
    /// Adds the connections and errors of a listener.
    pub(super) fn add(&mut self, listener: &Report) {
        self.ended += listener.0.ended_in_server_drain;
        self.force_closed.extend_from_slice(listener.force_closed());
        self.add_broken(listener);
    }

    /// Adds the errors of a listener that ended before the drain. Of very many, the last ones are kept.
    pub(super) fn add_broken(&mut self, listener: &Report) {
        self.broken.extend_from_slice(listener.broken_listeners());
        let surplus = self.broken.len().saturating_sub(MAX_BROKEN);
        self.broken.drain(..surplus);
    }
}

impl From<ReportData> for Report {
    fn from(data: ReportData) -> Self {
        Self(Arc::new(data))
    }
}

impl Report {
    /// How many connections ended on their own during the drain.
    pub fn ended(&self) -> u64 {
        self.0.ended
    }

    /// The connections that were force-closed or whose task was aborted.
    ///
    /// Includes those that were accepted and still waited for their stack to be ready. The reason is in
    /// [`ConnectionInfo::forced_because`].
    pub fn force_closed(&self) -> &[ConnectionInfo] {
        &self.0.force_closed
    }

    /// Number of force-closed connections that are still running, because their handler blocks a thread or is
    /// not polled.
    pub fn still_running(&self) -> usize {
        self.0.still_running
    }

    /// How long the drain took.
    pub fn took(&self) -> Duration {
        self.0.took
    }

    /// The listeners that failed with a fatal accept error, at most the last 1,000.
    pub fn broken_listeners(&self) -> &[BrokenListener] {
        &self.0.broken
    }
}

/// A listener that failed with a fatal accept error; see [`Report::broken_listeners`].
#[derive(Clone, Debug)]
pub struct BrokenListener {
    pub(super) name: String,
    pub(super) error: Arc<io::Error>,
}

impl BrokenListener {
    /// `error` ended the listener `name`.
    pub(super) fn new(name: String, error: io::Error) -> Self {
        let error = Arc::new(error);
        Self { name, error }
    }

    /// The name, for logs and handlers.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The accept error.
    pub fn error(&self) -> &io::Error {
        &self.error
    }
}

/// `begun + time`, or a year later if that overflows.
fn later(begun: Instant, time: Duration) -> Instant {
    begun
        .checked_add(time)
        .unwrap_or_else(|| begun + Duration::from_secs(86400 * 365))
}

/// A server that adds and loses listeners for years keeps no more errors than this.
const MAX_BROKEN: usize = 1_000;
