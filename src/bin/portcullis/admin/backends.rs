//! `/api/backends`: pools and their servers, and what an operator wants of a server.

use super::{
    Interface, certificates,
    health::{self, Usable},
    reply::{self, Refusal, Reply},
    router::Call,
    time,
};
use crate::{config::Backend, view::Current};
use portcullis::{
    ConnectionInfo,
    upstream::{Pool, ServerKey, ServerStatus},
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

/// What can be requested of a server.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    Drain,
    Undrain,
    Down,
    Auto,
}

impl Action {
    pub(super) fn find(name: &str) -> Option<Self> {
        Some(match name {
            "drain" => Self::Drain,
            "undrain" => Self::Undrain,
            "down" => Self::Down,
            "auto" => Self::Auto,
            _ => return None,
        })
    }
}

pub(super) fn list(call: &Call<'_>) -> Result<Reply, Refusal> {
    call.query(&[])?;
    let current = call.interface.view.current();
    let times = ConnectTimes::measure(call.interface);
    let backends: Vec<_> = current
        .config
        .backends
        .iter()
        .filter_map(|backend| {
            let pool = current.pools.get(&backend.name.value)?;
            Some(show(backend, pool, &current, call.interface, &times))
        })
        .collect();
    Ok(reply::ok(&json!({ "backends": backends })))
}

pub(super) fn change(
    call: &Call<'_>,
    pool: &str,
    server: &str,
    action: Action,
) -> Result<Reply, Refusal> {
    call.query(&[])?;
    let current = call.interface.view.current();
    let found = current.backend(pool);
    let (backend, pool) = found.ok_or_else(|| {
        let backends = current.config.backends.iter();
        Refusal::unknown("backend", pool, backends.map(|it| &*it.name.value))
    })?;
    let key = ServerKey::from(server);
    let done = match action {
        Action::Drain => pool.drain(&key),
        Action::Down => pool.take_down(&key),
        Action::Undrain => pool.undrain(&key),
        Action::Auto => pool.restore(&key),
    };
    if !done {
        let servers = pool.servers();
        let known: Vec<_> = servers.iter().map(|server| server.key.as_str()).collect();
        return Err(Refusal::not_found(format!(
            "backend \"{}\" has no server \"{}\"; its servers are {}",
            backend.name.value,
            server.escape_debug(),
            known.join(", ")
        )));
    }
    let times = ConnectTimes::measure(call.interface);
    Ok(reply::ok(&show(
        backend,
        pool,
        &current,
        call.interface,
        &times,
    )))
}

/// How long it took to connect to each server, by backend and server, as far as connections tell that are open or
/// have ended not long ago.
struct ConnectTimes(HashMap<(String, String), (Duration, u32)>);

impl ConnectTimes {
    fn measure(interface: &Interface) -> Self {
        let mut times: HashMap<_, (Duration, u32)> = HashMap::new();
        let mut add = |info: &ConnectionInfo| {
            if let Some(upstream) = info.upstream()
                && let Some(pool) = &upstream.pool
            {
                let key = (pool.to_string(), upstream.server.to_string());
                let (sum, count) = times.entry(key).or_default();
                *sum += upstream.connect_time;
                *count += 1;
            }
        };
        interface
            .view
            .server
            .connections()
            .iter()
            .for_each(&mut add);
        interface.endings.each_connection(add);
        Self(times)
    }

    /// The mean, in seconds.
    fn of(&self, backend: &str, server: &ServerKey) -> Option<f64> {
        let key = (backend.to_owned(), server.as_str().to_owned());
        let (sum, count) = self.0.get(&key)?;
        Some(sum.as_secs_f64() / f64::from(*count))
    }
}

fn show(
    backend: &Backend,
    pool: &Pool,
    current: &Current,
    interface: &Interface,
    times: &ConnectTimes,
) -> Value {
    let name = &*backend.name.value;
    let servers = pool.servers();
    let try_all = health::try_all(&current.config, name);
    let shown: Vec<_> = servers
        .iter()
        .map(|server| {
            let mut shown = show_server(server);
            let state = server.state.as_str();
            let usable = Usable::of(server, &servers, try_all);
            shown["usable"] = (usable != Usable::No).into();
            shown["last_resort"] = (usable == Usable::LastResort).into();
            shown["connect_time"] = times.of(name, &server.key).into();
            shown["since"] = interface
                .live
                .since(name, server.key.as_str(), state)
                .into();
            shown
        })
        .collect();
    let leads_here = |target: &crate::config::Target| target.backends().any(|it| it == name);
    let listeners = current.config.listeners.iter();
    let listeners: Vec<_> = listeners
        .filter(|listener| leads_here(&listener.target))
        .map(|listener| &*listener.name.value)
        .collect();
    json!({
        "name": name,
        "balance": backend.balance.as_str(),
        "listeners": listeners,
        "waiting": pool.waiting(),
        "servers": shown,
    })
}

fn show_server(server: &ServerStatus) -> Value {
    let check = server.last_check.as_ref();
    let certificate_ends = server.certificate_not_after;
    let days_left = |end| certificates::days_left(end, SystemTime::now());
    json!({
        "address": server.address.to_string(),
        "key": server.key.as_str(),
        "state": server.state.as_str(),
        "progress": server.progress.map(|(checks, of)| format!("{checks}/{of}")),
        "error": server.error,
        "weight": server.weight,
        "backup": server.is_backup,
        "connections": server.connections,
        "limit": server.max_connections,
        "failures": server.connect_failures,
        "connected": server.connects,
        "last_check": check.map(|check| {
            format!("{} in {:.1} ms", check.text, check.took.as_secs_f64() * 1_000.0)
        }),
        "checked": check.map(|check| time::ago(check.age)),
        "certificate_not_after": certificate_ends.map(time::millis),
        "certificate_days_left": certificate_ends.map(days_left),
    })
}
