//! Records what happens to connections: counters, accept errors, and the log lines of failures.

use super::{ongoing_log::OngoingLog, status::Counters};
use crate::listener::accept_error::AcceptErrorKind;
use portcullis_middleware::{
    BoxError, ConnectionInfo,
    error::Panicked,
    internal::{Causes, Escaped},
    log_limit::LogLimit,
    outcome::Outcome,
};
use std::{
    error::Error,
    io,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Counters and log lines of one listener; see the [module docs](self).
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(super) counters: Counters,
    panics: LogLimit,
    failures: LogLimit,
    exhausted: OngoingLog,
    failing: OngoingLog,
    pub(super) warned_of_untaken: AtomicBool,
    /// Connections that were accepted and still waited for their stack when the listener quit.
    closed_unserved: Mutex<Vec<ConnectionInfo>>,
}

impl Recorder {
    /// Records how a connection ended. It is called once for each, at the end of its task.
    pub(super) fn record(&self, info: &ConnectionInfo, error: Option<&BoxError>) {
        let error: Option<&(dyn Error + 'static)> = error.map(|error| &**error as _);
        self.record_outcome(info, Outcome::of(info, error), error);
    }

    /// Records the end of a connection whose task was dropped unfinished.
    pub(super) fn record_unfinished(&self, info: &ConnectionInfo) {
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
        // The text of an error comes from code outside of this package, which may panic.
        if Panicked::catch(|| self.log(info, outcome, error)).is_err() {
            tracing::error!(connection.id = %info.id(), "the text of an error panicked");
        }
    }

    fn log(&self, info: &ConnectionInfo, outcome: Outcome, error: &(dyn Error + 'static)) {
        let error = Escaped(Causes(error));
        let (id, peer) = (info.id(), info.peer());
        if outcome == Outcome::Panicked {
            self.panics.write(|suppressed| {
                tracing::error!(connection.id = %id, %peer, %error, suppressed, "service panicked");
            });
        } else if tracing::enabled!(tracing::Level::DEBUG) {
            self.failures.write(|suppressed| {
                let (bytes_in, bytes_out) = (info.bytes_read(), info.bytes_written());
                let duration = info.age().as_secs_f64();
                let outcome = outcome.as_str();
                tracing::debug!(
                    connection.id = %id, %peer, outcome, %error, duration, bytes_in, bytes_out,
                    suppressed, "connection failed"
                );
            });
        }
    }

    /// Records a connection whose stack failed in `poll_ready`.
    pub(super) fn record_unready(&self, info: &ConnectionInfo, error: &BoxError) {
        self.counters.unserved.fetch_add(1, Ordering::Relaxed);
        self.record(info, Some(error));
    }

    /// Records a connection that was closed before its stack was ready.
    pub(super) fn record_unserved(&self, info: &ConnectionInfo) {
        self.counters.unserved.fetch_add(1, Ordering::Relaxed);
        self.record_unfinished(info);
        self.lock_closed_unserved().push(info.clone());
    }

    /// The connections that were closed before a task was spawned for them.
    pub(super) fn take_closed_unserved(&self) -> Vec<ConnectionInfo> {
        std::mem::take(&mut *self.lock_closed_unserved())
    }

    fn lock_closed_unserved(&self) -> MutexGuard<'_, Vec<ConnectionInfo>> {
        self.closed_unserved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Warns once that a stack served a connection without taking its context.
    pub(super) fn warn_of_untaken_context(&self) {
        if !self.warned_of_untaken.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "a stack served a connection without taking its context, so its connections have \
                 no drain signal and cannot be closed from outside; add PeerAddrLayer, outside of \
                 any layer that calls its inner service in another task or wraps the stream in a \
                 type without `Transport::descriptor`"
            );
        }
    }

    /// Logs that an acceptor pauses, with the reason.
    pub(super) fn log_pause(&self, kind: AcceptErrorKind, listener: &str, error: &io::Error) {
        if kind == AcceptErrorKind::Resource {
            self.exhausted.write(|suppressed| {
                tracing::warn!(listener, %error, suppressed, "accept pauses: out of resources");
            });
        } else {
            self.failing.write(|suppressed| {
                tracing::warn!(
                    listener, %error, suppressed,
                    "accept pauses: too many connections failed in a row"
                );
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

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
            let recorder = Recorder::default();
            let error = io::Error::from(io::ErrorKind::ConnectionReset);
            // A line of one kind does not suppress the other kind.
            for kind in [AcceptErrorKind::Connection, AcceptErrorKind::Resource] {
                recorder.log_pause(kind, "front", &error);
                recorder.log_pause(kind, "front", &error);
            }
        });
        let written = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = written.lines().collect();
        assert_eq!(lines.len(), 2, "{written}");
        assert!(lines[0].contains("too many connections failed in a row"));
        assert!(lines[1].contains("out of resources"));
    }
}
