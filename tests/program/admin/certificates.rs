//! Certificates, and the TLS of the interface itself.

use super::{Administered, client::exchange, configuration, two_certificates};
use crate::{
    gate::{Authority, Folder, backend, program},
    tls,
};
use std::time::{Duration, SystemTime};

/// A listener, the servers of a backend and the interface with this certificate, whose authority is returned.
async fn with_tls(keys: &str) -> (Administered, Authority) {
    let (authority, folder) = (Authority::new(), Folder::new());
    let (chain, key) = authority.sign(&["shop.test", "*.shop.test", "localhost"]);
    folder.write("shop.pem", chain);
    folder.write("shop.key", key);
    let server = format!("servers = \"{}\"", backend("one").await);
    let text = configuration("tls.certificates = \"shop\"", &server);
    let text = text
        + "[[certificate]]\nname = \"shop\"\nchain = \"shop.pem\"\nkey = \"shop.key\"\n\
                [[backend]]\nname = \"own\"\nservers = \"localhost:1\"\nhealth = \"off\"\n\
                tls = { roots = \"shop.pem\", certificate = \"shop\" }\n";
    (
        Administered::run_in(folder, keys, &text, 1).await,
        authority,
    )
}

#[tokio::test]
async fn certificates_are_shown_without_their_keys() {
    let (running, _) = with_tls("").await;
    let reply = running.get("/api/certificates").await;
    assert!(!reply.body.contains("PRIVATE"));
    let list = reply.json();
    let shown = &list["certificates"][0];
    assert_eq!(
        (&shown["name"], &shown["staple"]),
        (&"shop".into(), &"none".into())
    );
    assert_eq!(
        shown["names"],
        serde_json::json!(["shop.test", "*.shop.test", "localhost"])
    );
    assert_eq!(shown["listeners"], serde_json::json!(["a"]));
    assert_eq!(shown["default_for"], serde_json::json!(["a"]));
    assert_eq!(shown["backends"], serde_json::json!(["own"]));
    assert!(shown["days_left"].as_i64().expect("a number") > 1_000);
    assert!(shown["chain"].as_str().expect("text").ends_with("shop.pem"));
}

#[tokio::test]
async fn a_certificate_that_cannot_be_renewed_is_named_and_does_not_hold_up_others() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let server = format!("servers = \"{}\"", backend("one").await);
    let tls = "tls = { certificates = [\"a\", \"b\"], default = \"b\" }";
    let mut text = configuration(tls, &server);
    text += &two_certificates(&authority, &folder);
    let mut running = Administered::run_in(folder, "", &text, 1).await;
    let (chain, _) = authority.sign(&["a.test"]);
    running.folder.write("a.pem", chain);
    let (chain, key) = authority.sign(&["b.test", "new.test"]);
    running.folder.write("b.pem", chain);
    running.folder.write("b.key", key);
    let is_renewed = |list: &serde_json::Value| {
        list["certificates"][1]["names"] == serde_json::json!(["b.test", "new.test"])
    };
    let list = running.eventually("/api/certificates", is_renewed).await;
    let [a, b] = [0, 1].map(|index| &list["certificates"][index]);
    let problem = a["problem"].as_str().expect("text");
    assert!(
        problem.contains("does not belong to the certificate"),
        "{problem}"
    );
    assert!(b["problem"].is_null(), "{b}");
    assert_eq!(a["default_for"], serde_json::json!([]));
    assert_eq!(b["default_for"], serde_json::json!(["a"]));
    let warnings = running.get("/api/status").await.json()["warnings"].to_string();
    assert!(
        warnings.contains("certificate \\\"a\\\" is not renewed"),
        "{warnings}"
    );
    let line = running
        .gate
        .child
        .says("a certificate is not renewed")
        .await;
    assert!(
        line.contains("\"certificate\":\"a\"") && line.contains("ERROR"),
        "{line}"
    );
    for name in ["a.test", "new.test"] {
        let stream = running.gate.connect().await;
        let served = tls::connect(&authority, None, name, stream).await;
        served.expect("it is served");
    }
}

#[tokio::test]
async fn the_interface_speaks_tls() {
    let keys = "tls.certificates = \"shop\"\nhosts = \"gate.shop.test\"";
    let (running, authority) = with_tls(keys).await;
    let stream = tokio::net::TcpStream::connect(running.admin)
        .await
        .expect("it listens");
    let stream = tls::connect(&authority, None, "gate.shop.test", stream)
        .await
        .expect("TLS");
    let request = "GET /readyz HTTP/1.1\r\nhost: gate.shop.test\r\nconnection: close\r\n\r\n";
    assert_eq!(exchange(stream, request.as_bytes()).await.body, "ready\n");
}

#[tokio::test]
async fn the_certificate_of_the_interface_is_shown_with_names_of_all_kinds() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let names = ["gate.test", "127.0.0.1"].map(str::to_owned);
    let mut params = rcgen::CertificateParams::new(names).expect("valid names");
    let uri = "spiffe://mesh/gate".try_into().expect("it is ASCII");
    params.subject_alt_names.push(rcgen::SanType::URI(uri));
    params.not_after = (SystemTime::now() + Duration::from_secs(2 * 86_400 + 3_600)).into();
    let (chain, key) = authority.sign_params(params);
    folder.write("gate.pem", chain);
    folder.write("gate.key", key);
    let certificate =
        "[[certificate]]\nname = \"gate\"\nchain = \"gate.pem\"\nkey = \"gate.key\"\n";
    let text = super::forward_to(backend("one").await) + certificate;
    let keys = "tls.certificates = \"gate\"\nhosts = \"gate.test\"";
    let running = Administered::run_in(folder, keys, &text, 1).await;
    let get = async |path: &str| {
        let stream = tokio::net::TcpStream::connect(running.admin)
            .await
            .expect("it listens");
        let stream = tls::connect(&authority, None, "gate.test", stream).await;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: gate.test\r\nconnection: close\r\n\r\n");
        let answer = exchange(stream.expect("TLS"), request.as_bytes()).await;
        answer.json()
    };
    let list = get("/api/certificates").await;
    let shown = &list["certificates"][0];
    assert_eq!(shown["name"], "gate", "{list}");
    assert_eq!(shown["listeners"], serde_json::json!(["admin interface"]));
    assert_eq!(
        shown["names"],
        serde_json::json!(["gate.test", "127.0.0.1", "spiffe://mesh/gate"])
    );
    let status = get("/api/status").await;
    let warning = serde_json::json!(["certificate \"gate\" ends in 2 days"]);
    assert_eq!(status["warnings"], warning, "{status}");
}

#[tokio::test]
async fn ctl_speaks_tls() {
    let keys = "tls.certificates = \"shop\"\nhosts = \"shop.test\"";
    let (running, authority) = with_tls(keys).await;
    let roots = running.folder.write("ca.pem", authority.pem());
    let roots = roots.to_str().expect("it is UTF-8");
    let ready = async |host: &str| {
        let admin = format!("https://{host}:{}", running.admin.port());
        let mut command = program(["ctl", "ready", "--admin", &admin, "--roots", roots]);
        command.output().await.expect("it starts")
    };
    let output = ready("localhost").await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ready\n");
    // The certificate is for names alone.
    let output = ready("127.0.0.1").await;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        error.contains("https://127.0.0.1") && error.contains("certificate"),
        "{error}"
    );
}
