//! What the acceptors, the connections, the handle and the drain of one server have in common.

use super::{
    clock::Clock,
    ongoing_log::OngoingLog,
    registry::Registry,
    status::{AcceptErrors, Counters, State},
};
use crate::listener::accept_error::AcceptErrorKind;
use portcullis_middleware::{
    BoxError, ConnectionInfo,
    drain::{DrainSignal, DrainTrigger},
    error::Panicked,
    internal::{Causes, Escaped},
    limit::LimitHandle,
    log_limit::LogLimit,
    outcome::Outcome,
};
use std::{
    error::Error,
    io,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, time::sleep};

/// State of one server; see the [module docs](self).
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) registry: Arc<Registry>,
    pub(crate) clock: Clock,
    pub(crate) counters: Counters,
    pub(crate) accept_errors: AcceptErrors,
    /// What the acceptors are to do.
    pub(crate) mode: watch::Sender<Mode>,
    /// What the handle tells.
    pub(crate) state: watch::Sender<State>,
    stop: watch::Sender<Stop>,
    drain_trigger: DrainTrigger,
    pub(crate) drain: DrainSignal,
    logs: Logs,
    pub(super) warned_of_untaken: AtomicBool,
    /// Connections that were accepted and waited for their stack when the server quit.
    cut_in_queue: Mutex<Vec<ConnectionInfo>>,
    pub(crate) report: OnceLock<super::Report>,
    pub(crate) config: OnceLock<super::Config>,
    /// The limit that the handle shows and changes.
    pub(crate) limit: OnceLock<LimitHandle>,
}

/// What the acceptors are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Accept.
    Accept,
    /// Leave connections in the kernel's queue.
    Pause,
    /// Serve what is in the queue, then close the listener.
    Finish,
    /// Close the listener and whatever waits.
    Quit,
}

/// Whether the server is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    No,
    Drain,
    AtOnce,
}

#[derive(Debug, Default)]
struct Logs {
    panics: LogLimit,
    failures: LogLimit,
    exhausted: OngoingLog,
    failing: OngoingLog,
}

impl Shared {
    pub(crate) fn new() -> Self {
        let (drain_trigger, drain) = DrainTrigger::pair();
        Self {
            registry: Arc::new(Registry::default()),
            clock: Clock::default(),
            counters: Counters::default(),
            accept_errors: AcceptErrors::default(),
            mode: watch::Sender::new(Mode::Accept),
            state: watch::Sender::new(State::Starting),
            stop: watch::Sender::new(Stop::No),
            drain_trigger,
            drain,
            logs: Logs::default(),
            warned_of_untaken: AtomicBool::new(false),
            cut_in_queue: Mutex::default(),
            report: OnceLock::new(),
            config: OnceLock::new(),
            limit: OnceLock::new(),
        }
    }

    /// Asks the server to drain and end. It holds also for a server that has not started yet.
    pub(crate) fn stop(&self) {
        self.request(Stop::Drain);
    }

    /// Asks the server to end, and to cut what is left.
    pub(crate) fn stop_at_once(&self) {
        self.request(Stop::AtOnce);
    }

    fn request(&self, stop: Stop) {
        self.stop.send_if_modified(|now| {
            let more = stop > *now;
            *now = stop.max(*now);
            more
        });
    }

    pub(crate) async fn stop_requested(&self) {
        self.requested(Stop::Drain).await;
    }

    pub(crate) async fn stop_at_once_requested(&self) {
        self.requested(Stop::AtOnce).await;
    }

    async fn requested(&self, stop: Stop) {
        // Cannot fail: the sender is right here.
        let _ = self.stop.subscribe().wait_for(|now| *now >= stop).await;
    }

    /// Resolves when nothing has been accepted, and nothing was alive, for `limit`.
    pub(crate) async fn idle(&self, limit: Duration) {
        let accepted = || self.counters.accepted.load(Ordering::Relaxed);
        loop {
            self.registry.emptied().await;
            let before = accepted();
            tokio::select! {
                () = sleep(limit) => {}
                // Somebody came and went: the time begins anew, from here.
                () = self.registry.released() => continue,
            }
            if *self.mode.borrow() == Mode::Pause {
                // Clients may wait in the kernel's queue.
                continue;
            }
            let waiting = self.counters.waiting.load(Ordering::Relaxed);
            if accepted() == before && waiting == 0 && self.registry.len() == 0 {
                return;
            }
        }
    }

    /// Has the acceptors empty their queues and end, and asks connections without work to go.
    ///
    /// Not only when the queues are empty: idle connections may hold the permits that those in the
    /// queue wait for.
    pub(crate) fn finish_accepting(&self) {
        self.mode.send_replace(Mode::Finish);
        self.drain_trigger.close();
    }

    /// From here on the server can be neither paused nor resumed, and its state is draining.
    pub(crate) fn begin_drain(&self) {
        // Under the lock of the mode, as `pause`.
        self.mode.send_if_modified(|_| {
            self.state.send_replace(State::Draining);
            false
        });
    }

    /// Asks handlers to finish.
    pub(crate) fn announce_drain(&self) {
        self.drain_trigger.notify();
    }

    /// Has the acceptors pause or go on, unless the server is coming to an end.
    pub(crate) fn pause(&self, pause: bool) -> bool {
        let (from, to, state) = if pause {
            (Mode::Accept, Mode::Pause, State::Paused)
        } else {
            (Mode::Pause, Mode::Accept, State::Running)
        };
        self.mode.send_if_modified(|mode| {
            let accepts = matches!(*self.state.borrow(), State::Running | State::Paused);
            let fits = *mode == from && accepts;
            if fits {
                *mode = to;
                // Under the lock of the mode, so that the two agree.
                self.state.send_replace(state);
            }
            fits
        })
    }

    /// Records how a connection ended. It is called once for each, at the end of its task.
    pub(crate) fn record(&self, info: &ConnectionInfo, error: Option<&BoxError>) {
        let error: Option<&(dyn Error + 'static)> = error.map(|error| &**error as _);
        self.record_outcome(info, Outcome::of(info, error), error);
    }

    /// Records the end of a connection whose task was dropped unfinished.
    pub(crate) fn record_unfinished(&self, info: &ConnectionInfo) {
        self.record_outcome(info, Outcome::of_unfinished(info), None);
    }

    fn record_outcome(
        &self,
        info: &ConnectionInfo,
        outcome: Outcome,
        error: Option<&(dyn Error + 'static)>,
    ) {
        self.counters.ended(outcome);
        let Some(error) = error else { return };
        // The text of an error is somebody else's code: it may panic, and that must end nothing.
        if Panicked::catch(|| self.log(info, outcome, error)).is_err() {
            tracing::error!(id = %info.id(), "the text of an error panicked");
        }
    }

    fn log(&self, info: &ConnectionInfo, outcome: Outcome, error: &(dyn Error + 'static)) {
        let error = Escaped(Causes(error));
        let (id, peer) = (info.id(), info.peer());
        if outcome == Outcome::Panicked {
            self.logs.panics.write(|left_out| {
                tracing::error!(%id, %peer, %error, left_out, "service panicked");
            });
        } else if tracing::enabled!(tracing::Level::DEBUG) {
            self.logs.failures.write(|left_out| {
                let (bytes_in, bytes_out) = (info.bytes_read(), info.bytes_written());
                let duration = info.age().as_secs_f64();
                let outcome = outcome.as_str();
                tracing::debug!(
                    %id, %peer, outcome, %error, duration, bytes_in, bytes_out, left_out,
                    "connection failed"
                );
            });
        }
    }

    /// Records a connection whose stack failed when it was asked whether it is ready.
    pub(crate) fn record_unready(&self, info: &ConnectionInfo, error: &BoxError) {
        self.counters.unserved.fetch_add(1, Ordering::Relaxed);
        self.record(info, Some(error));
    }

    /// Records a connection that was cut before its stack was ready.
    pub(crate) fn record_unserved(&self, info: &ConnectionInfo) {
        self.counters.unserved.fetch_add(1, Ordering::Relaxed);
        self.record_unfinished(info);
        self.lock_cut_in_queue().push(info.clone());
    }

    /// The connections that were cut before a task was spawned for them.
    pub(crate) fn take_cut_in_queue(&self) -> Vec<ConnectionInfo> {
        std::mem::take(&mut *self.lock_cut_in_queue())
    }

    fn lock_cut_in_queue(&self) -> MutexGuard<'_, Vec<ConnectionInfo>> {
        self.cut_in_queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Says once that a stack served a connection and left its context behind.
    pub(crate) fn warn_of_untaken_context(&self) {
        if !self.warned_of_untaken.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "a stack served a connection without taking its context: its connections have \
                 no drain signal and cannot be closed from outside; PeerAddrLayer takes it, outside \
                 of any layer that calls its inner service in another task or wraps the stream in \
                 a type without `Transport::descriptor`"
            );
        }
    }

    /// Says that an acceptor pauses, and why.
    pub(crate) fn log_pause(&self, kind: AcceptErrorKind, listener: &str, error: &io::Error) {
        if kind == AcceptErrorKind::Resource {
            self.logs.exhausted.write(|left_out| {
                tracing::warn!(listener, %error, left_out, "accept pauses: out of resources");
            });
        } else {
            self.logs.failing.write(|left_out| {
                tracing::warn!(
                    listener, %error, left_out,
                    "accept pauses: one connection after the other failed"
                );
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_pause_tells_a_lack_of_resources_from_connections_that_fail() {
        let log = Log::default();
        let written = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || log.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let shared = Shared::new();
            let error = io::Error::from(io::ErrorKind::ConnectionReset);
            // One of a kind does not keep the other from being told.
            for kind in [AcceptErrorKind::Connection, AcceptErrorKind::Resource] {
                shared.log_pause(kind, "front", &error);
                shared.log_pause(kind, "front", &error);
            }
        });
        let written = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = written.lines().collect();
        assert_eq!(lines.len(), 2, "{written}");
        assert!(lines[0].contains("one connection after the other failed"));
        assert!(lines[1].contains("out of resources"));
    }
}
