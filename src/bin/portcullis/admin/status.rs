//! `/api/status`: the program as a whole.

use super::{
    access, certificates, health, listeners,
    reply::{self, Refusal, Reply},
    router::Call,
    time::{millis, millis_of},
};
use crate::{
    build,
    view::{Current, View},
};
use portcullis::server::State;
use serde_json::{Value, json};
use std::{process, time::SystemTime};

pub(super) fn show(call: &Call<'_>) -> Result<Reply, Refusal> {
    call.query(&[])?;
    let view = &call.interface.view;
    let current = view.current();
    let not_ready = health::not_ready(view, &current);
    let status = view.server.status();
    let mut bytes = call.interface.endings.bytes();
    for info in view.server.connections() {
        bytes.add(&info);
    }
    let is_trusted = access::is_trusted(access::info(call.parts));
    Ok(reply::ok(&json!({
        "name": "portcullis",
        "version": env!("CARGO_PKG_VERSION"),
        "pid": process::id(),
        "started": millis(view.started),
        "now": millis(SystemTime::now()),
        "state": state(view.state()),
        "drain": view.server.drain_deadline().map(|deadline| json!({
            "open": status.active,
            "deadline": millis_of(deadline),
        })),
        "ready": not_ready.is_empty(),
        "not_ready": not_ready,
        "token_required": !is_trusted,
        "token_configured": view.token.load().is_some(),
        "token_place": token_place(&current),
        "configuration": configuration(view, &current),
        "log_level": crate::log::level().as_str().to_lowercase(),
        "log_lines_dropped": crate::log::dropped(),
        "listeners": listeners::show_all(&current),
        "connections": status.active,
        "accepted": status.accepted,
        "refused": status.refused,
        "bytes_in": bytes.read,
        "bytes_out": bytes.written,
        "warnings": warnings(view, &current),
    })))
}

/// Where an operator finds the token, in words.
fn token_place(current: &Current) -> Option<String> {
    let token = current.config.admin.as_ref()?.token.as_ref()?;
    Some(token.value.to_string())
}

fn configuration(view: &View, current: &Current) -> Value {
    let reloads = view.reloads();
    let last_error = reloads
        .last_error
        .map(|(at, problems)| json!({ "at": millis(at), "problems": problems }));
    json!({
        "file": view.file.as_ref().map(|file| file.display().to_string()),
        "hash": view.file.as_ref().and(current.config.hash.as_ref()),
        "loaded": millis(current.loaded),
        "reloads": reloads.completed,
        "failed_reloads": reloads.failed,
        "last_error": last_error,
    })
}

/// What works, and still needs an operator.
fn warnings(view: &View, current: &Current) -> Vec<String> {
    let mut warnings = Vec::new();
    let now = SystemTime::now();
    for used in certificates::in_use(view, current) {
        let name = &used.name;
        if let Some(warning) = certificates::warning(used.stored.facts.not_after, now) {
            warnings.push(format!("certificate \"{name}\" {warning}"));
        }
        if let Some(problem) = &used.stored.problem {
            warnings.push(format!("certificate \"{name}\" is not renewed: {problem}"));
        }
        if used.staple() == "stale" {
            warnings.push(format!(
                "certificate \"{name}\": its OCSP response is out of date"
            ));
        }
    }
    for (backend, pool) in &current.pools {
        for server in pool.servers() {
            let ends = server.certificate_not_after;
            if let Some(warning) = ends.and_then(|end| certificates::warning(end, now)) {
                let server = server.key.as_str();
                warnings.push(format!(
                    "backend \"{backend}\": the certificate of server {server} {warning}"
                ));
            }
        }
    }
    warnings.extend(of_trust(view, current, now));
    for listener in &current.config.listeners {
        let guards = &listener.guards;
        for (guard, observe) in [
            ("access", guards.access.observe),
            ("per-client", guards.per_client.observe),
            (
                "throughput",
                guards.throughput.as_ref().is_some_and(|it| it.observe),
            ),
        ] {
            if observe {
                let name = &listener.name.value;
                warnings.push(format!("listener \"{name}\": {guard} is only observed"));
            }
        }
    }
    warnings
}

/// Revocation lists that are out of date, and files of client authentication that cannot be read again.
fn of_trust(view: &View, current: &Current, now: SystemTime) -> Vec<String> {
    let mut warnings = Vec::new();
    for (listener, store) in certificates::stores(view, current) {
        let words = match listener.as_str() {
            certificates::ADMIN => listener,
            _ => format!("listener \"{listener}\""),
        };
        for crl in store.crls().iter().filter(|crl| crl.is_outdated(now)) {
            warnings.push(format!("{words}: {}", build::outdated(crl, now)));
        }
        for problem in store.problems() {
            warnings.push(format!("{words} keeps what it has read before: {problem}"));
        }
    }
    warnings.dedup();
    warnings
}

const fn state(state: State) -> &'static str {
    match state {
        State::Starting | State::Running => "serving",
        State::Paused => "paused",
        State::Stopped => "stopped",
        _ => "draining",
    }
}
