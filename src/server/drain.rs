//! Graceful shutdown of a server: notify, stop accepting, wait, force-close.

use super::{acceptors::Acceptors, clock::Clock, shared::SharedState};
use portcullis_middleware::ConnectionInfo;
#[cfg(doc)]
use portcullis_middleware::drain::DrainStage;
use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// How a server shuts down gracefully.
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
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

/// How a server stopped.
#[derive(Clone, Debug, Default)]
pub struct Report(Arc<ReportData>);

#[derive(Debug, Default)]
struct ReportData {
    ended: u64,
    force_closed: Vec<ConnectionInfo>,
    still_running: usize,
    took: Duration,
    broken: Vec<BrokenListener>,
    all_broke: bool,
}

impl Report {
    /// How many connections ended on their own during the drain.
    pub fn ended(&self) -> u64 {
        self.0.ended
    }

    /// The connections that were force-closed or whose task was aborted.
    ///
    /// Includes those that were accepted and still waited for their stack to be ready.
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

    /// The listeners that failed with a fatal accept error.
    pub fn broken_listeners(&self) -> &[BrokenListener] {
        &self.0.broken
    }

    pub(super) fn all_listeners_broke(&self) -> bool {
        self.0.all_broke
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
    fn new(name: String, error: io::Error) -> Self {
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

/// Waits for the stop of a running server, then drains it.
pub(super) struct Drainer {
    shared: Arc<SharedState>,
    drain: Drain,
    /// Last, because dropping it wakes the tasks that wait for the end of the server.
    _stopped_guard: StoppedGuard,
    broken: Vec<BrokenListener>,
}

impl Drainer {
    pub(super) fn new(stopped_guard: StoppedGuard, drain: Drain) -> Self {
        Self {
            shared: stopped_guard.0.clone(),
            drain,
            _stopped_guard: stopped_guard,
            broken: Vec::new(),
        }
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Waits for a stop, then goes through the stages of [`Drain`].
    pub(super) async fn run(&mut self, acceptors: &mut Acceptors) -> Report {
        let listeners = acceptors.len();
        let shared = self.shared.clone();
        let lifecycle = &shared.lifecycle;
        tokio::select! {
            () = lifecycle.stop_requested() => {}
            () = self.join(acceptors) => {}
        }

        let begun = Instant::now();
        let deadline = later(begun, self.drain.deadline);
        let gone = self.gone();
        let with_notice_period = !self.drain.notice_period.is_zero();
        lifecycle.begin_drain(with_notice_period);
        if with_notice_period {
            let notice_period = self.drain.notice_period.min(self.drain.deadline);
            let close_listeners = later(begun, notice_period);
            tokio::select! {
                () = shared.clock.alarm(close_listeners) => {}
                () = lifecycle.stop_now_requested() => {}
                () = self.join(acceptors) => {}
            }
        }

        lifecycle.finish_accepting();
        let finished = tokio::select! {
            biased;
            () = async { self.join(acceptors).await; shared.registry.emptied().await } => true,
            () = shared.clock.alarm(deadline) => false,
            () = lifecycle.stop_now_requested() => false,
        };
        let force_closed = if finished {
            Vec::new()
        } else {
            self.force_close(acceptors).await
        };

        // All accepted connections but those that had ended before. This includes a connection between its accept
        // and its entry in the table.
        let accepted = self
            .shared
            .recorder
            .counters
            .accepted
            .load(Ordering::Relaxed);
        Report(Arc::new(ReportData {
            ended: accepted.saturating_sub(gone + force_closed.len() as u64),
            still_running: self.shared.registry.len(),
            force_closed,
            took: begun.elapsed(),
            all_broke: self.broken.len() == listeners,
            broken: std::mem::take(&mut self.broken),
        }))
    }

    /// Stores the report for the tasks that wait for it. They receive it when this is dropped.
    pub(super) fn keep(&self, report: Report) {
        let _ = self.shared.report.set(report);
    }

    /// Force-closes the sockets, so that handlers can still clean up, then aborts the tasks.
    async fn force_close(&mut self, acceptors: &mut Acceptors) -> Vec<ConnectionInfo> {
        self.shared.lifecycle.quit();
        let shared = self.shared.clone();
        let registry = &shared.registry;
        // The acceptors first, so that no connection is added after the table is read.
        tokio::select! {
            () = self.join(acceptors) => {}
            () = shared.clock.alarm(Instant::now() + CLEAN_UP) => acceptors.close(),
        }
        let mut force_closed = registry.all();
        for connection in &force_closed {
            connection.force_close();
        }
        force_closed.append(&mut shared.recorder.take_closed_unserved());
        tokio::select! {
            () = registry.emptied() => return force_closed,
            () = shared.clock.alarm(Instant::now() + CLEAN_UP) => {}
        }
        registry.abort_tasks();
        tokio::select! {
            () = registry.emptied() => {}
            () = shared.clock.alarm(Instant::now() + CLEAN_UP) => {}
        }
        force_closed
    }

    /// Waits until all acceptors have ended, and collects the errors of broken listeners.
    async fn join(&mut self, acceptors: &mut Acceptors) {
        while let Some(ended) = acceptors.join_next().await {
            match ended {
                Ok((_, Ok(()))) => {}
                Ok((name, Err(error))) => self.broken.push(BrokenListener::new(name, error)),
                Err(error) => {
                    tracing::error!(%error, "acceptor task failed");
                    let error = io::Error::other(error);
                    self.broken
                        .push(BrokenListener::new("unnamed".to_owned(), error));
                }
            }
        }
    }

    /// How many accepted connections have ended.
    fn gone(&self) -> u64 {
        let unserved = self
            .shared
            .recorder
            .counters
            .unserved
            .load(Ordering::Relaxed);
        self.shared.registry.gone() + unserved
    }
}

/// Marks the server as stopped when it is dropped.
///
/// Dropping a running server closes its listeners and leaves its connections open.
pub(super) struct StoppedGuard(pub(super) Arc<SharedState>);

impl Drop for StoppedGuard {
    fn drop(&mut self) {
        let shared = &self.0;
        shared.report.get_or_init(|| {
            Report(Arc::new(ReportData {
                still_running: shared.registry.len(),
                ..ReportData::default()
            }))
        });
        shared.lifecycle.end();
        shared.clock.close();
    }
}

/// `begun + time`, or a year later if that overflows.
fn later(begun: Instant, time: Duration) -> Instant {
    begun
        .checked_add(time)
        .unwrap_or_else(|| begun + Duration::from_secs(86400 * 365))
}

/// How long handlers may take after the force-close, and again after their tasks are aborted.
const CLEAN_UP: Duration = Duration::from_millis(100);
