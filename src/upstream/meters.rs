//! Exports the metrics of a server.

use super::{
    member::MemberState,
    pool::Shared,
    standing::{Health, ServerRequest},
    task::Task,
};
use portcullis_middleware::internal::{Counter, Gauge, Histogram};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};
use tokio::time::sleep;

/// The metrics of a server, registered once. The addresses of a host name share theirs, so gauges are added to.
#[derive(Debug)]
pub(super) struct Meters {
    servers: Gauge,
    up: Gauge,
    ejected: Gauge,
    pub(super) connections: Gauge,
    pub(super) connect_duration: Histogram,
    pub(super) connect_failures: Counter,
    shown: Mutex<Shown>,
}

/// What the gauges contain of this server. The state is read under its lock, so that the latest one is shown.
#[derive(Debug, Default)]
struct Shown {
    is_hidden: bool,
    now: Values,
    /// Called at the end of an ejection.
    timer: Option<Task>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Values {
    is_listed: bool,
    is_up: bool,
    is_ejected: bool,
}

impl Meters {
    pub(super) fn new(backend: Option<&str>, server: &str) -> Self {
        let backend = backend.unwrap_or_default();
        Self {
            servers: Gauge::backend_servers(backend, server),
            up: Gauge::backend_up(backend, server),
            ejected: Gauge::backend_ejected(backend, server),
            connections: Gauge::backend_connections(backend, server),
            connect_duration: Histogram::backend_connect_duration(backend, server),
            connect_failures: Counter::backend_connect_failures(backend, server),
            shown: Mutex::default(),
        }
    }

    /// Shows the server as removed, or again.
    pub(super) fn set_hidden(&self, is_hidden: bool) {
        let mut shown = self.lock();
        shown.is_hidden = is_hidden;
        if is_hidden {
            self.show(&mut shown, Values::default());
        }
    }

    fn update(&self, values: impl FnOnce() -> Values) {
        let mut shown = self.lock();
        if !shown.is_hidden {
            self.show(&mut shown, values());
        }
    }

    fn show(&self, shown: &mut Shown, values: Values) {
        let change = |before, after| f64::from(i8::from(after) - i8::from(before));
        let before = shown.now.is_listed;
        self.servers.add(change(before, values.is_listed));
        self.up.add(change(shown.now.is_up, values.is_up));
        let before = shown.now.is_ejected;
        self.ejected.add(change(before, values.is_ejected));
        shown.now = values;
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Shows no server from now on, and checks those alone whose connections a check may close.
    pub(super) fn retire(&self) {
        // So that a server that is added meanwhile is not checked.
        let _configured = self.configured();
        self.is_retired.store(true, Ordering::SeqCst);
        let is_checking = self.is_checking();
        for member in self.members().iter() {
            if !is_checking {
                member.state.stop_checks();
            }
            self.show(&member.state);
        }
        self.show_certificates();
    }

    /// Shows whether a server is up and whether it is ejected, after a change of either.
    pub(super) fn show(&self, state: &MemberState) {
        state.meters.update(|| {
            if self.is_retired.load(Ordering::SeqCst) {
                return Values::default();
            }
            let standing = &state.standing;
            let is_healthy = match standing.health() {
                Health::Up => true,
                Health::Unknown => self.settings().health.is_none(),
                Health::Down => false,
            };
            Values {
                is_listed: true,
                is_up: is_healthy && standing.request() == ServerRequest::Auto,
                is_ejected: standing.is_ejected(self.clock.now()),
            }
        });
    }

    /// Shows that a server is ejected. At the end, shows that, and serves the queue.
    pub(super) fn show_ejected(&self, state: &Arc<MemberState>, time: Duration) {
        self.show(state);
        let (pool, weak) = (state.pool.clone(), Arc::downgrade(state));
        let show = async move {
            sleep(time).await;
            if let Some((pool, state)) = pool.upgrade().zip(weak.upgrade()) {
                pool.show(&state);
                pool.serve_queue();
            }
        };
        state.meters.lock().timer = Task::try_spawn(show);
    }
}

/// The servers of a pool that is gone leave the metrics, and their tasks end.
impl Drop for Shared {
    fn drop(&mut self) {
        self.is_retired.store(true, Ordering::SeqCst);
        self.show_certificates();
        let leaving = self.leaving();
        let leaving = leaving.iter().map(|it| &it.member);
        for member in self.members().iter().chain(leaving) {
            member.state.meters.set_hidden(true);
            // Its connections keep its state.
            member.state.stop_checks();
            member.state.meters.lock().timer = None;
        }
    }
}
