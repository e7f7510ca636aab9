//! Who may do what.

use super::{Administered, TOKEN, client::Api, forward_to};
use crate::gate::{Folder, Gate, backend};

#[tokio::test]
async fn reads_on_loopback_are_open_and_changes_need_the_token() {
    let running = Administered::run(&forward_to(backend("one").await), 1).await;
    let api = running.api();
    assert_eq!(api.get("/livez").await.body, "ok\n");
    assert_eq!(api.get("/api/status").await.status, 200);

    let missing = api.post("/api/reload").await;
    assert_eq!(missing.status, 401);
    assert!(missing.head.contains("www-authenticate: bearer"));
    let basic = running.api().with_header("authorization: Basic YTpi");
    assert_eq!(basic.post("/api/reload").await.status, 403);
    for wrong in ["", "x", &TOKEN[1..], &format!("{TOKEN}x")] {
        let wrong = running.api().with_token(wrong);
        assert_eq!(wrong.post("/api/reload").await.status, 403);
    }
    assert_eq!(running.post("/api/reload").await.status, 200);
}

#[tokio::test]
async fn a_changed_token_is_used_after_a_reload_and_is_no_longer_a_change() {
    let running = Administered::run(&forward_to(backend("one").await), 1).await;
    let new = "another-horse-another-staple";
    running.folder.write("new-token", new);
    let file = running.folder.path("gate.toml");
    let text = std::fs::read_to_string(&file).expect("it was written");
    let text = text.replace("\"token\"", "\"new-token\"");
    running.folder.write("gate.toml", text);
    let plan = running.post("/api/plan").await.json();
    assert_eq!(plan["changes"][0]["key"], "admin.token-file");
    assert_eq!(running.post("/api/reload").await.status, 200);
    assert_eq!(running.post("/api/reload").await.status, 403);
    let plan = running.api().with_token(new).post("/api/plan").await.json();
    assert_eq!(plan["changes"].as_array().map(Vec::len), Some(0), "{plan}");
}

#[tokio::test]
async fn a_page_of_another_site_changes_and_reads_nothing() {
    let running = Administered::run(&forward_to(backend("one").await), 1).await;
    let form = running
        .api()
        .with_header("origin: https://evil.example")
        .with_header("cookie: token=correct-horse-battery-staple")
        .with_header("content-type: text/plain");
    assert_eq!(form.post("/api/drain").await.status, 401);
    let preflight = form.send("OPTIONS", "/api/drain", "").await;
    assert!(preflight.status >= 400 && !preflight.head.contains("access-control"));

    // A name that points here, after the browser has loaded the other site's page.
    for host in [
        "evil.example",
        "evil.example:9900",
        "localhost.evil.example",
        "",
        "127.0.0.1@evil",
    ] {
        let rebound = running.api().with_host(Some(host)).with_token(TOKEN);
        for path in ["/api/status", "/", "/livez"] {
            assert_eq!(rebound.get(path).await.status, 403, "{host} {path}");
        }
        assert_eq!(rebound.post("/api/reload").await.status, 403, "{host}");
    }
    assert_eq!(
        running.api().with_host(None).get("/livez").await.status,
        403
    );
    let port = running.admin.port();
    for own in [
        "localhost",
        &format!("LOCALHOST:{port}"),
        "127.0.0.1",
        "[::1]:1",
    ] {
        let own = running.api().with_host(Some(own));
        assert_eq!(own.get("/api/status").await.status, 200);
    }
}

#[tokio::test]
async fn everything_can_be_protected_but_probes_and_the_page() {
    let keys = "protect = \"all\"\nhosts = [\"gate.internal\"]";
    let running = Administered::run_with(keys, &forward_to(backend("one").await), 1).await;
    for read in [
        "/metrics",
        "/api/status",
        "/api/listeners",
        "/api/connections",
        "/api/connections/1",
        "/api/endings",
        "/api/backends",
        "/api/certificates",
        "/api/live",
        "/api/explain?listener=a&from=192.0.2.1",
    ] {
        assert_eq!(running.get(read).await.status, 401, "{read}");
        let allowed = running.api().with_token(TOKEN).get(read).await.status;
        let expected = if read == "/api/connections/1" {
            404
        } else {
            200
        };
        assert_eq!(allowed, expected, "{read}");
    }
    for open in ["/livez", "/readyz", "/", "/page.js"] {
        assert_eq!(running.get(open).await.status, 200, "{open}");
    }
    let named = running.api().with_host(Some("gate.internal:9900"));
    assert_eq!(named.with_token(TOKEN).get("/api/status").await.status, 200);
}

#[tokio::test]
async fn the_unix_socket_needs_no_token() {
    let folder = Folder::new();
    let server = forward_to(backend("one").await);
    let text = format!("version = 1\n[admin]\nlisten = \"unix:admin.sock\"\n{server}");
    let file = folder.write("gate.toml", text);
    let mut gate = Gate::run(&file, 1).await;
    gate.child.says("admin interface on unix:").await;
    let socket = folder.path("admin.sock");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&socket)
            .expect("it is there")
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let api = Api::unix(socket);
    let status = api.get("/api/status").await.json();
    assert_eq!(status["token_required"], false);
    assert_eq!(api.post("/api/reload").await.status, 200);
}
