//! Graceful shutdown of a server: announce, stop accepting, wait, force-close.

use super::{
    acceptors::Acceptors,
    clock::Clock,
    shared::{Mode, Shared},
    status::State,
};
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
/// 1. *Announce*: [`ConnectionInfo::drain`] resolves in handlers, and the server goes on accepting for the
///    announce time. Behind a load balancer, set this to the time it needs to take the instance out of
///    rotation. It is zero by default; connections then see this and the next stage as one. A server that
///    was [paused](super::Handle::pause) stays paused.
/// 2. *Stop accepting*: connections that wait in the kernel's accept queue are served, then the listeners
///    close. Connections see [`DrainStage::Closing`], and those without work end. TLS handshakes and PROXY
///    headers that are incomplete half a second later fail with a timeout.
/// 3. *Wait* until all connections, upgraded and handed-off ones included, and all tasks have ended.
/// 4. *Force-close* at the deadline, 30 s after the announcement by default: I/O fails on all sockets, then
///    tasks are aborted. A handler that blocks its thread is left running, and its listener closes all the
///    same; a service whose `clone` or `poll_ready` blocks keeps its listener open until it returns. Clients
///    that are still in the accept queue are reset; they were never accepted, and no report names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    announce: Duration,
    deadline: Duration,
}

impl Drain {
    /// No announce time, and 30 s until the deadline.
    pub const fn new() -> Self {
        Self {
            announce: Duration::ZERO,
            deadline: Duration::from_secs(30),
        }
    }

    /// Sets for how long the server goes on accepting after the announcement.
    #[must_use]
    pub const fn with_notice_period(mut self, announce: Duration) -> Self {
        self.announce = announce;
        self
    }

    /// Sets the time from the announcement until what is left is cut.
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// For how long the server goes on accepting after the announcement.
    pub const fn announce(&self) -> Duration {
        self.announce
    }

    /// The time from the announcement until what is left is cut.
    pub const fn deadline(&self) -> Duration {
        self.deadline
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

/// How a server ended.
#[derive(Clone, Debug, Default)]
pub struct Report(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    ended: u64,
    force_closed: Vec<ConnectionInfo>,
    left: usize,
    took: Duration,
    broken: Vec<BrokenListener>,
    all_broke: bool,
}

impl Report {
    /// How many connections ended by themselves during the drain.
    pub fn ended(&self) -> u64 {
        self.0.ended
    }

    /// The connections that were cut, and those whose task was; also those that were accepted and
    /// still waited for their stack to be ready.
    pub fn force_closed(&self) -> &[ConnectionInfo] {
        &self.0.force_closed
    }

    /// Number of force-closed connections that are still alive, because their handler blocks a thread or is
    /// never polled.
    pub fn still_running(&self) -> usize {
        self.0.left
    }

    /// How long the drain took.
    pub fn took(&self) -> Duration {
        self.0.took
    }

    /// The listeners whose accept failed for good.
    pub fn broken_listeners(&self) -> &[BrokenListener] {
        &self.0.broken
    }

    pub(super) fn all_listeners_broke(&self) -> bool {
        self.0.all_broke
    }
}

/// A listener whose accept failed for good; see [`Report::broken_listeners`].
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

    /// What accept failed with.
    pub fn error(&self) -> &io::Error {
        &self.error
    }
}

/// Sees a running server to its end.
pub(super) struct Drainer {
    shared: Arc<Shared>,
    drain: Drain,
    /// Last: it tells those who wait that all is over.
    _ending: Ending,
    broken: Vec<BrokenListener>,
}

impl Drainer {
    pub(super) fn new(ending: Ending, drain: Drain) -> Self {
        Self {
            shared: ending.0.clone(),
            drain,
            _ending: ending,
            broken: Vec::new(),
        }
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Waits for a reason to end, then goes through the stages.
    pub(super) async fn run(&mut self, acceptors: &mut Acceptors) -> Report {
        let listeners = acceptors.len();
        let shared = self.shared.clone();
        tokio::select! {
            () = shared.stop_requested() => {}
            () = self.join(acceptors) => {}
        }

        let begun = Instant::now();
        let deadline = later(begun, self.drain.deadline);
        let gone = self.gone();
        shared.begin_drain();

        // Without an announce time the connections see both stages at once, and wake once.
        if !self.drain.announce.is_zero() {
            shared.announce_drain();
            let close_listeners = later(begun, self.drain.announce.min(self.drain.deadline));
            tokio::select! {
                () = shared.clock.alarm(close_listeners) => {}
                () = shared.stop_at_once_requested() => {}
                () = self.join(acceptors) => {}
            }
        }

        shared.finish_accepting();
        let finished = tokio::select! {
            biased;
            () = async { self.join(acceptors).await; shared.registry.emptied().await } => true,
            () = shared.clock.alarm(deadline) => false,
            () = shared.stop_at_once_requested() => false,
        };
        let cut = if finished {
            Vec::new()
        } else {
            self.cut(acceptors).await
        };

        // All that were accepted, but for those that were over when the end began. Counted like this
        // nobody is missed who is on the way from accept into the table just then.
        let accepted = self.shared.counters.accepted.load(Ordering::Relaxed);
        Report(Arc::new(Inner {
            ended: accepted.saturating_sub(gone + cut.len() as u64),
            left: self.shared.registry.len(),
            force_closed: cut,
            took: begun.elapsed(),
            all_broke: self.broken.len() == listeners,
            broken: std::mem::take(&mut self.broken),
        }))
    }

    /// Keeps the report for those who wait for it; they get it when this is dropped.
    pub(super) fn keep(&self, report: Report) {
        let _ = self.shared.report.set(report);
    }

    /// Ends what is left: sockets first, so that handlers can still tidy up, then tasks.
    async fn cut(&mut self, acceptors: &mut Acceptors) -> Vec<ConnectionInfo> {
        self.shared.mode.send_replace(Mode::Quit);
        let shared = self.shared.clone();
        let registry = &shared.registry;
        // First the acceptors, so that none is entered behind the back of this.
        tokio::select! {
            () = self.join(acceptors) => {}
            () = shared.clock.alarm(Instant::now() + TIDY_UP) => acceptors.close(),
        }
        let mut cut = registry.all();
        for connection in &cut {
            connection.force_close();
        }
        cut.append(&mut shared.take_cut_in_queue());
        tokio::select! {
            () = registry.emptied() => return cut,
            () = shared.clock.alarm(Instant::now() + TIDY_UP) => {}
        }
        registry.abort_tasks();
        tokio::select! {
            () = registry.emptied() => {}
            () = shared.clock.alarm(Instant::now() + TIDY_UP) => {}
        }
        cut
    }

    /// Waits until all acceptors have ended, and keeps the errors of those that broke.
    async fn join(&mut self, acceptors: &mut Acceptors) {
        while let Some(ended) = acceptors.join_next().await {
            match ended {
                Ok((_, Ok(()))) => {}
                Ok((name, Err(error))) => self.broken.push(BrokenListener::new(name, error)),
                Err(error) => {
                    tracing::error!(%error, "acceptor ended");
                    let error = io::Error::other(error);
                    self.broken
                        .push(BrokenListener::new("unnamed".to_owned(), error));
                }
            }
        }
    }

    /// How many accepted connections are over.
    fn gone(&self) -> u64 {
        let unserved = self.shared.counters.unserved.load(Ordering::Relaxed);
        self.shared.registry.gone() + unserved
    }
}

/// Notifies the tasks that wait for the end of a server, however it ended.
///
/// A server that is dropped while it runs closes its listeners and leaves its connections behind.
pub(super) struct Ending(pub(super) Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        let shared = &self.0;
        shared.report.get_or_init(|| {
            Report(Arc::new(Inner {
                left: shared.registry.len(),
                ..Inner::default()
            }))
        });
        shared.mode.send_replace(Mode::Quit);
        shared.state.send_replace(State::Stopped);
        shared.clock.close();
    }
}

/// `begun + time`, or as good as never.
fn later(begun: Instant, time: Duration) -> Instant {
    begun
        .checked_add(time)
        .unwrap_or_else(|| begun + Duration::from_secs(86400 * 365))
}

/// How long handlers get after the cut to notice it, and again after their tasks were aborted.
const TIDY_UP: Duration = Duration::from_millis(100);
