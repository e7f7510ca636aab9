//! A connection between its two reports.

use super::{Closed, layer::TraceSettings, report};
use crate::{connection::ConnectionInfo, error::Panicked, outcome::Outcome};
use std::{error::Error, mem, sync::Arc, thread};
use tracing::Span;

/// A connection that was reported open; it is reported closed once, at the latest by its drop.
#[derive(Debug)]
pub(super) struct Open {
    info: ConnectionInfo,
    settings: Arc<TraceSettings>,
    span: Span,
    /// Whether its lines are left out.
    unwritten: bool,
    /// True while code of others runs, so that it stays true when that panics.
    panicked: bool,
    closed: bool,
    client_known: bool,
    tls_known: bool,
}

impl Open {
    /// Reports a connection open; `None` without a subscriber or callback.
    pub(super) fn new(info: &ConnectionInfo, settings: &Arc<TraceSettings>) -> Option<Box<Self>> {
        let span = report::span(info, settings);
        if span.is_disabled() && !settings.has_callback() && !report::is_written(settings) {
            return None;
        }
        let admitted = match &settings.limit {
            // A line without a subscriber does not count.
            Some(limit) if report::is_written(settings) => limit.admit(),
            _ => Some(0),
        };
        let mut open = Box::new(Self {
            info: info.clone(),
            settings: settings.clone(),
            span,
            unwritten: admitted.is_none(),
            panicked: true,
            closed: false,
            client_known: false,
            tls_known: false,
        });
        open.announce(admitted);
        open.panicked = false;
        Some(open)
    }

    /// Takes the number of connections left out before; `None` leaves out the lines of this one too.
    fn announce(&self, admitted: Option<u64>) {
        let _entered = self.span.enter();
        if let Some(left_out) = admitted {
            report::opened(&self.info, &self.settings, left_out);
        }
        if let Some(on_open) = &self.settings.on_open {
            on_open(&self.info);
        }
    }

    /// Runs a piece of the service within the span, and notices when it panics.
    #[inline]
    pub(super) fn run<T>(&mut self, service: impl FnOnce() -> T) -> T {
        self.learn();
        let _entered = self.span.enter();
        let panicked = mem::replace(&mut self.panicked, true);
        let result = service();
        self.panicked = panicked;
        result
    }

    /// Reports the end of a service that returned, with `error` if it failed.
    pub(super) fn close(&mut self, error: Option<&(dyn Error + 'static)>) {
        self.close_with(Outcome::of(&self.info, error), error);
    }

    fn close_with(&mut self, outcome: Outcome, error: Option<&(dyn Error + 'static)>) {
        // First of all: what follows may panic.
        self.closed = true;
        self.learn();
        let _entered = self.span.enter();
        let closed = Closed::new(&self.info, outcome, error);
        if let Some(on_close) = &self.settings.on_close {
            on_close(&closed);
        }
        if !self.unwritten {
            report::closed(&closed, &self.settings);
        }
    }

    /// Adds to the span what layers inside found out since.
    #[inline]
    fn learn(&mut self) {
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
            // A second panic that leaves a drop aborts the process. The hook has told of it.
            let _reported = Panicked::catch(|| self.close_with(outcome, None));
        } else {
            self.close_with(outcome, None);
        }
    }
}
