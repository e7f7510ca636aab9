//! A connection between its opening and its closing.

use super::{Closed, layer::TraceSettings, report};
use crate::{connection::ConnectionInfo, error::Panicked, outcome::Outcome};
use std::{error::Error, mem, sync::Arc, thread};
use tracing::Span;

/// A connection reported as open; it is reported as closed once, at the latest on drop.
#[derive(Debug)]
pub(super) struct Open {
    info: ConnectionInfo,
    settings: Arc<TraceSettings>,
    span: Span,
    /// Whether its events are suppressed by the rate limit.
    suppressed: bool,
    /// True while the service or a callback runs, so that it stays true after a panic.
    panicked: bool,
    closed: bool,
    client_known: bool,
    tls_known: bool,
}

impl Open {
    /// Reports a connection as open; `None` without a subscriber or callback.
    pub(super) fn new(info: &ConnectionInfo, settings: &Arc<TraceSettings>) -> Option<Box<Self>> {
        let span = report::span(info, settings);
        if span.is_disabled() && !settings.has_callback() && !report::is_written(settings) {
            return None;
        }
        let admitted = match &settings.limit {
            // Without a subscriber, the limit stays untouched.
            Some(limit) if report::is_written(settings) => limit.admit(),
            _ => Some(0),
        };
        let mut open = Box::new(Self {
            info: info.clone(),
            settings: settings.clone(),
            span,
            suppressed: admitted.is_none(),
            panicked: true,
            closed: false,
            client_known: false,
            tls_known: false,
        });
        open.report_opened(admitted);
        open.panicked = false;
        Some(open)
    }

    /// Takes the number of connections suppressed before; `None` suppresses this one too.
    fn report_opened(&self, admitted: Option<u64>) {
        let _entered = self.span.enter();
        if let Some(suppressed) = admitted {
            report::opened(&self.info, &self.settings, suppressed);
        }
        for on_open in &self.settings.on_open {
            on_open(&self.info);
        }
    }

    /// Runs a part of the service within the span and records whether it panics.
    #[inline]
    pub(super) fn run<T>(&mut self, service: impl FnOnce() -> T) -> T {
        self.record_facts();
        let _entered = self.span.enter();
        let panicked = mem::replace(&mut self.panicked, true);
        let result = service();
        self.panicked = panicked;
        result
    }

    /// Reports the closing after the service returned, with `error` if it failed.
    pub(super) fn close(&mut self, error: Option<&(dyn Error + 'static)>) {
        self.close_with(Outcome::of(&self.info, error), error);
    }

    fn close_with(&mut self, outcome: Outcome, error: Option<&(dyn Error + 'static)>) {
        // First, because the rest may panic.
        self.closed = true;
        self.record_facts();
        let _entered = self.span.enter();
        let closed = Closed::new(&self.info, outcome, error);
        for on_close in &self.settings.on_close {
            on_close(&closed);
        }
        if !self.suppressed {
            report::closed(&closed, &self.settings);
        }
    }

    /// Adds to the span what layers inside have discovered.
    #[inline]
    fn record_facts(&mut self) {
        if self.span.is_disabled() {
            return;
        }
        if !self.client_known && self.info.peer() != self.info.socket_peer() {
            self.client_known = true;
            report::client(&self.span, self.info.peer());
        }
        if !self.tls_known
            && let Some(tls) = self.info.tls()
        {
            self.tls_known = true;
            report::tls(&self.span, tls);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        let outcome = if self.panicked {
            Outcome::Panicked
        } else {
            Outcome::of_unfinished(&self.info)
        };
        if thread::panicking() {
            // A second panic that leaves a drop aborts the process. The hook has reported it.
            let _reported = Panicked::catch(|| self.close_with(outcome, None));
        } else {
            self.close_with(outcome, None);
        }
    }
}
