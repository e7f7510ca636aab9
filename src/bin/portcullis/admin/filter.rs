//! Which connections a request is about.

use super::{connection, endings::Ending, query::Query, reply::Refusal, router::Call};
use crate::{tls_facts, view};
use portcullis::{
    ConnectionInfo,
    connection::{Address, Phase},
    middleware::ip_set::IpSet,
};
use std::time::Duration;

/// What a connection must have. All parts must match.
#[derive(Debug, Default)]
pub(super) struct Filter {
    listener: Option<String>,
    peer: Option<IpSet>,
    name: Option<String>,
    route: Option<String>,
    backend: Option<String>,
    server: Option<String>,
    phase: Option<String>,
    older: Option<Duration>,
    search: Option<String>,
}

/// A live connection, or one that has ended.
pub(super) enum Subject<'a> {
    Live(&'a ConnectionInfo),
    Ended(&'a Ending),
}

impl Filter {
    /// The parameters for live and ended connections.
    pub(super) const FACTS: &'static [&'static str] = &[
        "listener", "peer", "name", "route", "backend", "server", "search",
    ];

    /// Those for live connections alone.
    pub(super) const LIVE: &'static [&'static str] = &["phase", "older"];

    pub(super) fn read(query: &Query) -> Result<Self, Refusal> {
        let text = |name| query.text(name).map(str::to_owned);
        Ok(Self {
            listener: text("listener"),
            peer: query.get("peer")?,
            name: text("name").map(|name| name.to_lowercase()),
            route: text("route").map(|route| route.to_lowercase()),
            backend: text("backend"),
            server: text("server"),
            phase: query
                .word("phase", PHASES.map(Phase::as_str))?
                .map(str::to_owned),
            older: query.seconds("older")?,
            search: text("search").map(|text| text.to_lowercase()),
        })
    }

    /// The same for a request. A listener and a backend that it names have to be there, unless connections name them.
    pub(super) fn of(call: &Call<'_>, query: &Query) -> Result<Self, Refusal> {
        let filter = Self::read(query)?;
        let interface = call.interface;
        let config = &interface.view.current().config;
        let is_used = |has: &dyn Fn(&ConnectionInfo) -> bool| {
            let mut is_used = interface.view.server.connections().iter().any(has);
            interface
                .endings
                .each_connection(|info| is_used |= has(info));
            is_used
        };
        if let Some(name) = &filter.listener {
            let known = config.listeners.iter().map(|it| &*it.name.value);
            let is_it =
                |info: &ConnectionInfo| info.listener().map(view::listener_of) == Some(name);
            known_or("listener", name, known, || is_used(&is_it))?;
        }
        if let Some(name) = &filter.backend {
            let known = config.backends.iter().map(|it| &*it.name.value);
            let is_it = |info: &ConnectionInfo| info.pool() == Some(name);
            known_or("backend", name, known, || is_used(&is_it))?;
        }
        Ok(filter)
    }

    /// Whether it names nothing, and so means all.
    pub(super) fn is_empty(&self) -> bool {
        let Self {
            listener,
            peer,
            name,
            route,
            backend,
            server,
            phase,
            older,
            search,
        } = self;
        let texts = [listener, name, route, backend, server, phase, search];
        texts.iter().all(|text| text.is_none()) && peer.is_none() && older.is_none()
    }

    pub(super) fn matches(&self, subject: &Subject<'_>) -> bool {
        let info = match subject {
            Subject::Live(info) => info,
            Subject::Ended(ending) => &ending.info,
        };
        let upstream = info.upstream();
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        is(&self.listener, info.listener().map(view::listener_of))
            && self
                .peer
                .as_ref()
                .is_none_or(|peer| is_in(info.peer(), peer))
            && is(&self.backend, info.pool())
            && is(&self.server, upstream.map(|it| &*it.server))
            && is(&self.phase, Some(info.phase().as_str()))
            && self.older.is_none_or(|older| info.age() >= older)
            && self.route.as_deref().is_none_or(|route| {
                info.route()
                    .is_some_and(|found| found.to_lowercase().contains(route))
            })
            && self.name.as_deref().is_none_or(|name| {
                connection::name(info).is_some_and(|found| found.to_lowercase().contains(name))
            })
            && self
                .search
                .as_deref()
                .is_none_or(|text| has(subject, info, text))
    }
}

/// What a live connection does.
const PHASES: [Phase; 7] = [
    Phase::Accepted,
    Phase::Waiting,
    Phase::Handshake,
    Phase::Serving,
    Phase::Closing,
    Phase::Closed,
    Phase::Detached,
];

/// Rejects a name that is neither `known` nor used by a connection that was accepted before the last reload.
fn known_or<'a>(
    kind: &str,
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
    is_used: impl FnOnce() -> bool,
) -> Result<(), Refusal> {
    if known.clone().any(|known| known == name) || is_used() {
        return Ok(());
    }
    Err(Refusal::unknown(kind, name, known))
}

fn is_in(peer: &Address, networks: &IpSet) -> bool {
    peer.ip().is_some_and(|peer| networks.contains(peer.ip()))
}

/// Whether one of the columns contains `text`.
fn has(subject: &Subject<'_>, info: &ConnectionInfo, text: &str) -> bool {
    let contains = |column: &str| column.to_lowercase().contains(text);
    contains(&info.peer().to_string())
        || contains(&info.socket_peer().to_string())
        || info.listener().map(view::listener_of).is_some_and(contains)
        || connection::name(info).is_some_and(contains)
        || connection::alpn(info).is_some_and(|alpn| contains(&alpn))
        || connection::ja4(info).is_some_and(contains)
        || tls_facts::client_certificate(info).is_some_and(|name| contains(&name))
        || info.route().is_some_and(contains)
        || info.pool().is_some_and(contains)
        || info
            .upstream()
            .is_some_and(|it| contains(&it.server) || contains(&it.address.to_string()))
        || info.id().get().to_string() == text
        || match subject {
            Subject::Live(info) => contains(info.phase().as_str()),
            Subject::Ended(ending) => {
                contains(ending.outcome.as_str()) || contains(&ending.reason())
            }
        }
}
