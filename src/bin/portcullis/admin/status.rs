//! `/api/status`: the program as a whole.

use super::{
    access, health,
    reply::{self, Refusal, Reply},
    router::Call,
};
use crate::view::{Current, View};
use portcullis::server::State;
use serde_json::{Value, json};
use std::{
    process,
    time::{SystemTime, UNIX_EPOCH},
};

pub(super) fn show(call: &Call<'_>) -> Result<Reply, Refusal> {
    call.query(&[])?;
    let view = &call.interface.view;
    let current = view.current();
    let not_ready = health::not_ready(view, &current);
    let status = view.server.status();
    let is_trusted = access::is_trusted(access::info(call.parts));
    Ok(reply::ok(&json!({
        "name": "portcullis",
        "version": env!("CARGO_PKG_VERSION"),
        "pid": process::id(),
        "started": millis(view.started),
        "now": millis(SystemTime::now()),
        "state": state(status.state),
        "ready": not_ready.is_empty(),
        "not_ready": not_ready,
        "token_required": !is_trusted,
        "token_configured": view.token.load().is_some(),
        "configuration": configuration(view, &current),
        "log_level": current.config.log.level.0.as_str().to_lowercase(),
        "connections": status.active,
        "accepted": status.accepted,
        "refused": status.refused,
    })))
}

fn configuration(view: &View, current: &Current) -> Value {
    let reloads = view.reloads();
    let last_error = reloads
        .last_error
        .map(|(at, problems)| json!({ "at": millis(at), "problems": problems }));
    json!({
        "file": view.file.as_ref().map(|file| file.display().to_string()),
        "loaded": millis(current.loaded),
        "reloads": reloads.completed,
        "failed_reloads": reloads.failed,
        "last_error": last_error,
    })
}

const fn state(state: State) -> &'static str {
    match state {
        State::Starting | State::Running => "serving",
        State::Paused => "paused",
        State::Stopped => "stopped",
        _ => "draining",
    }
}

/// Unix time in milliseconds.
pub(super) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
