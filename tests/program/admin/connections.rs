//! Connections that are open, and those that have ended.

use super::{Administered, TOKEN, configuration, forward_to, two_certificates};
use crate::{
    gate::{Authority, Folder, backend, line},
    tls,
};
use serde_json::Value;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

async fn greeted(running: &Administered) -> TcpStream {
    let mut client = running.gate.connect().await;
    line(&mut client).await.expect("the greeting");
    client
}

#[tokio::test]
async fn a_connection_is_shown_with_its_story_and_closed_by_its_id() {
    let server = backend("one").await;
    let running = Administered::run(&forward_to(server), 1).await;
    let mut client = greeted(&running).await;
    let peer = client.local_addr().expect("it is bound").to_string();

    let is_counted = |list: &Value| list["connections"][0]["bytes_out"] == 4;
    let list = running.eventually("/api/connections", is_counted).await;
    assert_eq!((&list["total"], &list["next"]), (&1.into(), &Value::Null));
    let shown = &list["connections"][0];
    assert_eq!(
        (&shown["listener"], &shown["peer"]),
        (&"a".into(), &(&*peer).into())
    );
    assert_eq!(
        (&shown["backend"], &shown["phase"]),
        (&"b".into(), &"serving".into())
    );
    assert_eq!(
        (&shown["server"], &shown["bytes_out"]),
        (&server.to_string().into(), &4.into())
    );
    assert!(
        shown["tls"].is_null()
            && shown["name"].is_null()
            && shown["notes"] == serde_json::json!([])
    );
    let story: Vec<_> = shown["story"].as_array().expect("a list").iter().collect();
    assert!(
        story[0]["what"]
            .as_str()
            .expect("text")
            .starts_with("accepted from 127.0.0.1:")
    );
    assert!(
        story[1]["what"]
            .as_str()
            .expect("text")
            .starts_with(&format!("connected to {server} in "))
    );
    assert_eq!(shown["route"], Value::Null);
    // The server speaks first, and the client has sent nothing.
    let events: Vec<_> = story.iter().map(|step| &step["event"]).collect();
    assert_eq!(events, ["accepted", "connected", "first_byte_out"]);
    assert_times_increase(&shown["story"]);

    let id = shown["id"].as_str().expect("text");
    let path = format!("/api/connections/{id}");
    assert_eq!(running.get(&path).await.json()["id"], id);
    assert_eq!(
        running.api().post(&format!("{path}/close")).await.status,
        401
    );
    assert_eq!(
        running.post(&format!("{path}/close")).await.json()["closed"],
        1
    );
    let mut rest = Vec::new();
    let _closed = client.read_to_end(&mut rest).await;
    let ended = running
        .eventually("/api/endings", |it| it["last"] == 1)
        .await;
    let ending = &ended["endings"][0];
    assert_eq!(
        (&ending["id"], &ending["outcome"]),
        (&id.into(), &"forced".into())
    );
    assert_eq!(
        (&ending["sequence"], &ended["kept"]),
        (&1.into(), &1_000.into())
    );
    assert!(ending["duration"].as_f64().expect("a number") > 0.0);
    assert_eq!(ending["story"][3]["event"], "end");
    assert_times_increase(&ending["story"]);
    assert!(ending["ended"].as_u64() >= ending["opened"].as_u64());
    assert_eq!(running.get(&path).await.status, 404);
}

/// Each step has a time, and none is before the one above it.
fn assert_times_increase(story: &Value) {
    let steps = story.as_array().expect("a list").iter();
    let times: Option<Vec<_>> = steps.map(|step| step["at"].as_f64()).collect();
    let times = times.unwrap_or_else(|| panic!("a step without a time: {story}"));
    assert!(times.is_sorted() && times.last() > Some(&0.0), "{story}");
}

#[tokio::test]
async fn a_story_has_the_times_of_the_header_the_hello_the_route_and_the_first_bytes() {
    let authority = Authority::new();
    let server = backend("one").await;
    let edge = format!(
        "[[listener]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
         proxy-protocol = {{ trust = \"127.0.0.0/8\" }}\n\
         [[listener.route]]\nnames = [\"shop.example\", \"*.shop.example\"]\nbackend = \"b\"\npass = true\n\
         [[listener.route]]\nprotocol = \"ssh\"\nbackend = \"b\"\n\
         [[backend]]\nname = \"b\"\nservers = \"{server}\"\n"
    );
    let running = Administered::run(&edge, 1).await;
    let hello = tls::client_hello(tls::client(&authority, None), "www.shop.example");
    let header = b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 443\r\n";
    let mut client = running.gate.connect().await;
    client.write_all(header).await.expect("it is open");
    client.write_all(&hello).await.expect("it is open");
    line(&mut client).await.expect("the greeting");
    let mut other = running.gate.connect().await;
    other.write_all(header).await.expect("it is open");
    other.write_all(b"SSH-2.0-x\r\n").await.expect("it is open");
    line(&mut other).await.expect("the greeting");

    let by_name = "route shop.example, *.shop.example";
    let listeners = running.get("/api/listeners").await.json();
    let routes = &listeners["listeners"][0]["routes"];
    assert_eq!(routes, &serde_json::json!([by_name, "route ssh"]));
    let status = running.get("/api/status").await.json();
    assert_eq!(status["listeners"][0]["routes"], *routes);

    let filter = format!("route={}", by_name.replace(' ', "%20"));
    let path = format!("/api/connections?{filter}");
    let is_told = |list: &Value| {
        let story = &list["connections"][0]["story"];
        story.as_array().is_some_and(|story| story.len() == 7)
    };
    let found = running.eventually(&path, is_told).await;
    assert_eq!(
        (
            &found["total"],
            running.get("/api/connections").await.json()["total"].as_u64()
        ),
        (&1.into(), Some(2))
    );
    let shown = &found["connections"][0];
    assert_eq!(
        (&shown["route"], &shown["name"]),
        (&by_name.into(), &"www.shop.example".into())
    );
    let mut events: Vec<_> = shown["story"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|step| step["event"].as_str())
        .collect();
    // The server greets, and need not wait for the client.
    events[5..].sort();
    assert_eq!(
        events.into_iter().flatten().collect::<Vec<_>>(),
        [
            "accepted",
            "header",
            "hello",
            "route",
            "connected",
            "first_byte_in",
            "first_byte_out"
        ]
    );
    assert_times_increase(&shown["story"]);

    drop((client, other));
    let ended = running
        .eventually("/api/endings", |it| it["last"] == 2)
        .await;
    for ending in ended["endings"].as_array().expect("a list") {
        assert_times_increase(&ending["story"]);
    }
    let ended = running.get(&format!("/api/endings?{filter}")).await.json();
    assert_eq!(ended["endings"].as_array().map(Vec::len), Some(1));
    assert_eq!(ended["endings"][0]["route"], by_name);
}

#[tokio::test]
async fn connections_are_filtered_paged_and_closed_by_filter() {
    let running = Administered::run(&forward_to(backend("one").await), 1).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(greeted(&running).await);
    }
    let first = running.get("/api/connections?limit=2").await.json();
    assert_eq!(
        (
            &first["total"],
            first["connections"].as_array().expect("a list").len()
        ),
        (&5.into(), 2)
    );
    let mut ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = running
            .get(&format!("/api/connections?limit=2&cursor={cursor}"))
            .await
            .json();
        let shown = page["connections"].as_array().expect("a list").clone();
        ids.extend(shown.iter().map(|it| {
            it["id"]
                .as_str()
                .expect("text")
                .parse::<u64>()
                .expect("a number")
        }));
        match page["next"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert!(ids.len() == 5 && ids.is_sorted_by(|a, b| a > b), "{ids:?}");

    let port = clients[2].local_addr().expect("it is bound").port();
    for (filter, total) in [
        ("peer=127.0.0.0/8", 5),
        ("peer=10.0.0.0/8", 0),
        ("listener=a&backend=b", 5),
        (&format!("search=:{port}"), 1),
        ("phase=serving", 5),
        ("phase=handshake", 0),
        ("older=3600", 0),
        ("older=0", 5),
        ("name=x", 0),
    ] {
        let found = running
            .get(&format!("/api/connections?{filter}"))
            .await
            .json();
        assert_eq!(found["total"], total, "{filter}");
    }
    for wrong in ["pear=x", "peer=x", "cursor=%zz", "peer=a&peer=b"] {
        let refused = running.get(&format!("/api/connections?{wrong}")).await;
        assert_eq!(refused.status, 400, "{wrong}");
    }
    for (wrong, status, error) in [
        (
            "connections?older=-1",
            400,
            "older: \"-1\" is not a number of seconds, such as 2.5",
        ),
        (
            "connections?limit=x",
            400,
            "limit: \"x\" is not a whole number from 1 to 500",
        ),
        (
            "connections?limit=0",
            400,
            "limit: \"0\" is not a whole number from 1 to 500",
        ),
        (
            "connections?limit=501",
            400,
            "limit: \"501\" is not a whole number from 1 to 500",
        ),
        (
            "connections?cursor=x",
            400,
            "cursor: \"x\" is not a whole number",
        ),
        (
            "connections?phase=foo",
            400,
            "phase: \"foo\" is unknown; write one of accepted, waiting, handshake, serving, closing, closed, detached",
        ),
        (
            "connections?listener=nope",
            404,
            "there is no listener \"nope\"; there is a",
        ),
        (
            "connections?backend=nope",
            404,
            "there is no backend \"nope\"; there is b",
        ),
        (
            "endings?limit=1001",
            400,
            "limit: \"1001\" is not a whole number from 1 to 1000",
        ),
        (
            "endings?limit=0",
            400,
            "limit: \"0\" is not a whole number from 1 to 1000",
        ),
        (
            "endings?listener=nope",
            404,
            "there is no listener \"nope\"; there is a",
        ),
        ("endings?since=x", 400, "since: \"x\" is not a whole number"),
        (
            "endings?within=nan",
            400,
            "within: \"nan\" is not a number of seconds, such as 2.5",
        ),
        (
            "endings?outcome=foo",
            400,
            "outcome: \"foo\" is unknown; write one of completed, handed_off, timed_out, refused, \
             proxy_header_failed, handshake_failed, unreachable, truncated, disconnected, forced, failed, panicked, \
             cancelled",
        ),
        ("live?since=x", 400, "since: \"x\" is not a whole number"),
    ] {
        let refused = running.get(&format!("/api/{wrong}")).await;
        assert_eq!(
            (refused.status, refused.error()),
            (status, error.to_owned()),
            "{wrong}"
        );
    }
    for right in [
        "connections?limit=1",
        "connections?limit=500",
        "endings?limit=1000",
    ] {
        assert_eq!(
            running.get(&format!("/api/{right}")).await.status,
            200,
            "{right}"
        );
    }

    let close = |filter: &str| format!("/api/connections/close?{filter}");
    for wrong in [
        "",
        "all",
        "all=",
        "all=0",
        "all=no",
        "all=false",
        "all=true&reset=0",
    ] {
        let refused = running.post(&close(wrong)).await;
        assert_eq!(refused.status, 400, "{wrong}");
    }
    let of_one = format!("/api/connections/{}/close?reset=0", ids[0]);
    assert_eq!(running.post(&of_one).await.status, 400);
    assert_eq!(running.post(&close("lisener=a")).await.status, 400);
    assert_eq!(running.post(&close("listener=nope")).await.status, 404);
    assert_eq!(running.api().post(&close("all=true")).await.status, 401);
    let dry = running
        .post(&close(&format!("search=:{port}&dry-run")))
        .await
        .json();
    assert_eq!((&dry["matching"], &dry["closed"]), (&1.into(), &0.into()));
    let one = running
        .post(&close(&format!("search=:{port}")))
        .await
        .json();
    assert_eq!((&one["matching"], &one["closed"]), (&1.into(), &1.into()));
    running
        .eventually("/api/connections", |it| it["total"] == 4)
        .await;
    assert_eq!(
        running.post(&close("all=true&reset")).await.json()["closed"],
        4
    );
    running
        .eventually("/api/connections", |it| it["total"] == 0)
        .await;
    assert_eq!(
        running
            .api()
            .with_token(TOKEN)
            .get(&close("all=true"))
            .await
            .status,
        405
    );
}

#[tokio::test]
async fn endings_say_why_and_are_found_again() {
    let guards = "access = { deny = [\"127.0.0.0/8\"], observe = true }\nper-client = { connections = 1 }\n\
         throughput = { min = \"1 B/s\", over = \"10s\", observe = true }";
    let server = format!("servers = \"{}\"", backend("one").await);
    let text = configuration(guards, &server);
    let running = Administered::run(&text, 1).await;
    let first = greeted(&running).await;
    let mut second = running.gate.connect().await;
    let _refused = second.read_to_end(&mut Vec::new()).await;
    let ended = running
        .eventually("/api/endings", |it| it["last"] == 1)
        .await;
    let refused = &ended["endings"][0];
    assert_eq!(
        (&refused["outcome"], &refused["phase"]),
        (&"refused".into(), &"admission".into())
    );
    assert_eq!(refused["ended_by"], "gate");
    let reason = refused["reason"].as_str().expect("text");
    assert!(reason.starts_with("rejected by keyed_limit: "), "{reason}");
    assert!(reason.ends_with(" (`per-client.connections`)"), "{reason}");
    assert_eq!(
        refused["notes"].as_array().expect("a list").len(),
        1,
        "{refused}"
    );
    drop(first);
    let ended = running
        .eventually("/api/endings", |it| it["last"] == 2)
        .await;
    let first = &ended["endings"][0];
    assert_eq!(
        (&first["outcome"], &first["ended_by"]),
        (&"completed".into(), &"client".into())
    );
    for (filter, count) in [
        ("outcome=refused", 1),
        ("outcome=completed&listener=a", 1),
        ("search=KEYED_LIMIT", 1),
        ("since=1", 1),
        ("since=2", 0),
        ("limit=1", 1),
        ("peer=127.0.0.1", 2),
    ] {
        let found = running.get(&format!("/api/endings?{filter}")).await.json();
        assert_eq!(
            found["endings"].as_array().expect("a list").len(),
            count,
            "{filter}"
        );
    }
    let status = running.get("/api/status").await.json();
    let warnings = status["warnings"].to_string();
    for guard in ["access", "throughput"] {
        let warning = format!("listener \\\"a\\\": {guard} is only observed");
        assert!(warnings.contains(&warning), "{warnings}");
    }
    assert_eq!(
        (
            &status["accepted"],
            &status["refused"],
            &status["bytes_out"]
        ),
        (&2.into(), &1.into(), &4.into())
    );
}

#[tokio::test]
async fn a_listener_is_paused_resumed_and_limited() {
    let running = Administered::run(&forward_to(backend("one").await), 1).await;
    let list = running.get("/api/listeners").await.json();
    let shown = &list["listeners"][0];
    let address = running.gate.addresses[0].to_string();
    assert_eq!(
        (&shown["name"], &shown["state"]),
        (&"a".into(), &"open".into())
    );
    assert_eq!(
        (&shown["limit"], &shown["addresses"][0]),
        (&10_000.into(), &address.into())
    );
    assert_eq!(
        (&shown["backends"][0], &shown["tls"]),
        (&"b".into(), &false.into())
    );

    assert_eq!(
        running.post("/api/listeners/a/pause").await.json()["state"],
        "paused"
    );
    let mut client = running.gate.connect().await;
    let waits = timeout(Duration::from_millis(100), line(&mut client)).await;
    assert!(waits.is_err(), "it is accepted while paused");
    assert_eq!(
        running.post("/api/listeners/a/resume").await.json()["state"],
        "open"
    );
    line(&mut client).await.expect("the greeting");

    assert_eq!(
        running.post("/api/listeners/a/limit?value=7").await.json()["limit"],
        7
    );
    for (wrong, error) in [
        (
            "value=0",
            "value: a limit is at least 1; to take no connections, pause the listener",
        ),
        (
            "value=x",
            "value: \"x\" is not a whole number of at least 1",
        ),
        (
            "value=-1",
            "value: \"-1\" is not a whole number of at least 1",
        ),
        (
            "",
            "the parameter `value` is missing; write it in the query",
        ),
    ] {
        let refused = running
            .post(&format!("/api/listeners/a/limit?{wrong}"))
            .await;
        assert_eq!(refused.status, 400, "{wrong}");
        assert_eq!(refused.error(), error, "{wrong}");
    }
    for (wrong, error) in [
        (
            "?level=loud",
            "level: \"loud\" is unknown; write one of error, warn, info, debug, trace",
        ),
        (
            "",
            "the parameter `level` is missing; write it in the query",
        ),
    ] {
        let refused = running.post(&format!("/api/log-level{wrong}")).await;
        assert_eq!(refused.error(), error, "{wrong}");
    }
    assert_eq!(running.post("/api/listeners/b/pause").await.status, 404);
    assert_eq!(running.post("/api/listeners/a/stop").await.status, 404);
}

#[tokio::test]
async fn a_program_whose_listeners_are_all_paused_is_not_ready() {
    let server = format!("servers = \"{}\"", backend("one").await);
    let text = configuration("", &server);
    let other = "[[listener]]\nname = \"z\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n";
    let running = Administered::run(&(text + other), 2).await;
    let ready = async || {
        let ready = running.get("/readyz").await;
        (ready.status, ready.body)
    };
    let explained = async || {
        let explained = running.get("/api/explain?listener=a&from=192.0.2.1").await;
        let explained = explained.json();
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        (
            text(&explained["guards"][0]["guard"]),
            text(&explained["decision"]),
        )
    };
    let (guard, decision) = explained().await;
    assert!(
        guard != "listener" && decision.starts_with("forwarded"),
        "{decision}"
    );

    running.post("/api/listeners/a/pause").await;
    assert_eq!(ready().await, (200, "ready\n".into()));
    let (guard, decision) = explained().await;
    assert_eq!(guard, "listener");
    assert!(
        decision.starts_with("waits until the listener is resumed, then forwarded"),
        "{decision}"
    );

    running.post("/api/listeners/z/pause").await;
    assert_eq!(ready().await, (503, "paused\n".into()));
    let status = running.get("/api/status").await.json();
    assert_eq!(
        (&status["state"], &status["ready"]),
        (&"paused".into(), &false.into())
    );
    running.post("/api/listeners/a/resume").await;
    assert_eq!(ready().await, (200, "ready\n".into()));
}

#[tokio::test]
async fn a_failed_handshake_says_who_ended_it_and_which_name_was_requested() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let mut text = configuration(
        "tls.certificates = [\"a\", \"b\"]",
        "servers = \"127.0.0.1:1\"",
    );
    text += &two_certificates(&authority, &folder);
    let running = Administered::run_in(folder, "", &text, 1).await;
    let last = async |number: u64| {
        let is_there = |it: &Value| it["last"] == number;
        let ended = running.eventually("/api/endings", is_there).await;
        let mut ending = ended["endings"][0].clone();
        assert_eq!(ending["outcome"], "handshake_failed", "{ending}");
        ["ended_by", "name", "reason"].map(|key| ending[key].take())
    };
    let failed = tls::connect(&authority, None, "c.test", running.gate.connect().await).await;
    failed.expect_err("there is no such name");
    let [by, name, _] = last(1).await;
    assert_eq!((by, name), ("gate".into(), "c.test".into()));

    let mut plain = running.gate.connect().await;
    plain
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .await
        .expect("it is open");
    let _alert = plain.read_to_end(&mut Vec::new()).await;
    drop(plain);
    let [by, name, reason] = last(2).await;
    assert_eq!((by, name), ("gate".into(), Value::Null));
    let reason = reason.as_str().expect("text").to_owned();
    assert!(
        reason.ends_with("the client does not speak TLS, it begins with \"GET / HT\""),
        "{reason}"
    );

    let stranger = Authority::new();
    let failed = tls::connect(&stranger, None, "a.test", running.gate.connect().await).await;
    failed.expect_err("it does not trust the certificate");
    assert_eq!(last(3).await[0], "client");
}

#[tokio::test]
async fn a_connection_without_a_server_is_found_by_its_backend() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let closed = free.local_addr().expect("it is bound");
    drop(free);
    let mut running = Administered::run(&forward_to(closed), 1).await;
    let mut client = running.gate.connect().await;
    let _reset = client.read_to_end(&mut Vec::new()).await;
    let by_backend = "/api/endings?backend=b";
    let ended = running
        .eventually(by_backend, |it| it["endings"][0].is_object())
        .await;
    let ending = &ended["endings"][0];
    assert_eq!(
        (&ending["outcome"], &ending["backend"], &ending["server"]),
        (&"unreachable".into(), &"b".into(), &Value::Null)
    );
    let line = running.gate.child.says("outcome").await;
    let line: Value = serde_json::from_str(&line).expect("JSON");
    for (field, value) in [
        ("outcome", "unreachable"),
        ("backend", "b"),
        ("ended_by", "gate"),
    ] {
        assert_eq!(line[field], value, "{line}");
    }
}
