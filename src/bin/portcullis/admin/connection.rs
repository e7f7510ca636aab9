//! What is known about a connection, in JSON.
//!
//! Names and addresses that a peer chose are JSON strings as they are. A program that shows them has to treat them as text.

use super::{story, time};
use crate::{tls_facts, view};
use portcullis::ConnectionInfo;
use serde_json::{Value, json};
use std::borrow::Cow;

/// The facts of live and of ended connections.
pub(super) fn facts(info: &ConnectionInfo) -> Value {
    let upstream = info.upstream();
    json!({
        "id": info.id().get().to_string(),
        "listener": info.listener().map(view::listener_of),
        "peer": info.peer().to_string(),
        "socket_peer": info.socket_peer().to_string(),
        "name": name(info),
        "alpn": alpn(info),
        "ja4": ja4(info),
        "tls": tls(info),
        "client_certificate": tls_facts::client_certificate(info),
        "opened": time::millis_of(info.accepted_at()),
        "bytes_in": info.bytes_read(),
        "bytes_out": info.bytes_written(),
        "route": info.route(),
        "backend": info.pool(),
        "server": upstream.map(|it| &*it.server),
        "notes": info.notes().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// A connection that is open.
pub(super) fn live(info: &ConnectionInfo) -> Value {
    let mut value = facts(info);
    value["phase"] = info.phase().as_str().into();
    value["age"] = info.age().as_secs_f64().into();
    value["story"] = story::of(info).into();
    value
}

/// The host name that the client requested.
pub(super) fn name(info: &ConnectionInfo) -> Option<&str> {
    let hello = info.hello().and_then(|hello| hello.server_name());
    hello.or_else(|| info.tls()?.server_name.as_deref())
}

/// The negotiated application protocol.
pub(super) fn alpn(info: &ConnectionInfo) -> Option<Cow<'_, str>> {
    let alpn = info.tls()?.alpn.as_deref()?;
    Some(String::from_utf8_lossy(alpn))
}

pub(super) fn ja4(info: &ConnectionInfo) -> Option<&str> {
    info.hello()?.ja4()
}

fn tls(info: &ConnectionInfo) -> Option<Value> {
    let tls = info.tls()?;
    Some(json!({
        "version": tls_facts::version(tls),
        "cipher": tls_facts::cipher(tls),
        "resumed": tls.resumed,
    }))
}
