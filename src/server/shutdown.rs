//! The end of a server, which is the end of all its listeners.

use super::{
    Drain, Report, clock::Clock, drain::ReportData, listener_drain::ListenerDrainer,
    shared::SharedState,
};
use std::{
    future::{pending, poll_fn},
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{sync::mpsc, time::Instant};

/// Waits for the stop of a running server, then drains all its listeners.
pub(super) struct ServerDrainer {
    drain: Drain,
    /// Whether the server goes on without a listener.
    until_stopped: bool,
    /// Whether the server stopped because the last listener broke.
    pub(super) has_broken: bool,
    listeners: ListenerDrainers,
    /// Last, because dropping it wakes the tasks that wait for the end of the server.
    stopped_guard: StoppedGuard,
}

impl ServerDrainer {
    /// Drains the listeners that come from `added`.
    pub(super) fn new(
        stopped_guard: StoppedGuard,
        drain: Drain,
        until_stopped: bool,
        added: mpsc::UnboundedReceiver<ListenerDrainer>,
    ) -> Self {
        Self {
            drain,
            until_stopped,
            has_broken: false,
            listeners: ListenerDrainers::new(added, stopped_guard.0.clone()),
            stopped_guard,
        }
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.stopped_guard.0.clock
    }

    /// Waits for a stop, then drains.
    pub(super) async fn run(&mut self) -> Report {
        let shared = self.stopped_guard.0.clone();
        let lifecycle = &shared.lifecycle;
        let out_of_listeners = async {
            if self.until_stopped {
                pending::<()>().await;
            }
            shared.listeners.all_closed().await
        };
        let (is_stopped, has_broken) = tokio::select! {
            () = lifecycle.stop_requested() => (true, false),
            has_broken = out_of_listeners => (false, has_broken),
            () = self.listeners.run() => (true, false),
        };
        self.has_broken = has_broken;

        let begun = Instant::now();
        self.listeners.server_drains = true;
        // First, so that no listener is added to a server that is paused and drains.
        let listeners = shared.listeners.stop();
        let drain = shared.drain().unwrap_or_else(|| self.drain.clone());
        let schedule = drain.schedule(begun);
        // Before the state changes, so that a drain that is seen has a deadline.
        let _first = shared.schedule.set(schedule);
        lifecycle.begin_drain(false);
        for listener in &listeners {
            listener
                .gone_at_server_drain
                .get_or_init(|| listener.gone());
            // Nothing was requested of a server that has run out of listeners, so their own drains go on as they are.
            if is_stopped || listener.lifecycle.schedule().is_none() {
                listener.lifecycle.drain(schedule);
            }
        }
        let stop_now = async {
            lifecycle.stop_now_requested().await;
            for listener in &listeners {
                listener.lifecycle.stop_now();
            }
            pending::<()>().await;
        };
        tokio::select! {
            () = self.listeners.run() => {}
            () = stop_now => {}
        }
        Report::from(ReportData {
            took: begun.elapsed(),
            still_running: shared.registry.len(),
            ..mem::take(&mut self.listeners.ended)
        })
    }

    /// Stores the report for the tasks that wait for it. They receive it when this is dropped.
    pub(super) fn keep(&self, report: Report) {
        let _ = self.stopped_guard.0.report.set(report);
    }
}

/// The drainers of all listeners, polled as one.
///
/// The server's own future polls them, because a task of its own could be stuck behind a handler that blocks its
/// thread. There are few of them and they wake rarely, so each wake polls all.
struct ListenerDrainers {
    /// Ends when no listener can be added any more.
    added: mpsc::UnboundedReceiver<ListenerDrainer>,
    running: Vec<Pin<Box<dyn Future<Output = Report> + Send>>>,
    /// Whether the server drains, whose report contains connections that end from then on.
    server_drains: bool,
    /// Those that have ended.
    ended: ReportData,
    shared: Arc<SharedState>,
}

impl ListenerDrainers {
    fn new(added: mpsc::UnboundedReceiver<ListenerDrainer>, shared: Arc<SharedState>) -> Self {
        Self {
            added,
            running: Vec::new(),
            server_drains: false,
            ended: ReportData::default(),
            shared,
        }
    }

    /// Resolves when all listeners have ended and none can be added.
    async fn run(&mut self) {
        poll_fn(|cx| self.poll_run(cx)).await;
    }

    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let no_more = loop {
            match self.added.poll_recv(cx) {
                Poll::Ready(Some(listener)) => self.running.push(Box::pin(listener.run())),
                Poll::Ready(None) => break true,
                Poll::Pending => break false,
            }
        };
        let before = self.running.len();
        self.running
            .retain_mut(|listener| match listener.as_mut().poll(cx) {
                Poll::Ready(report) => {
                    if self.server_drains {
                        self.ended.add(&report);
                    } else {
                        self.ended.add_broken(&report);
                    }
                    false
                }
                Poll::Pending => true,
            });
        if self.running.len() < before {
            self.shared.listeners.remove_ended();
        }
        if no_more && self.running.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// Marks the server as stopped when it is dropped.
///
/// Dropping a running server closes its listeners and leaves its connections open.
pub(super) struct StoppedGuard(pub(super) Arc<SharedState>);

impl Drop for StoppedGuard {
    fn drop(&mut self) {
        let shared = &self.0;
        shared.listeners.stop();
        shared.report.get_or_init(|| {
            Report::from(ReportData {
                still_running: shared.registry.len(),
                ..ReportData::default()
            })
        });
        shared.lifecycle.end();
        shared.clock.close();
    }
}
