//! Questions about decisions: what would become of a client, and what a reload would do.

use super::{
    query::Query,
    reply::{self, Refusal, Reply},
    router::Call,
};
use crate::{
    build::{self, Before},
    config::{Config, Problems, Source},
    explain::{Client, Shown, Via, check_via, decide},
    plan::{self, Concerns},
    view::Current,
};
use http::StatusCode;
use serde_json::json;
use std::{net::IpAddr, path::Path};

/// What would become of a client that connects now.
pub(super) fn explain(call: &Call<'_>) -> Result<Reply, Refusal> {
    let query = call.query(&[
        "listener", "from", "name", "alpn", "protocol", "cert", "proxy", "direct",
    ])?;
    let name = query
        .text("listener")
        .ok_or_else(|| Query::missing("listener"))?;
    let from: IpAddr = query.get("from")?.ok_or_else(|| Query::missing("from"))?;
    let current = call.interface.view.current();
    let listeners = &current.config.listeners;
    let listener = listeners.iter().find(|it| it.name.value == name);
    let (Some(listener), Some(rules)) = (listener, current.rules.get(name)) else {
        let known = listeners.iter().map(|it| &*it.name.value);
        return Err(Refusal::unknown("listener", name, known));
    };
    let list = |name| query.text(name).map_or_else(Vec::new, split);
    let client =
        Client::from(from).speaking(query.text("name"), list("alpn"), query.text("protocol"));
    let mut client = client.map_err(Refusal::bad_request)?;
    let (proxy, is_direct) = (query.get("proxy")?, query.flag("direct")?);
    if proxy.is_some() && is_direct {
        return Err(Refusal::bad_request(
            "a client that connects through a proxy is not direct",
        ));
    }
    client.via = Via::of(proxy, is_direct);
    check_via(listener, &client).map_err(Refusal::bad_request)?;
    let names = list("cert");
    let is_name = |name: &String| name.starts_with("dns:") || name.starts_with("uri:");
    if let Some(other) = names.iter().find(|name| !is_name(name)) {
        let other = other.escape_debug();
        return Err(Refusal::bad_request(format!(
            "cert: \"{other}\" is not a name in a certificate; write one such as dns:batch.mesh or \
             uri:spiffe://mesh/batch"
        )));
    }
    if !names.is_empty() {
        client.certificate = Shown::Names(names);
    }
    let mut explanation = decide(listener, rules, &client);
    if current
        .listener(name)
        .is_some_and(|it| it.state() == "paused")
    {
        explanation.wait_for_resume();
    }
    let guards = explanation.guards.iter().map(|step| {
        json!({ "guard": step.guard, "verdict": step.decides.as_str(), "reason": step.reason })
    });
    let server = match &*explanation.servers {
        [server] => Some(server),
        _ => None,
    };
    Ok(reply::ok(&json!({
        "guards": guards.collect::<Vec<_>>(),
        "route": explanation.route,
        "backend": explanation.backend,
        "server": server,
        "servers": explanation.servers,
        "decision": explanation.decision,
    })))
}

/// Several values in one parameter, such as `h2,http/1.1`.
fn split(text: &str) -> Vec<String> {
    let words = text.split(',').map(str::trim);
    let words = words.filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

/// What a reload of the file would do, or of the configuration in the body.
pub(super) fn plan(call: &Call<'_>) -> Result<Reply, Refusal> {
    call.query(&[])?;
    let view = &call.interface.view;
    let text = std::str::from_utf8(&call.body);
    let text = text.map_err(|_| Refusal::bad_request("the configuration is not UTF-8"))?;
    let Some(file) = &view.file else {
        return Err(Refusal::bad_request(
            "this configuration has no file, so it is not reloaded",
        ));
    };
    // Files are read, which blocks this thread for less time than a connection notices.
    let (config, problems) = tokio::task::block_in_place(|| match text {
        "" => read(file),
        text => of_body(file, text),
    });
    let current = view.current();
    let changes = match problems.is_empty() {
        true => plan::changes(&current.config, &config),
        false => Vec::new(),
    };
    let changes = changes.iter().map(|change| {
        json!({
            "key": change.key,
            "from": change.from,
            "to": change.to,
            "takes_effect": change.takes_effect(),
            "connections": count(&current, &change.concerns),
            "effect": change.effect,
        })
    });
    let changes: Vec<_> = changes.collect();
    let body =
        json!({ "file": file.display().to_string(), "changes": changes, "problems": problems });
    Ok(reply::with_status(StatusCode::OK, &body))
}

fn read(file: &Path) -> (Config, Vec<String>) {
    let (config, mut problems) = Config::load(file);
    build::build(&config, &Before::default(), &mut problems);
    (config, lines(problems))
}

/// The body is read as if it stood in the place of the file.
fn of_body(file: &Path, text: &str) -> (Config, Vec<String>) {
    let mut problems = Problems::default();
    let config = Config::parse(&Source::new(file, text), &mut problems);
    build::build(&config, &Before::default(), &mut problems);
    // Those of other files would show what is in them.
    let errors = problems.errors();
    problems.retain(|place| *place.file == *file);
    let hidden = errors - problems.errors();
    let mut lines = lines(problems);
    if hidden > 0 {
        lines.push(format!(
            "{hidden} more in other files; `portcullis check` shows them"
        ));
    }
    (config, lines)
}

fn lines(problems: Problems) -> Vec<String> {
    match problems.errors() {
        0 => Vec::new(),
        _ => {
            let problems = problems.sorted().into_iter();
            problems.map(|problem| problem.to_string()).collect()
        }
    }
}

/// The open connections that a change concerns.
fn count(current: &Current, concerns: &Concerns) -> u64 {
    let of_listener = |name: &str| {
        let sockets = current.listeners.iter().filter(|it| it.name == name);
        let sockets = sockets.flat_map(|listener| &listener.sockets);
        sockets
            .map(|it| it.handle.status().active as u64)
            .sum::<u64>()
    };
    let of_backend = |name: &str, address: Option<&str>| {
        let servers = current
            .pools
            .get(name)
            .map_or_else(Vec::new, |pool| pool.servers());
        let is_meant = |key: &str| {
            address.is_none_or(|address| {
                // A server of a host name has the name before its address.
                key == address
                    || key
                        .strip_prefix(address)
                        .is_some_and(|rest| rest.starts_with('@'))
            })
        };
        let meant = servers.iter().filter(|it| is_meant(&it.key.to_string()));
        meant.map(|it| it.connections as u64).sum::<u64>()
    };
    match concerns {
        Concerns::None => 0,
        Concerns::All => current
            .listeners
            .iter()
            .map(|it| of_listener(&it.name))
            .sum(),
        Concerns::Listeners(names) => names.iter().map(|name| of_listener(name)).sum(),
        Concerns::Backend(name) => of_backend(name, None),
        Concerns::Server { backend, address } => of_backend(backend, Some(address)),
    }
}
