//! `/api/connections`: the connections that are open, and their end by request.

use super::{
    connection,
    filter::{Filter, Subject},
    reply::{self, Refusal, Reply},
    router::Call,
};
use crate::view::View;
use portcullis::ConnectionInfo;
use serde_json::{Value, json};
use std::cmp::Reverse;

pub(super) fn list(call: &Call<'_>) -> Result<Reply, Refusal> {
    let known = [&["limit", "cursor"][..], Filter::FACTS, Filter::LIVE].concat();
    let query = call.query(&known)?;
    let limit = query.number("limit", 1..=PAGE as u64)?;
    let limit = limit.map_or(PAGE, |limit| limit as usize);
    let cursor = query.number("cursor", 0..=u64::MAX)?;
    let filter = Filter::of(call, &query)?;
    let connections = matching(&call.interface.view, &filter);
    Ok(reply::ok(&show_page(connections, cursor, limit)))
}

/// The newest ones before the connection `cursor`, which may have ended meanwhile.
fn show_page(mut connections: Vec<ConnectionInfo>, cursor: Option<u64>, limit: usize) -> Value {
    let total = connections.len();
    if let Some(cursor) = cursor {
        connections.retain(|info| info.id().get() < cursor);
    }
    let newest = |info: &ConnectionInfo| Reverse(info.id().get());
    let has_more = connections.len() > limit;
    if has_more {
        // A part of a large table is shown, so the rest of it is not sorted.
        connections.select_nth_unstable_by_key(limit, newest);
        connections.truncate(limit);
    }
    connections.sort_unstable_by_key(newest);
    let last = connections.last().filter(|_| has_more);
    json!({
        "connections": connections.iter().map(connection::live).collect::<Vec<_>>(),
        "total": total,
        "next": last.map(|info| info.id().get().to_string()),
    })
}

/// The most of one reply.
const PAGE: usize = 500;

fn matching(view: &View, filter: &Filter) -> Vec<ConnectionInfo> {
    let mut connections = view.server.connections();
    if !filter.is_empty() {
        connections.retain(|info| filter.matches(&Subject::Live(info)));
    }
    connections
}

pub(super) fn show(call: &Call<'_>, id: &str) -> Result<Reply, Refusal> {
    call.query(&[])?;
    let info = find(&call.interface.view, id)?;
    Ok(reply::ok(&connection::live(&info)))
}

pub(super) fn close(call: &Call<'_>, id: &str) -> Result<Reply, Refusal> {
    let query = call.query(&["reset"])?;
    let reset = query.flag("reset")?;
    end(&find(&call.interface.view, id)?, reset);
    Ok(reply::ok(&json!({ "closed": 1 })))
}

pub(super) fn close_matching(call: &Call<'_>) -> Result<Reply, Refusal> {
    let known = [
        &["all", "dry-run", "reset"][..],
        Filter::FACTS,
        Filter::LIVE,
    ]
    .concat();
    let query = call.query(&known)?;
    let filter = Filter::of(call, &query)?;
    let (is_dry_run, reset) = (query.flag("dry-run")?, query.flag("reset")?);
    let all = query.explicit_flag("all")?;
    if filter.is_empty() && !all {
        return Err(Refusal::bad_request(
            "this would close all connections; write a filter, or `all=true` (--all)",
        ));
    }
    let connections = matching(&call.interface.view, &filter);
    if !is_dry_run {
        for info in &connections {
            end(info, reset);
        }
    }
    Ok(reply::ok(&json!({
        "matching": connections.len(),
        "closed": if is_dry_run { 0 } else { connections.len() },
    })))
}

fn end(info: &ConnectionInfo, reset: bool) {
    if reset {
        info.force_reset_because(REASON);
    } else {
        info.force_close_because(REASON);
    }
}

const REASON: &str = "an operator requested it";

fn find(view: &View, id: &str) -> Result<ConnectionInfo, Refusal> {
    let number = id.parse::<u64>().ok();
    let found = number.and_then(|number| view.server.connection(number.into()));
    found.ok_or_else(|| {
        let id = id.escape_debug();
        Refusal::not_found(format!(
            "there is no connection \"{id}\"; it may have ended, see /api/endings"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::{super::query::Query, *};
    use portcullis::{
        BoxError, Connection, Server, ServiceBuilderExt,
        listener::MemoryListener,
        middleware::connection::{Address, UpstreamInfo},
    };
    use std::time::Duration;
    use tokio::time::Instant;
    use tower::ServiceBuilder;

    /// A server with this many connections, which stay open with the returned streams.
    async fn serve(count: usize) -> (View, Vec<impl Sized>) {
        let (listener, connector) = MemoryListener::pair();
        let stack =
            ServiceBuilder::new()
                .peer_addr()
                .service_fn(|connection: Connection<_>| async move {
                    let info = connection.info();
                    let peer: std::net::SocketAddr = ([192, 0, 2, 1], 4_000).into();
                    info.set_effective(peer.into(), Address::Unknown);
                    let server =
                        UpstreamInfo::new("10.0.1.10:8080", Address::Unknown).with_pool("shop");
                    info.set_upstream(server);
                    info.closed().await;
                    Err::<(), BoxError>("closed".into())
                });
        let server = Server::new()
            .listen(listener, stack)
            .spawn()
            .expect("it starts");
        let mut streams = Vec::new();
        while streams.len() < count {
            match connector.connect() {
                Ok(stream) => streams.push(stream),
                // Its queue is full.
                Err(_) => tokio::task::yield_now().await,
            }
        }
        let all_are_connected = || {
            let connections = server.connections();
            connections
                .iter()
                .filter(|info| info.upstream().is_some())
                .count()
                == count
        };
        while !all_are_connected() {
            tokio::task::yield_now().await;
        }
        (View::new(server, None), streams)
    }

    #[tokio::test]
    async fn a_page_of_10_000_connections_takes_less_than_100_ms() {
        let (view, _streams) = serve(10_000).await;
        let query = Query::parse(Some("search=10.0.1.10"), Filter::FACTS).expect("it is known");
        for filter in [
            Filter::default(),
            Filter::read(&query).expect("it is valid"),
        ] {
            let measure = || {
                let begun = Instant::now();
                let page = show_page(matching(&view, &filter), None, PAGE);
                let text = page.to_string();
                assert_eq!(
                    (&page["total"], text.matches("\"id\"").count()),
                    (&10_000.into(), 500)
                );
                begun.elapsed()
            };
            // Code that is not optimized takes five to ten times as long.
            let limit = Duration::from_millis(if cfg!(debug_assertions) { 400 } else { 100 });
            // Other programs may take the processor meanwhile, so one quick page among many is enough.
            let mut tries = (0..50).map(|_| measure());
            assert!(tries.any(|took| took < limit), "no page within {limit:?}");
        }
        view.server.stop_at_once();
    }

    #[tokio::test]
    async fn pages_have_all_connections_from_the_newest_to_the_oldest() {
        let (view, _streams) = serve(25).await;
        let (mut ids, mut cursor) = (Vec::new(), None);
        loop {
            let page = show_page(view.server.connections(), cursor, 10);
            assert_eq!(page["total"], 25);
            let shown = page["connections"].as_array().expect("a list");
            let number = |id: &Value| id.as_str().and_then(|id| id.parse::<u64>().ok());
            ids.extend(shown.iter().filter_map(|it| number(&it["id"])));
            cursor = number(&page["next"]);
            if cursor.is_none() {
                break;
            }
        }
        assert!(ids.len() == 25 && ids.is_sorted_by(|a, b| a > b), "{ids:?}");
        let all = show_page(view.server.connections(), None, 25);
        assert_eq!(all["next"], Value::Null);
        view.server.stop_at_once();
    }
}
