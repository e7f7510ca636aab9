//! Numbers that tell how a server is doing.

use crate::listener::accept_error::AcceptErrorKind;
use portcullis_middleware::outcome::Outcome;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where a server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Not running yet.
    Starting,
    /// Accepts connections.
    Running,
    /// Leaves new connections in the kernel's queue; those it has go on.
    Paused,
    /// Shutting down: connections are asked to finish.
    Draining,
    /// Over.
    Stopped,
}

/// How a server is doing; see [`Handle::status`](super::Handle::status).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Where the server is in its life.
    pub state: State,
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Accepted connections that wait until their stack is ready, one per acceptor at most. All
    /// others wait in the kernel's queue.
    pub waiting: u64,
    /// Connections alive now, upgraded and handed-off ones included.
    pub active: usize,
    /// Connections that ended as refused since the start: rejected by a
    /// [`ConnectionLimitLayer`](portcullis_middleware::limit::ConnectionLimitLayer), where no
    /// layer outside of it made something else of that. tower's `LoadShed` counts as failed.
    pub refused: u64,
    /// The limit given to [`Server::limit`](super::Server::limit), if there is one.
    pub limit: Option<usize>,
    /// How connections ended, with how often it happened; those that never happened are left out.
    pub outcomes: Vec<(Outcome, u64)>,
    /// Failures of accept, by kind; those that never happened are left out.
    pub accept_errors: Vec<(AcceptErrorKind, u64)>,
}

/// Counts what happens to connections. On cache lines of its own: what stands beside it is only read.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) accepted: AtomicU64,
    pub(crate) waiting: AtomicU64,
    /// Accepted connections that no task was spawned for: their stack failed before, or the end came.
    pub(crate) unserved: AtomicU64,
    ended: [AtomicU64; OUTCOMES.len()],
    timed_out: std::sync::Mutex<Vec<(Outcome, u64)>>,
}

impl Counters {
    pub(crate) fn ended(&self, outcome: Outcome) {
        match OUTCOMES.iter().position(|known| *known == outcome) {
            Some(index) => {
                self.ended[index].fetch_add(1, Ordering::Relaxed);
            }
            // Bounds in time, told apart by their phase, are rare enough for a lock.
            None => self.timed_out(outcome),
        }
    }

    fn timed_out(&self, outcome: Outcome) {
        let mut counts = self
            .timed_out
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        match counts.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, count)) => *count += 1,
            None => counts.push((outcome, 1)),
        }
    }

    pub(crate) fn outcomes(&self) -> Vec<(Outcome, u64)> {
        let counts = self.ended.iter().map(|count| count.load(Ordering::Relaxed));
        let mut outcomes: Vec<_> = OUTCOMES
            .into_iter()
            .zip(counts)
            .filter(|(_, n)| *n > 0)
            .collect();
        let timed_out = self
            .timed_out
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        outcomes.extend(timed_out.iter().copied());
        outcomes
    }

    pub(crate) fn refused(&self) -> u64 {
        self.outcomes()
            .into_iter()
            .find(|(o, _)| *o == Outcome::Refused)
            .map_or(0, |(_, n)| n)
    }
}

const OUTCOMES: [Outcome; 11] = [
    Outcome::Completed,
    Outcome::HandedOff,
    Outcome::Refused,
    Outcome::ProxyHeaderFailed,
    Outcome::HandshakeFailed,
    Outcome::Truncated,
    Outcome::Disconnected,
    Outcome::Forced,
    Outcome::Failed,
    Outcome::Panicked,
    Outcome::Cancelled,
];

/// Counts failures of accept.
#[derive(Debug, Default)]
pub(crate) struct AcceptErrors([AtomicU64; 3]);

impl AcceptErrors {
    pub(crate) fn add(&self, kind: AcceptErrorKind) {
        if let Some(index) = KINDS.iter().position(|known| *known == kind) {
            self.0[index].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn by_kind(&self) -> Vec<(AcceptErrorKind, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        KINDS
            .into_iter()
            .zip(counts)
            .filter(|(_, n)| *n > 0)
            .collect()
    }
}

const KINDS: [AcceptErrorKind; 3] = [
    AcceptErrorKind::Connection,
    AcceptErrorKind::Resource,
    AcceptErrorKind::Fatal,
];
