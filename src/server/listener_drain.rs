//! The life of one listener, from its start to the end of its last connection.

use super::{
    BrokenListener, Report, acceptors::Acceptors, drain::ReportData, drain::Schedule,
    listener_state::ListenerState, shared::SharedState,
};
use portcullis_middleware::ConnectionInfo;
use std::{
    io, mem,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// Waits for the end of a listener, and drains it when that is requested.
///
/// Dropping it closes the listener and leaves its connections open.
#[derive(Debug)]
pub(super) struct ListenerDrainer {
    acceptors: Acceptors,
    broken: Vec<BrokenListener>,
    is_open: bool,
    shared: Arc<SharedState>,
    listener: Arc<ListenerState>,
}

impl ListenerDrainer {
    pub(super) fn new(shared: Arc<SharedState>, listener: Arc<ListenerState>) -> Self {
        Self {
            acceptors: Acceptors::default(),
            broken: Vec::new(),
            is_open: true,
            shared,
            listener,
        }
    }

    pub(super) const fn acceptors(&mut self) -> &mut Acceptors {
        &mut self.acceptors
    }

    /// Resolves when the listener and all its connections have ended: on their own after it was closed or broke,
    /// or by the stages of [`Drain`](super::Drain).
    pub(super) async fn run(mut self) -> Report {
        let listener = self.listener.clone();
        let drains = tokio::select! {
            () = listener.lifecycle.stop_requested() => true,
            () = self.emptied() => false,
        };
        let begun = match listener.lifecycle.schedule() {
            Some(schedule) => schedule.begun,
            None => Instant::now(),
        };
        let gone = listener.gone();
        let force_closed = if drains {
            self.drain().await
        } else {
            Vec::new()
        };
        // All accepted connections but those that had ended before. This includes a connection between its accept
        // and its entry in the table.
        let accepted = listener.recorder.counters.accepted.load(Ordering::Relaxed);
        let ended_since = |gone| accepted.saturating_sub(gone + force_closed.len() as u64);
        let gone_at_server_drain = listener.gone_at_server_drain.get().copied().unwrap_or(0);
        let report = Report::from(ReportData {
            ended: ended_since(gone),
            ended_in_server_drain: ended_since(gone.max(gone_at_server_drain)),
            still_running: listener.registry.len_of(listener.key),
            force_closed,
            took: begun.elapsed(),
            broken: mem::take(&mut self.broken),
        });
        listener.report.get_or_init(|| report).clone()
    }

    async fn drain(&mut self) -> Vec<ConnectionInfo> {
        let (shared, listener) = (self.shared.clone(), self.listener.clone());
        let lifecycle = &listener.lifecycle;
        let notice_period = |schedule: Schedule| schedule.stop_accepting > schedule.begun;
        let has_notice_period = lifecycle.schedule().is_some_and(notice_period);
        lifecycle.begin_drain(has_notice_period);
        if has_notice_period {
            tokio::select! {
                () = reached(&shared, &listener, |schedule| schedule.stop_accepting) => {}
                () = lifecycle.stop_now_requested() => {}
                () = self.join() => {}
            }
        }
        lifecycle.finish_accepting();
        let finished = tokio::select! {
            biased;
            () = self.emptied() => true,
            () = reached(&shared, &listener, |schedule| schedule.deadline) => false,
            () = lifecycle.stop_now_requested() => false,
        };
        if finished {
            Vec::new()
        } else {
            self.force_close().await
        }
    }

    /// Force-closes the sockets, so that handlers can still clean up, then aborts the tasks.
    async fn force_close(&mut self) -> Vec<ConnectionInfo> {
        let (shared, listener) = (self.shared.clone(), self.listener.clone());
        let (registry, key) = (&listener.registry, listener.key);
        listener.lifecycle.quit();
        // The acceptors first, so that no connection is added after the table is read.
        tokio::select! {
            () = self.join() => {}
            () = shared.clock.alarm(Instant::now() + CLEAN_UP) => self.acceptors.close(),
        }
        let mut force_closed = registry.all_of(key);
        let reason = self.why_forced();
        for connection in &force_closed {
            connection.force_close_because(reason);
        }
        force_closed.append(&mut listener.recorder.take_closed_unserved());
        tokio::select! {
            () = registry.emptied_of(key) => return force_closed,
            () = shared.clock.alarm(Instant::now() + CLEAN_UP) => {}
        }
        registry.abort_tasks(key);
        tokio::select! {
            () = registry.emptied_of(key) => {}
            () = shared.clock.alarm(Instant::now() + CLEAN_UP) => {}
        }
        force_closed
    }

    fn why_forced(&self) -> &'static str {
        let listener = &self.listener;
        let is_immediate = listener.lifecycle.is_stopped_at_once();
        match (listener.gone_at_server_drain.get(), is_immediate) {
            (Some(_), true) => "the server was stopped at once",
            (Some(_), false) => "the shutdown has reached its deadline",
            (None, true) => "its listener was stopped at once",
            (None, false) => "its listener was closed, and the drain has reached its deadline",
        }
    }

    /// Waits until all acceptors and all connections have ended.
    async fn emptied(&mut self) {
        self.join().await;
        let listener = &self.listener;
        listener.registry.emptied_of(listener.key).await;
    }

    /// Waits until all acceptors have ended, and collects the errors of a broken listener.
    async fn join(&mut self) {
        while let Some(ended) = self.acceptors.join_next().await {
            let error = match ended {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error,
                Err(error) => {
                    tracing::error!(%error, "acceptor task failed");
                    io::Error::other(error)
                }
            };
            let name = self.listener.name.clone();
            self.broken.push(BrokenListener::new(name, error));
        }
        self.closed();
    }

    /// Notes that the listener has no more acceptors.
    fn closed(&mut self) {
        if mem::take(&mut self.is_open) {
            // Otherwise something was requested that closes it.
            let has_broken = self.listener.lifecycle.is_open();
            self.listener.lifecycle.socket_closed();
            self.shared.listeners.closed_one(has_broken);
        }
    }
}

impl Drop for ListenerDrainer {
    fn drop(&mut self) {
        self.acceptors.close();
        let listener = &self.listener;
        listener.report.get_or_init(|| {
            Report::from(ReportData {
                still_running: listener.registry.len_of(listener.key),
                ..ReportData::default()
            })
        });
        listener.lifecycle.end();
        self.closed();
    }
}

/// Resolves at a time of the schedule, which may be replaced by an earlier one.
async fn reached(
    shared: &SharedState,
    listener: &ListenerState,
    time: impl Fn(Schedule) -> Instant,
) {
    // A drain has a schedule, unless it is immediate.
    while let Some(schedule) = listener.lifecycle.schedule() {
        tokio::select! {
            () = shared.clock.alarm(time(schedule)) => return,
            () = listener.lifecycle.rescheduled(schedule) => {}
        }
    }
}

/// How long handlers may take after the force-close, and again after their tasks are aborted.
const CLEAN_UP: Duration = Duration::from_millis(100);
