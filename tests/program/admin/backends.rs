//! Backends, and what an operator does with a server.

use super::{Administered, configuration};
use crate::{
    backend_tls::serve,
    gate::{Authority, Folder, backend, line, program},
    tls,
};
use serde_json::Value;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

#[tokio::test]
async fn a_server_is_drained_and_comes_back() {
    let (one, two) = (backend("one").await, backend("two").await);
    let text = configuration("", &format!("servers = [\"{one}\", \"{two}\"]"));
    let running = Administered::run(&text, 1).await;
    let is_checked = |list: &Value| {
        let servers = &list["backends"][0]["servers"];
        servers[0]["state"] == "up" && servers[1]["state"] == "up"
    };
    let shown = running.eventually("/api/backends", is_checked).await;
    let shown = &shown["backends"][0];
    assert_eq!(
        (&shown["name"], &shown["balance"]),
        (&"b".into(), &"least-connections".into())
    );
    assert_eq!(
        (&shown["listeners"][0], &shown["waiting"]),
        (&"a".into(), &0.into())
    );
    let server = &shown["servers"][1];
    assert_eq!(
        (&server["state"], &server["usable"]),
        (&"up".into(), &true.into())
    );
    let key = server["key"].as_str().expect("text").replace(':', "%3A");

    let drained = running
        .post(&format!("/api/backends/b/{key}/drain"))
        .await
        .json();
    assert_eq!(drained["servers"][1]["state"], "draining");
    assert_eq!(drained["servers"][1]["usable"], false);
    for _ in 0..4 {
        assert_eq!(
            line(&mut running.gate.connect().await)
                .await
                .expect("a greeting"),
            "one"
        );
    }
    let server = &running.get("/api/backends").await.json()["backends"][0]["servers"][0];
    assert_eq!(server["connected"], 4);
    assert!(server["connect_time"].as_f64().expect("a number") > 0.0);
    for (action, state) in [("undrain", "up"), ("down", "taken_down"), ("auto", "up")] {
        let shown = running
            .post(&format!("/api/backends/b/{key}/{action}"))
            .await
            .json();
        assert_eq!(shown["servers"][1]["state"], state);
    }
    assert_eq!(
        running.post("/api/backends/b/nobody/drain").await.status,
        404
    );
    assert_eq!(
        running
            .post(&format!("/api/backends/x/{key}/drain"))
            .await
            .status,
        404
    );
    assert_eq!(
        running
            .api()
            .post(&format!("/api/backends/b/{key}/drain"))
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn a_backend_without_a_server_makes_the_program_not_ready() {
    let health = "servers = \"127.0.0.1:1\"\nhealth = { interval = \"100ms\", fall = 1 }";
    let running = Administered::run(&configuration("", health), 1).await;
    let is_down = |status: &Value| status["ready"] == false;
    let status = running.eventually("/api/status", is_down).await;
    assert_eq!(status["not_ready"][0], "backend \"b\": no server is up");
    let ready = running.get("/readyz").await;
    assert_eq!(
        (ready.status, &*ready.body),
        (503, "backend \"b\": no server is up\n")
    );
    let is_noted = |list: &Value| list["backends"][0]["servers"][0]["since"].is_u64();
    let list = running.eventually("/api/backends", is_noted).await;
    let server = &list["backends"][0]["servers"][0];
    assert_eq!(
        (&server["state"], &server["usable"]),
        (&"down".into(), &false.into())
    );
    assert!(server["last_check"].as_str().expect("text").contains(" ms"));
}

#[tokio::test]
async fn a_server_that_is_ejected_is_a_last_resort() {
    let servers = "servers = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\nhealth = \"off\"";
    let running = Administered::run(&configuration("", servers), 1).await;
    for _ in 0..100 {
        let mut client = running.gate.connect().await;
        let _reset = client.read_to_end(&mut Vec::new()).await;
        let list = running.get("/api/backends").await.json();
        let servers = list["backends"][0]["servers"].as_array().cloned();
        for server in servers.expect("a list") {
            let is_ejected = server["state"] == "ejected";
            assert_eq!(server["last_resort"], is_ejected, "{server}");
            assert_eq!(server["usable"], true, "{server}");
            if is_ejected {
                assert_eq!(running.get("/readyz").await.status, 200);
                return;
            }
        }
    }
    panic!("no server is ejected");
}

#[tokio::test]
async fn undrain_leaves_a_server_that_is_down() {
    let text = configuration("", "servers = \"127.0.0.1:1\"\nhealth = \"off\"");
    let running = Administered::run(&text, 1).await;
    let key = "127.0.0.1%3A1";
    for (action, state) in [
        ("down", "taken_down"),
        ("undrain", "taken_down"),
        ("drain", "draining"),
        ("undrain", "up"),
        ("down", "taken_down"),
        ("auto", "up"),
    ] {
        let backend = running
            .post(&format!("/api/backends/b/{key}/{action}"))
            .await;
        assert_eq!(backend.json()["servers"][0]["state"], state, "{action}");
    }
}

#[tokio::test]
async fn the_end_of_the_certificate_of_a_server_is_shown_once_it_has_presented_one() {
    let (authority, folder) = (Authority::new(), Folder::new());
    folder.write("ca.pem", authority.pem());
    let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
    let end = SystemTime::now() + Duration::from_secs(3 * 86_400 + 1_800);
    params.not_after = end.into();
    let identity = authority.sign_params(params);
    let server = serve(move |stream| {
        let identity = identity.clone();
        async move {
            let mut stream = tls::accept(&identity, stream).await?;
            stream.read(&mut [0]).await.map(drop)
        }
    });
    let (server, plain) = (server.await, backend("plain").await);
    let keys = "tls = { roots = \"ca.pem\" }\nhealth = \"off\"";
    let checked = "health.tls = { roots = \"ca.pem\" }";
    let text = configuration("", &format!("servers = \"{server}\"\n{keys}"))
        + &format!("[[backend]]\nname = \"c\"\nservers = \"{server}\"\n{checked}\n")
        + &format!("[[backend]]\nname = \"d\"\nservers = \"{plain}\"\n");
    let running = Administered::run_in(folder, "", &text, 1).await;
    // Without checks, the first connection shows it.
    let is_shown = |list: &Value, backend: usize| {
        let server = &list["backends"][backend]["servers"][0];
        server["certificate_days_left"] == 3
    };
    let list = running
        .eventually("/api/backends", |list| is_shown(list, 1))
        .await;
    assert!(list["backends"][0]["servers"][0]["certificate_days_left"].is_null());
    let _client = running.gate.connect().await;
    let list = running
        .eventually("/api/backends", |list| is_shown(list, 0))
        .await;
    let shown = &list["backends"][0]["servers"][0]["certificate_not_after"];
    let end = end
        .duration_since(UNIX_EPOCH)
        .expect("it is later")
        .as_secs();
    assert_eq!(shown.as_u64(), Some(end * 1_000));
    assert!(list["backends"][2]["servers"][0]["certificate_days_left"].is_null());

    let metrics = running.get("/metrics").await.body;
    for (backend, is_there) in [("b", true), ("c", true), ("d", false)] {
        let name = "portcullis_backend_certificate_not_after_seconds";
        let series = format!("{name}{{backend=\"{backend}\",server=\"{server}\"}} {end}\n");
        assert_eq!(metrics.contains(&series), is_there, "{metrics}");
    }
    let status = running.get("/api/status").await.json();
    let warning = |backend| {
        format!("backend \"{backend}\": the certificate of server {server} ends in 3 days")
    };
    let expected = serde_json::json!([warning("b"), warning("c")]);
    assert_eq!(status["warnings"], expected, "{status}");
    let admin = format!("http://{}", running.admin);
    let output = program(["ctl", "backends", "--admin", &admin])
        .output()
        .await;
    let text = String::from_utf8_lossy(&output.expect("it starts").stdout).into_owned();
    assert!(text.contains("CERTIFICATE DAYS"), "{text}");
}

#[tokio::test]
async fn a_server_whose_name_is_not_resolved_is_shown_with_the_reason() {
    let text = configuration("", "servers = \"name.invalid:80\"");
    let running = Administered::run(&text, 1).await;
    let is_shown = |list: &Value| list["backends"][0]["servers"][0]["state"] == "unresolved";
    let shown = running.eventually("/api/backends", is_shown).await;
    let server = &shown["backends"][0]["servers"][0];
    let why = server["error"].as_str().expect("the reason");
    assert_eq!(
        (&server["key"], &server["usable"]),
        (&"name.invalid:80".into(), &false.into())
    );
    // Its client is told the same, and so is who asks for the client.
    drop(running.gate.connect().await);
    let ended = running
        .eventually("/api/endings", |it| it["last"] == 1)
        .await;
    let explained = running.get("/api/explain?listener=a&from=192.0.2.1").await;
    for told in [
        &ended["endings"][0]["reason"],
        &explained.json()["decision"],
    ] {
        let told = told.as_str().expect("text");
        let expected = format!("name.invalid:80 is unresolved ({why})");
        assert!(told.contains(&expected), "{told}");
    }
    let unknown = running.post("/api/backends/b/other/drain").await;
    assert_eq!(unknown.status, 404);
    let error = unknown.error();
    assert!(
        error.ends_with("its servers are name.invalid:80"),
        "{error}"
    );
    let unknown = running.post("/api/backends/x/other/drain").await;
    assert_eq!(unknown.error(), "there is no backend \"x\"; there is b");
}

#[tokio::test]
async fn a_check_names_the_host_that_a_server_chooses_by() {
    let listener = TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port is free");
    let server = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 1_024];
            let read = stream.read(&mut head).await.unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..read]);
            let is_known = head.contains("\r\nhost: shop.example\r\n");
            let status = if is_known { "200 OK" } else { "404 Not Found" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    for (host, state) in [("", "down"), (", host = \"shop.example\"", "up")] {
        let keys = format!("servers = \"{server}\"\nhealth = {{ http = \"/\"{host} }}");
        let running = Administered::run(&configuration("", &keys), 1).await;
        let is_so = |list: &Value| list["backends"][0]["servers"][0]["state"] == state;
        running.eventually("/api/backends", is_so).await;
    }
}
