//! What happened to a connection, step by step, with the times since its accept.

use crate::{reason::words_of, tls_facts::client_certificate};
use portcullis::{ConnectionInfo, connection::Milestone};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// The steps so far, in their order. One whose time is not known has null.
pub(super) fn of(info: &ConnectionInfo) -> Vec<Value> {
    let since = |instant: Instant| instant.saturating_duration_since(info.accepted_at());
    let accepted = format!("accepted from {}", info.socket_peer());
    let mut steps = vec![step("accepted", Some(Duration::ZERO), accepted)];
    if info.peer() != info.socket_peer() {
        let what = format!("PROXY header: the client is {}", info.peer());
        steps.push(step("header", info.reached(Milestone::ProxyHeader), what));
    }
    let detected = info.reached(Milestone::Detected);
    if let Some(hello) = info.hello() {
        let what = match hello.server_name() {
            Some(name) => format!("ClientHello for {name}"),
            None => "ClientHello without a name".into(),
        };
        steps.push(step("hello", detected, what));
    }
    if let Some(route) = info.route() {
        // It is chosen as soon as the protocol is known.
        steps.push(step("route", detected, format!("decided by {route}")));
    }
    if let Some(tls) = info.tls() {
        let completed = tls.completed_at.map(since);
        let version = tls.version.map_or("TLS", version_words);
        let resumed = if tls.resumed { ", resumed" } else { "" };
        // Without routes nothing reads the ClientHello before the handshake.
        let name = match (info.hello(), tls.server_name.as_deref()) {
            (None, Some(name)) => format!(" for {name}"),
            _ => String::new(),
        };
        let what = format!("TLS handshake{name} completed, {version}{resumed}");
        steps.push(step("handshake", completed, what));
        if let Some(name) = client_certificate(info) {
            let what = format!("the client's certificate is that of {name}");
            steps.push(step("certificate", completed, what));
        }
    }
    for note in info.notes() {
        let reason = words_of(note.reason());
        let what = format!("{} would have rejected it: {reason}", note.by());
        steps.push(step("observed", None, what));
    }
    if let Some(upstream) = info.upstream() {
        let millis = upstream.connect_time.as_secs_f64() * 1_000.0;
        let what = format!("connected to {} in {millis:.1} ms", upstream.address);
        steps.push(step("connected", upstream.connected_at.map(since), what));
    }
    steps.extend(first_bytes(info));
    steps
}

/// Either side may send first.
fn first_bytes(info: &ConnectionInfo) -> impl Iterator<Item = Value> {
    let sides = [
        (Milestone::FirstByteOfClient, "first_byte_in", "client"),
        (Milestone::FirstByteOfBackend, "first_byte_out", "server"),
    ];
    let mut reached: Vec<_> = sides
        .into_iter()
        .filter_map(|(milestone, event, side)| Some((info.reached(milestone)?, event, side)))
        .collect();
    reached.sort_by_key(|(after, ..)| *after);
    reached.into_iter().map(|(after, event, side)| {
        step(
            event,
            Some(after),
            format!("first byte of the {side} was forwarded"),
        )
    })
}

pub(super) fn step(event: &str, after: Option<Duration>, what: String) -> Value {
    let at = after.map(|after| after.as_secs_f64());
    json!({ "event": event, "at": at, "what": what })
}

fn version_words(version: &str) -> &str {
    match version {
        "TLSv1_2" => "TLS 1.2",
        "TLSv1_3" => "TLS 1.3",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis::{
        connection::{Address, TlsInfo, UpstreamInfo},
        middleware::internal,
    };
    use std::net::SocketAddr;

    #[tokio::test]
    async fn a_handshake_names_the_server_where_no_hello_was_read() {
        let info = ConnectionInfo::new(Address::Unknown, Address::Unknown);
        let mut tls = TlsInfo::new();
        tls.server_name = Some("shop.test".into());
        internal::describe(&info, None, Some(tls));
        let told: Vec<_> = of(&info).iter().map(|it| it["what"].clone()).collect();
        assert_eq!(told[1], "TLS handshake for shop.test completed, TLS");
    }

    #[tokio::test(start_paused = true)]
    async fn each_step_has_its_time_and_the_side_that_sends_first_comes_first() {
        let address = |last| Address::from(SocketAddr::from(([192, 0, 2, last], 1)));
        let info = ConnectionInfo::new(address(1), address(2));
        let pass = || tokio::time::advance(Duration::from_millis(250));
        pass().await;
        info.set_effective(address(3), address(2));
        info.reach(Milestone::ProxyHeader);
        pass().await;
        info.reach(Milestone::Detected);
        info.set_route("route ssh");
        pass().await;
        let server = UpstreamInfo::new("blue", address(4));
        info.set_upstream(server.with_connected_at(Instant::now()));
        pass().await;
        info.reach(Milestone::FirstByteOfBackend);
        pass().await;
        info.reach(Milestone::FirstByteOfClient);
        let told: Vec<_> = of(&info)
            .iter()
            .map(|step| (step["event"].clone(), step["at"].clone()))
            .collect();
        let expected = [
            ("accepted", 0.0),
            ("header", 0.25),
            ("route", 0.5),
            ("connected", 0.75),
            ("first_byte_out", 1.0),
            ("first_byte_in", 1.25),
        ];
        assert_eq!(told, expected.map(|(event, at)| (json!(event), json!(at))));
    }
}
