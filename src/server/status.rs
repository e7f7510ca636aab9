//! The state and the counters of a server.

use crate::listener::accept_error::AcceptErrorKind;
use portcullis_middleware::{error::TimeoutPhase, limit::LimitHandle, outcome::Outcome};
use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// The state of a server or of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Not started yet.
    Starting,
    /// Accepts connections.
    Running,
    /// Leaves new connections in the kernel's queue, while accepted ones go on.
    Paused,
    /// A listener whose socket has closed or is about to. Its accepted connections go on.
    Closed,
    /// Shuts down gracefully.
    Draining,
    /// Stopped.
    Stopped,
}

/// A snapshot of a server or of one of its listeners; see [`Handle::status`](super::Handle::status) and
/// [`ListenerHandle::status`](super::ListenerHandle::status).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The state of the server or the listener.
    pub state: State,
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Accepted connections that wait until their stack is ready, at most one per acceptor.
    ///
    /// All others wait in the kernel's queue.
    pub waiting: u64,
    /// Connections alive now, including upgraded and handed-off ones.
    pub active: usize,
    /// Connections that a layer rejected since the start.
    ///
    /// A [`ConnectionLimitLayer`](portcullis_middleware::limit::ConnectionLimitLayer) does, unless a layer outside
    /// of it replaces the error. Rejections by tower's `LoadShed` count as failed.
    pub refused: u64,
    /// The limit given to [`Server::limit`](super::Server::limit) or
    /// [`ListenerHandle::use_limit`](super::ListenerHandle::use_limit), if any.
    pub limit: Option<usize>,
    /// How connections ended, with counts above zero.
    pub outcomes: Vec<(Outcome, u64)>,
    /// Accept errors by kind, with counts above zero.
    pub accept_errors: Vec<(AcceptErrorKind, u64)>,
}

impl Status {
    pub(super) fn new(
        state: State,
        counters: &Counters,
        active: usize,
        limit: Option<&LimitHandle>,
    ) -> Self {
        Self {
            state,
            accepted: counters.accepted.load(Ordering::Relaxed),
            waiting: counters.waiting.load(Ordering::Relaxed),
            active,
            refused: counters.refused(),
            limit: limit.map(LimitHandle::limit),
            outcomes: counters.outcomes(),
            accept_errors: counters.accept_errors.by_kind(),
        }
    }
}

/// Counts connections. On cache lines of its own, because its neighbours are only read.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) accepted: AtomicU64,
    pub(crate) waiting: AtomicU64,
    /// Accepted connections without a task, because their stack failed or the server quit.
    pub(crate) unserved: AtomicU64,
    ended: [AtomicU64; Outcome::COUNT],
    /// Timeouts by phase, which are rare enough for a lock.
    timed_out: Mutex<Vec<(TimeoutPhase, u64)>>,
    pub(crate) accept_errors: AcceptErrors,
}

impl Counters {
    pub(crate) fn ended(&self, outcome: Outcome) {
        self.ended[outcome.index()].fetch_add(1, Ordering::Relaxed);
        if let Outcome::TimedOut(phase) = outcome {
            self.add_timed_out(phase, 1);
        }
    }

    /// Adds the counts of `other`.
    pub(crate) fn add(&self, other: &Self) {
        let add = |to: &AtomicU64, from: &AtomicU64| {
            to.fetch_add(from.load(Ordering::Relaxed), Ordering::Relaxed);
        };
        // The ends first, so that no connection is counted as ended and not as accepted.
        for (to, from) in self.ended.iter().zip(&other.ended) {
            add(to, from);
        }
        for (phase, count) in other.lock_timed_out().iter() {
            self.add_timed_out(*phase, *count);
        }
        add(&self.unserved, &other.unserved);
        add(&self.waiting, &other.waiting);
        add(&self.accepted, &other.accepted);
        for (to, from) in self.accept_errors.0.iter().zip(&other.accept_errors.0) {
            add(to, from);
        }
    }

    fn add_timed_out(&self, phase: TimeoutPhase, more: u64) {
        let mut counts = self.lock_timed_out();
        match counts.iter_mut().find(|(known, _)| *known == phase) {
            Some((_, count)) => *count += more,
            None => counts.push((phase, more)),
        }
    }

    pub(crate) fn outcomes(&self) -> Vec<(Outcome, u64)> {
        let counts = self.ended.iter().map(|count| count.load(Ordering::Relaxed));
        let mut outcomes: Vec<_> = Outcome::EACH
            .into_iter()
            .zip(counts)
            .filter_map(|(outcome, count)| Some((outcome?, count)))
            .filter(|(_, count)| *count > 0)
            .collect();
        let timed_out = self.lock_timed_out();
        outcomes.extend(
            timed_out
                .iter()
                .map(|(phase, count)| (Outcome::TimedOut(*phase), *count)),
        );
        outcomes
    }

    pub(crate) fn refused(&self) -> u64 {
        self.ended[Outcome::Refused.index()].load(Ordering::Relaxed)
    }

    fn lock_timed_out(&self) -> MutexGuard<'_, Vec<(TimeoutPhase, u64)>> {
        self.timed_out
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts accept errors.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_counted_by_phase_and_other_outcomes_by_kind() {
        let counters = Counters::default();
        let [read, login] = [TimeoutPhase::READ, TimeoutPhase::new("login")];
        for phase in [read, login, read] {
            counters.ended(Outcome::TimedOut(phase));
        }
        counters.ended(Outcome::Refused);
        counters.ended(Outcome::Cancelled);
        let outcomes = [
            (Outcome::Refused, 1),
            (Outcome::Cancelled, 1),
            (Outcome::TimedOut(read), 2),
            (Outcome::TimedOut(login), 1),
        ];
        assert_eq!(counters.outcomes(), outcomes);
        assert_eq!(counters.refused(), 1);

        counters.accept_errors.add(AcceptErrorKind::Fatal);
        let sum = Counters::default();
        sum.ended(Outcome::TimedOut(login));
        for _ in 0..2 {
            sum.add(&counters);
        }
        let outcomes = [
            (Outcome::Refused, 2),
            (Outcome::Cancelled, 2),
            (Outcome::TimedOut(login), 3),
            (Outcome::TimedOut(read), 4),
        ];
        assert_eq!(sum.outcomes(), outcomes);
        assert_eq!(sum.accept_errors.by_kind(), [(AcceptErrorKind::Fatal, 2)]);
    }
}
