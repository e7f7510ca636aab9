//! The request of each command.

use super::args::{Command, ListenerChange, ServerChange};
use crate::admin::encode;
use http::Method;

pub(super) fn of(command: &Command) -> (Method, String) {
    let get = |path: &str| (Method::GET, path.to_owned());
    let post = |path: &str| (Method::POST, path.to_owned());
    match command {
        Command::Status => get("/api/status"),
        Command::Ready => get("/readyz"),
        Command::Listeners { change: None } => get("/api/listeners"),
        Command::Listeners {
            change: Some(change),
        } => (Method::POST, listener(change)),
        Command::Connections { filter, limit } => {
            let mut parameters = filter.parameters();
            parameters.push(("limit", limit.to_string()));
            (Method::GET, with("/api/connections", &parameters))
        }
        Command::Close {
            id,
            filter,
            all,
            dry_run,
            reset,
        } => {
            let mut parameters = filter.parameters();
            for (flag, name) in [(all, "all"), (dry_run, "dry-run"), (reset, "reset")] {
                parameters.extend(flag.then(|| (name, "true".to_owned())));
            }
            let path = match id {
                Some(id) => format!("/api/connections/{id}/close"),
                None => "/api/connections/close".into(),
            };
            (Method::POST, with(&path, &parameters))
        }
        Command::Endings {
            filter,
            outcome,
            since,
            limit,
        } => {
            let mut parameters = filter.parameters();
            parameters.extend(outcome.clone().map(|outcome| ("outcome", outcome)));
            let within = since.map(|time| time.as_secs_f64().to_string());
            parameters.extend(within.map(|within| ("within", within)));
            parameters.push(("limit", limit.to_string()));
            (Method::GET, with("/api/endings", &parameters))
        }
        Command::Backends { change: None } => get("/api/backends"),
        Command::Backends {
            change: Some(change),
        } => (Method::POST, server(change)),
        Command::Certificates => get("/api/certificates"),
        Command::Explain(question) => (Method::GET, with("/api/explain", &question.parameters())),
        Command::Reload => post("/api/reload"),
        Command::LogLevel { level } => post(&format!("/api/log-level?level={}", level.as_str())),
        Command::Drain { .. } => post("/api/drain"),
    }
}

fn listener(change: &ListenerChange) -> String {
    let (name, action) = match change {
        ListenerChange::Pause { listener } => (listener, "pause".into()),
        ListenerChange::Resume { listener } => (listener, "resume".into()),
        ListenerChange::Limit {
            listener,
            connections,
        } => (listener, format!("limit?value={connections}")),
    };
    format!("/api/listeners/{}/{action}", encode(name))
}

fn server(change: &ServerChange) -> String {
    let (server, action) = match change {
        ServerChange::Drain(server) => (server, "drain"),
        ServerChange::Undrain(server) => (server, "undrain"),
        ServerChange::Down(server) => (server, "down"),
        ServerChange::Auto(server) => (server, "auto"),
    };
    format!(
        "/api/backends/{}/{}/{action}",
        encode(&server.backend),
        encode(&server.server)
    )
}

fn with(path: &str, parameters: &[(&str, String)]) -> String {
    let pairs = parameters
        .iter()
        .map(|(key, value)| format!("{key}={}", encode(value)));
    let query = pairs.collect::<Vec<_>>().join("&");
    match query.is_empty() {
        true => path.to_owned(),
        false => format!("{path}?{query}"),
    }
}
