//! `/api/connections`: the connections that are open, and their end by request.

use super::{
    connection,
    filter::{Filter, Subject},
    reply::{self, Refusal, Reply},
    router::Call,
};
use crate::view::View;
use portcullis::ConnectionInfo;
use serde_json::json;
use std::cmp::Reverse;

pub(super) fn list(call: &Call<'_>) -> Result<Reply, Refusal> {
    let known = [&["limit", "cursor"][..], Filter::FACTS, Filter::LIVE].concat();
    let query = call.query(&known)?;
    let (limit, cursor): (Option<usize>, Option<u64>) = (query.get("limit")?, query.get("cursor")?);
    let limit = limit.unwrap_or(PAGE).clamp(1, PAGE);
    let filter = Filter::read(&query)?;
    let connections = matching(&call.interface.view, &filter);
    let page = page(&connections, cursor, limit);
    // Without the last one there is nothing behind it.
    let is_last = page.len() < limit
        || page.last().map(|info| info.id()) == connections.last().map(|info| info.id());
    let next = page
        .last()
        .filter(|_| !is_last)
        .map(|info| info.id().get().to_string());
    Ok(reply::ok(&json!({
        "connections": page.iter().map(connection::live).collect::<Vec<_>>(),
        "total": connections.len(),
        "next": next,
    })))
}

/// The most of one reply.
const PAGE: usize = 500;

/// The newest first.
fn matching(view: &View, filter: &Filter) -> Vec<ConnectionInfo> {
    let mut connections = view.server.connections();
    if !filter.is_empty() {
        connections.retain(|info| filter.matches(&Subject::Live(info)));
    }
    connections.sort_unstable_by_key(|info| Reverse(info.id().get()));
    connections
}

/// Those behind the connection `cursor`, which may have ended meanwhile.
fn page(sorted: &[ConnectionInfo], cursor: Option<u64>, limit: usize) -> &[ConnectionInfo] {
    let begin = match cursor {
        Some(cursor) => sorted.partition_point(|info| info.id().get() >= cursor),
        None => 0,
    };
    let rest = &sorted[begin..];
    &rest[..limit.min(rest.len())]
}

pub(super) fn show(call: &Call<'_>, id: &str) -> Result<Reply, Refusal> {
    call.query(&[])?;
    let info = find(&call.interface.view, id)?;
    Ok(reply::ok(&connection::live(&info)))
}

pub(super) fn close(call: &Call<'_>, id: &str) -> Result<Reply, Refusal> {
    let query = call.query(&["reset"])?;
    end(&find(&call.interface.view, id)?, query.flag("reset"));
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
    let filter = Filter::read(&query)?;
    if filter.is_empty() && !query.flag("all") {
        return Err(Refusal::bad_request(
            "this would close all connections; write a filter, or all=true",
        ));
    }
    let connections = matching(&call.interface.view, &filter);
    let is_dry_run = query.flag("dry-run");
    if !is_dry_run {
        for info in &connections {
            end(info, query.flag("reset"));
        }
    }
    Ok(reply::ok(&json!({
        "matching": connections.len(),
        "closed": if is_dry_run { 0 } else { connections.len() },
    })))
}

fn end(info: &ConnectionInfo, reset: bool) {
    if reset {
        info.force_reset();
    } else {
        info.force_close();
    }
}

fn find(view: &View, id: &str) -> Result<ConnectionInfo, Refusal> {
    let connections = view.server.connections().into_iter();
    let mut found = connections.filter(|info| info.id().get().to_string() == id);
    found.next().ok_or_else(|| {
        let id = id.escape_debug();
        Refusal::not_found(format!(
            "there is no connection \"{id}\"; it may have ended, see /api/endings"
        ))
    })
}
