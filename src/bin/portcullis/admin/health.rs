//! `/livez` and `/readyz`, for probes.

use super::reply::{self, Reply};
use crate::{
    config::{Config, WhenNoneHealthy},
    view::{Current, View},
};
use http::StatusCode;
use portcullis::{
    server::State,
    upstream::{ServerState, ServerStatus},
};
use std::collections::BTreeSet;

pub(super) fn alive() -> Reply {
    plain(StatusCode::OK, "ok\n".into())
}

pub(super) fn ready(view: &View) -> Reply {
    let reasons = not_ready(view, &view.current());
    if reasons.is_empty() {
        return plain(StatusCode::OK, "ready\n".into());
    }
    plain(StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n")
}

fn plain(status: StatusCode, text: String) -> Reply {
    let mut reply = reply::text("text/plain; charset=utf-8", text);
    *reply.status_mut() = status;
    reply
}

/// Why this program should get no new connections.
pub(super) fn not_ready(view: &View, current: &Current) -> Vec<String> {
    let mut reasons = Vec::new();
    match view.state() {
        State::Running => {}
        State::Starting => reasons.push("starting".into()),
        State::Paused => reasons.push("paused".into()),
        _ => reasons.push("draining".into()),
    }
    for name in needed(&current.config) {
        let Some(pool) = current.pools.get(name) else {
            continue;
        };
        let try_all = try_all(&current.config, name);
        let servers = pool.servers();
        let is_unusable = |server| Usable::of(server, &servers, try_all) == Usable::No;
        if servers.iter().all(is_unusable) {
            reasons.push(format!("backend \"{name}\": no server is up"));
        }
    }
    reasons
}

/// The backends to which listeners lead.
fn needed(config: &Config) -> BTreeSet<&str> {
    let listeners = config.listeners.iter();
    listeners
        .flat_map(|listener| listener.target.backends())
        .collect()
}

pub(super) fn try_all(config: &Config, backend: &str) -> bool {
    let mut backends = config.backends.iter();
    let found = backends.find(|known| known.name.value == backend);
    found.is_some_and(|found| found.when_none_healthy == WhenNoneHealthy::TryAll)
}

/// Whether a server gets new connections, beside the others of its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usable {
    Yes,
    /// Its connects or checks fail, and it is tried if all others fail.
    LastResort,
    No,
}

impl Usable {
    pub(super) fn of(server: &ServerStatus, all: &[ServerStatus], try_all: bool) -> Self {
        let any_checked = || {
            let checked = |state| matches!(state, ServerState::Up | ServerState::Down);
            all.iter().any(|server| checked(server.state))
        };
        match server.state {
            _ if server.weight == 0 => Self::No,
            ServerState::Up => Self::Yes,
            ServerState::Unknown if !any_checked() => Self::Yes,
            ServerState::Ejected(_) => Self::LastResort,
            ServerState::Down if try_all => Self::LastResort,
            _ => Self::No,
        }
    }
}
