//! `/api/listeners`: the listeners, and what a single one does.

use super::{
    metrics::show_limit,
    query::Query,
    reply::{self, Refusal, Reply},
    router::Call,
};
use crate::view::{Current, ListenerView};
use portcullis::{middleware::outcome::Outcome, server::State};
use serde_json::{Value, json};

/// What can be done to a listener.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    Pause,
    Resume,
    Limit,
}

impl Action {
    pub(super) fn find(name: &str) -> Option<Self> {
        Some(match name {
            "pause" => Self::Pause,
            "resume" => Self::Resume,
            "limit" => Self::Limit,
            _ => return None,
        })
    }
}

pub(super) fn list(call: &Call<'_>) -> Result<Reply, Refusal> {
    call.query(&[])?;
    let current = call.interface.view.current();
    Ok(reply::ok(&json!({ "listeners": show_all(&current) })))
}

pub(super) fn show_all(current: &Current) -> Vec<Value> {
    let listeners = current.listeners.iter();
    let listeners = listeners.filter(|listener| !listener.is_gone());
    listeners.map(|listener| show(listener, current)).collect()
}

pub(super) fn change(call: &Call<'_>, name: &str, action: Action) -> Result<Reply, Refusal> {
    let current = call.interface.view.current();
    let listener = current.listener(name).ok_or_else(|| {
        let listeners = current.listeners.iter().filter(|it| !it.is_gone());
        Refusal::unknown("listener", name, listeners.map(|it| &*it.name))
    })?;
    match action {
        Action::Pause => {
            call.query(&[])?;
            for socket in &listener.sockets {
                socket.handle.pause();
            }
        }
        Action::Resume => {
            call.query(&[])?;
            for socket in &listener.sockets {
                socket.handle.resume();
            }
        }
        Action::Limit => {
            let query = call.query(&["value"])?;
            if query.text("value") == Some("0") {
                return Err(Refusal::bad_request(
                    "value: a limit is at least 1; to take no connections, pause the listener",
                ));
            }
            let limit = match query.text("value") {
                Some("off") => Some(u64::MAX),
                _ => query.number("value", 1..=u64::MAX)?,
            };
            let limit = limit.ok_or_else(|| Query::missing("value"))?;
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            listener.limit.set_limit(limit);
            show_limit(name, limit);
        }
    }
    Ok(reply::ok(&show(listener, &current)))
}

fn show(listener: &ListenerView, current: &Current) -> Value {
    let (mut accepted, mut connections, mut refused) = (0, 0, 0);
    let (mut timed_out, mut truncated, mut failed) = (0, 0, 0);
    let mut addresses = Vec::new();
    for socket in &listener.sockets {
        let status = socket.handle.status();
        accepted += status.accepted;
        connections += status.active;
        refused += status.refused;
        for (outcome, count) in status.outcomes {
            match outcome {
                Outcome::Completed | Outcome::HandedOff | Outcome::Refused => {}
                Outcome::TimedOut(_) => timed_out += count,
                // Some clients, such as those of Redis, never send `close_notify`.
                Outcome::Truncated => truncated += count,
                _ => failed += count,
            }
        }
        if matches!(status.state, State::Running | State::Paused) {
            addresses.push(socket.local.to_string());
        }
    }
    let configured = current.configured(&listener.name);
    let backends: std::collections::BTreeSet<_> = configured
        .into_iter()
        .flat_map(|it| it.target.backends())
        .collect();
    let rules = current
        .rules
        .get(&listener.name)
        .filter(|_| configured.is_some());
    let routes: Vec<_> = rules.into_iter().flat_map(|rules| rules.routes()).collect();
    json!({
        "name": listener.name,
        "addresses": addresses,
        "state": listener.state(),
        "connections": connections,
        // Null without a limit.
        "limit": Some(listener.limit.limit()).filter(|limit| *limit < usize::MAX),
        "accepted": accepted,
        "refused": refused,
        "timed_out": timed_out,
        "truncated": truncated,
        "failed": failed,
        "routes": routes,
        "backends": backends,
        "tls": !listener.certificates.is_empty(),
    })
}
