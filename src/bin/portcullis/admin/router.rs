//! From a request to its endpoint.

use super::{
    Interface,
    access::{self, Effect},
    backends, certificates, connections, endings, health, listeners, live, metrics, page,
    query::{self, Query},
    questions, reload,
    reply::{Refusal, Reply},
    status,
};
use bytes::Bytes;
use http::{Method, Request, StatusCode, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use portcullis::service::http::RequestBody;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{task::block_in_place, time::timeout};

/// The endpoints, with what their paths contain.
#[derive(Debug)]
enum Endpoint<'a> {
    Page(&'static page::Asset),
    Livez,
    Readyz,
    Metrics,
    Status,
    Listeners,
    Listener(&'a str, listeners::Action),
    Connections,
    Connection(&'a str),
    CloseConnection(&'a str),
    CloseConnections,
    Endings,
    Backends,
    Server(&'a str, &'a str, backends::Action),
    Certificates,
    Live,
    Explain,
    Plan,
    Reload,
    LogLevel,
    Drain,
}

impl<'a> Endpoint<'a> {
    fn find(path: &[&'a str]) -> Option<Self> {
        Some(match path {
            ["livez"] => Self::Livez,
            ["readyz"] => Self::Readyz,
            ["metrics"] => Self::Metrics,
            ["api", "status"] => Self::Status,
            ["api", "listeners"] => Self::Listeners,
            ["api", "listeners", name, action] => {
                Self::Listener(name, listeners::Action::find(action)?)
            }
            ["api", "connections"] => Self::Connections,
            ["api", "connections", "close"] => Self::CloseConnections,
            ["api", "connections", id] => Self::Connection(id),
            ["api", "connections", id, "close"] => Self::CloseConnection(id),
            ["api", "endings"] => Self::Endings,
            ["api", "backends"] => Self::Backends,
            ["api", "backends", pool, server, action] => {
                Self::Server(pool, server, backends::Action::find(action)?)
            }
            ["api", "certificates"] => Self::Certificates,
            ["api", "live"] => Self::Live,
            ["api", "explain"] => Self::Explain,
            ["api", "plan"] => Self::Plan,
            ["api", "reload"] => Self::Reload,
            ["api", "log-level"] => Self::LogLevel,
            ["api", "drain"] => Self::Drain,
            [file] => Self::Page(page::find(file)?),
            _ => return None,
        })
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Page(_) | Self::Livez | Self::Readyz => Effect::Public,
            Self::Metrics
            | Self::Status
            | Self::Listeners
            | Self::Connections
            | Self::Connection(_)
            | Self::Endings
            | Self::Backends
            | Self::Certificates
            | Self::Live
            | Self::Explain => Effect::Read,
            Self::Listener(..)
            | Self::CloseConnection(_)
            | Self::CloseConnections
            | Self::Server(..)
            // It reads files, which read access to the interface does not cover.
            | Self::Plan
            | Self::Reload
            | Self::LogLevel
            | Self::Drain => Effect::Change,
        }
    }
}

/// A request that may be answered.
pub(super) struct Call<'a> {
    pub(super) interface: &'a Interface,
    pub(super) parts: &'a Parts,
    pub(super) body: Bytes,
}

impl Call<'_> {
    pub(super) fn query(&self, known: &[&str]) -> Result<Query, Refusal> {
        Query::parse(self.parts.uri.query(), known)
    }
}

pub(super) async fn answer(
    interface: Arc<Interface>,
    request: Request<RequestBody>,
) -> Result<Reply, Infallible> {
    let (parts, body) = request.into_parts();
    let _busy = access::info(&parts).map(|info| interface.places.busy(info.id()));
    let reply = timeout(REQUEST, answer_in_time(&interface, &parts, body)).await;
    Ok(match reply {
        Ok(Ok(reply)) => reply,
        Ok(Err(refusal)) => refusal.into_reply(),
        Err(_) => {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "this took more than 30 s").into_reply()
        }
    })
}

async fn answer_in_time(
    interface: &Interface,
    parts: &Parts,
    body: RequestBody,
) -> Result<Reply, Refusal> {
    let segments = query::segments(parts.uri.path())?;
    let segments: Vec<_> = segments.iter().map(String::as_str).collect();
    let endpoint = Endpoint::find(&segments)
        .ok_or_else(|| Refusal::not_found("there is nothing under this path"))?;
    let effect = endpoint.effect();
    let token = interface.view.token.load();
    let allowed = interface
        .access
        .load()
        .check(parts, effect, token.as_deref());
    if let Err(refusal) = allowed {
        if effect == Effect::Change && interface.refused.admit().is_some() {
            log_change(parts, refusal.status());
        }
        return Err(refusal);
    }
    match effect {
        Effect::Change if parts.method != Method::POST => return Err(Refusal::method("POST")),
        Effect::Public | Effect::Read if ![Method::GET, Method::HEAD].contains(&parts.method) => {
            return Err(Refusal::method("GET"));
        }
        _ => {}
    }
    // Others could keep a place for as long as they like, by a body that is slow.
    let body = match effect {
        Effect::Change => read(body).await?,
        Effect::Public | Effect::Read => Bytes::new(),
    };
    let call = Call {
        interface,
        parts,
        body,
    };
    let reply = dispatch(&call, endpoint).await;
    if effect == Effect::Change {
        let status = match &reply {
            Ok(reply) => reply.status(),
            Err(refusal) => refusal.status(),
        };
        log_change(parts, status);
    }
    reply
}

/// What looks at many connections leaves its worker to them meanwhile.
async fn dispatch(call: &Call<'_>, endpoint: Endpoint<'_>) -> Result<Reply, Refusal> {
    match endpoint {
        Endpoint::Page(asset) => Ok(page::serve(asset)),
        Endpoint::Livez => Ok(health::alive()),
        Endpoint::Readyz => Ok(health::ready(&call.interface.view)),
        Endpoint::Metrics => block_in_place(|| metrics::show(call)),
        Endpoint::Status => block_in_place(|| status::show(call)),
        Endpoint::Listeners => listeners::list(call),
        Endpoint::Listener(name, action) => change(call, || listeners::change(call, name, action)),
        Endpoint::Connections => block_in_place(|| connections::list(call)),
        Endpoint::Connection(id) => block_in_place(|| connections::show(call, id)),
        Endpoint::CloseConnection(id) => block_in_place(|| connections::close(call, id)),
        Endpoint::CloseConnections => block_in_place(|| connections::close_matching(call)),
        Endpoint::Endings => block_in_place(|| endings::list(call)),
        Endpoint::Backends => block_in_place(|| backends::list(call)),
        Endpoint::Server(pool, server, action) => {
            block_in_place(|| change(call, || backends::change(call, pool, server, action)))
        }
        Endpoint::Certificates => certificates::list(call),
        Endpoint::Live => block_in_place(|| live::show(call)),
        Endpoint::Explain => questions::explain(call),
        Endpoint::Plan => questions::plan(call),
        Endpoint::Reload => reload::reload(call).await,
        Endpoint::LogLevel => change(call, || reload::log_level(call)),
        Endpoint::Drain => reload::drain(call).await,
    }
}

/// Makes a change that goes on in a new process.
fn change(
    call: &Call<'_>,
    change: impl FnOnce() -> Result<Reply, Refusal>,
) -> Result<Reply, Refusal> {
    let changed = call.interface.view.change(change);
    changed.unwrap_or_else(|| {
        Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "a new process takes over, to which this change would be lost; try again in a moment",
        ))
    })
}

async fn read(body: RequestBody) -> Result<Bytes, Refusal> {
    let body = Limited::new(body, BODY).collect().await;
    body.map(|body| body.to_bytes()).map_err(|error| {
        if error.is::<LengthLimitError>() {
            Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body has more than 64 KiB",
            )
        } else {
            Refusal::bad_request("the body of the request is not complete")
        }
    })
}

/// Who changed what, from where, and what became of it. The token is in no URL.
fn log_change(parts: &Parts, status: StatusCode) {
    let info = access::info(parts);
    let who = if access::is_trusted(info) {
        "the Unix socket"
    } else if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
        "an unauthenticated client"
    } else {
        "the token"
    };
    let from = info.map_or_else(String::new, |info| info.peer().to_string());
    let what = parts.uri.path_and_query().map_or("", |path| path.as_str());
    tracing::info!(
        by = who,
        from,
        status = status.as_u16(),
        "admin: {} {}",
        parts.method,
        what.escape_debug()
    );
}

/// In bytes.
const BODY: usize = 64 * 1024;

const REQUEST: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_the_api_says_how_each_path_is_used() {
        let rows = include_str!("api.md").lines().filter_map(|row| {
            let (request, rest) = row.strip_prefix("| `")?.split_once("` | ")?;
            let (method, path) = request.split_once(" /")?;
            Some((method, path, rest.split_once(" | ")?.0))
        });
        let mut found = 0;
        for (method, path, access) in rows {
            let segments: Vec<_> = path.split('/').collect();
            let endpoint = Endpoint::find(&segments).expect(path);
            let expected = match endpoint.effect() {
                Effect::Public => ("GET", "public"),
                Effect::Read => ("GET", "read"),
                Effect::Change => ("POST", "change"),
            };
            assert_eq!((method, access), expected, "{path}");
            found += 1;
        }
        assert!(found > 20, "{found} rows");
    }
}
