//! Which certificates are trusted: revocation lists, files that cannot be read again, and why clients are rejected.

use super::{Administered, configuration, forward_to};
use crate::{
    gate::{Authority, Folder, backend, line, program},
    tls,
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, SanType,
};
use serde_json::Value;
use std::time::{Duration, SystemTime};
use tokio::io::AsyncWriteExt;

type Identity = (String, String);

/// Writes the certificate `own`, and returns its part of a configuration.
fn own(folder: &Folder, authority: &Authority) -> &'static str {
    let (chain, key) = authority.sign(&["shop.test"]);
    folder.write("own.pem", chain);
    folder.write("own.key", key);
    folder.write("ca.pem", authority.pem());
    "[[certificate]]\nname = \"own\"\nchain = \"own.pem\"\nkey = \"own.key\"\n"
}

/// Listeners with these keys for client certificates, before one backend.
async fn listeners(certificate: &str, clients: &[&str]) -> String {
    let listener = |(number, client): (usize, &&str)| {
        format!(
            "[[listener]]\nname = \"l{number}\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n\
             tls = {{ certificates = \"own\", client = {{ {client} }} }}\n"
        )
    };
    let listeners: String = clients.iter().enumerate().map(listener).collect();
    let server = backend("one").await;
    format!("{listeners}{certificate}[[backend]]\nname = \"b\"\nservers = \"{server}\"\n")
}

/// Whether a listener serves a client with this certificate.
async fn serves(
    running: &Administered,
    listener: usize,
    authority: &Authority,
    identity: Option<Identity>,
) -> bool {
    let stream = tokio::net::TcpStream::connect(running.gate.addresses[listener]).await;
    let stream = stream.expect("it listens");
    let served = async {
        let mut stream = tls::connect(authority, identity, "shop.test", stream).await?;
        line(&mut stream).await
    };
    served.await.is_ok_and(|greeting| greeting == "one")
}

/// The reason of the last connection that has ended, once there is one.
async fn reason(running: &Administered) -> String {
    let has_ended = |it: &Value| it["endings"][0]["reason"].is_string();
    let endings = running.eventually("/api/endings", has_ended).await;
    endings["endings"][0]["reason"]
        .as_str()
        .expect("text")
        .to_owned()
}

async fn warnings(running: &Administered) -> String {
    running.get("/api/status").await.json()["warnings"].to_string()
}

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn a_list_that_is_out_of_date_rejects_clients_and_is_reported_everywhere() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let certificate = own(&folder, &authority);
    let list = |until: SystemTime| authority.revoke_until(until, &[]);
    folder.write("ca.crl", list(SystemTime::now() - 3 * DAY));
    let client = "roots = \"ca.pem\", crl = \"ca.crl\"";
    let accepting = format!("{client}, crl-outdated = \"accept\"");
    let text = listeners(certificate, &[client, &accepting]).await;

    let file = folder.write("check.toml", format!("version = 1\n{text}"));
    let path = file.to_str().expect("it is UTF-8");
    let check = async |arguments: &[&str]| {
        let arguments = ["check", path].into_iter().chain(arguments.iter().copied());
        let output = program(arguments).output().await.expect("it runs");
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    };
    let outdated = "has been out of date for 3 days and 0 hours";
    let (code, printed) = check(&[]).await;
    assert!(
        code == Some(0) && printed.contains("note: revocation list"),
        "{printed}"
    );
    assert!(printed.contains(outdated), "{printed}");
    let (code, printed) = check(&["--at", "now+1d"]).await;
    assert!(code == Some(2) && printed.contains(outdated), "{printed}");

    let running = Administered::run_in(folder, "", &text, 2).await;
    let client = || Some(authority.sign(&["batch.mesh"]));
    assert!(!serves(&running, 0, &authority, client()).await);
    let reason = reason(&running).await;
    assert!(reason.contains("out of date (`tls.client.crl`"), "{reason}");
    assert!(serves(&running, 1, &authority, client()).await);
    let warned = warnings(&running).await;
    for words in [
        "listener \\\"l0\\\": revocation list",
        "listener \\\"l1\\\"",
        outdated,
    ] {
        assert!(warned.contains(words), "{warned}");
    }

    // A new list admits clients, and is not mentioned.
    let path = running
        .folder
        .write("ca.crl", list(SystemTime::now() + 3 * DAY));
    running
        .eventually("/api/status", |it| {
            !it["warnings"].to_string().contains("revocation list")
        })
        .await;
    assert!(serves(&running, 0, &authority, client()).await);
    let file = path.with_file_name("check.toml");
    assert!(file.exists());
    let (code, printed) = check(&["--at", "now+2d"]).await;
    assert_eq!(code, Some(0), "{printed}");
    let (code, printed) = check(&["--at", "now+4d"]).await;
    assert!(
        code == Some(2) && printed.contains("it is out of date in 2 days"),
        "{printed}"
    );
}

#[tokio::test]
async fn roots_that_cannot_be_read_again_are_named_until_they_can() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let text = listeners(own(&folder, &authority), &["roots = \"ca.pem\""]).await;
    let mut running = Administered::run_in(folder, "", &text, 1).await;
    assert_eq!(warnings(&running).await, "[]");
    running.folder.write("ca.pem", "no roots");
    let has_warning = |it: &Value| {
        let warnings = it["warnings"].to_string();
        warnings.contains("listener \\\"l0\\\" keeps what it has read before: ")
            && warnings.contains("ca.pem")
    };
    running.eventually("/api/status", has_warning).await;
    let line = running.gate.child.says("stays in use").await;
    assert!(
        line.contains("\"used_by\":\"listener \\\"l0\\\"\"") && line.contains("ca.pem"),
        "{line}"
    );
    assert!(serves(&running, 0, &authority, Some(authority.sign(&["a"]))).await);
    running.folder.write("ca.pem", authority.pem());
    let is_clean = |it: &Value| it["warnings"].as_array().is_some_and(Vec::is_empty);
    running.eventually("/api/status", is_clean).await;
    let line = running.gate.child.says("files were reloaded").await;
    assert!(
        line.contains("\"used_by\":\"listener \\\"l0\\\"\"") && line.contains("ca.pem"),
        "{line}"
    );
}

#[tokio::test]
async fn a_client_whose_names_are_not_listed_is_rejected_with_these_names_and_the_key() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let client = "roots = \"ca.pem\", allow = \"dns:batch.mesh\"";
    let text = listeners(own(&folder, &authority), &[client]).await;
    let running = Administered::run_in(folder, "", &text, 1).await;
    let mut params = CertificateParams::new(["other.mesh".to_owned()]).expect("a name");
    let uri = "spiffe://mesh/shop".try_into().expect("it is ASCII");
    params.subject_alt_names.push(SanType::URI(uri));
    let other = authority.sign_params(params);
    assert!(!serves(&running, 0, &authority, Some(other)).await);
    assert_eq!(
        reason(&running).await,
        "rejected by certificate_acl: its certificate has no listed name, only dns:other.mesh, uri:spiffe://mesh/shop \
         (`tls.client.allow`)"
    );
}

#[tokio::test]
async fn the_access_line_has_the_identity_and_the_parameters_of_tls() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let text = listeners(own(&folder, &authority), &["roots = \"ca.pem\""]).await;
    let mut running = Administered::run_in(folder, "", &text, 1).await;
    for (subject, expected) in [(None, "spiffe://mesh/shop"), (Some("ada"), "CN=ada")] {
        let mut params = CertificateParams::new([]).expect("no names");
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = subject {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        let uri = "spiffe://mesh/shop".try_into().expect("it is ASCII");
        params.subject_alt_names.push(SanType::URI(uri));
        let identity = authority.sign_params(params);
        assert!(serves(&running, 0, &authority, Some(identity)).await);
        let access = running.gate.child.says("outcome").await;
        let access: Value = serde_json::from_str(&access).expect("it is JSON");
        assert_eq!(access["certificate"], expected, "{access}");
        assert_eq!(access["tls_version"], "1.3");
        assert_eq!(access["cipher"], "TLS_AES_256_GCM_SHA384");
    }
}

/// A ClientHello of this version, for one cipher suite with a static RSA key, with these extensions.
fn old_hello(minor: u8, extensions: &[u8]) -> Vec<u8> {
    let length = 41 + u8::try_from(extensions.len()).expect("they are few");
    let mut hello = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length, 3, minor];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    hello.extend(extensions);
    hello
}

/// That of signature algorithms, with one.
const SIGNATURES: &[u8] = &[0, 8, 0, 13, 0, 4, 0, 2, 4, 3];

#[tokio::test]
async fn the_reason_of_a_client_that_is_too_old_is_in_plain_words_with_the_key() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let certificate = own(&folder, &authority);
    for (minor, extensions, keys, expected) in [
        (
            2,
            &[][..],
            "",
            "TLS 1.1 and older, which is not supported (`tls.min-version`)",
        ),
        (
            3,
            SIGNATURES,
            "tls.min-version = \"1.3\"",
            "TLS 1.3 is required (`tls.min-version`)",
        ),
        (3, SIGNATURES, "", "no key exchange that is supported"),
    ] {
        let keys = format!("tls.certificates = \"own\"\n{keys}");
        let server = format!("servers = \"{}\"", backend("one").await);
        let text = configuration(&keys, &server) + certificate;
        let copy = Folder::new();
        for file in ["own.pem", "own.key"] {
            std::fs::copy(folder.path(file), copy.path(file)).expect("it is there");
        }
        let running = Administered::run_in(copy, "", &text, 1).await;
        let mut client = running.gate.connect().await;
        client
            .write_all(&old_hello(minor, extensions))
            .await
            .expect("it is open");
        let reason = reason(&running).await;
        assert!(
            reason.starts_with("TLS handshake failed: the client"),
            "{reason}"
        );
        assert!(reason.contains(expected), "{reason}");
    }
}

/// A self-signed certificate for authorities, as `openssl req -x509` makes it.
fn self_signed(name: &str) -> Identity {
    let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}

#[tokio::test]
async fn self_signed_certificates_are_trusted_where_they_are_listed_themselves() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let (client, server) = (self_signed("client.mesh"), self_signed("server.mesh"));
    let certificate = own(&folder, &authority);
    folder.write("client.pem", &client.0);
    folder.write("server.pem", &server.0);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = server.clone();
            tokio::spawn(async move {
                let mut stream = tls::accept(&server, stream).await?;
                stream.write_all(b"one\n").await?;
                stream.shutdown().await
            });
        }
    });
    let text = configuration(
        "tls = { certificates = \"own\", client = { roots = \"client.pem\" } }",
        &format!(
            "servers = \"{address}\"\nhealth = \"off\"\ntls = {{ name = \"server.mesh\", roots = \"server.pem\" }}"
        ),
    );
    let running = Administered::run_in(folder, "", &(text + certificate), 1).await;
    assert!(serves(&running, 0, &authority, Some(client)).await);
    assert!(!serves(&running, 0, &authority, Some(self_signed("client.mesh"))).await);
}

#[tokio::test]
async fn the_end_that_comes_first_is_exported_and_that_of_a_replaced_certificate_is_not() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let issue = |file: &str, days: u32| {
        let mut params = CertificateParams::new(["shop.test".to_owned()]).expect("a name");
        params.not_after = (SystemTime::now() + days * DAY).into();
        let (chain, key) = authority.sign_params(params);
        folder.write(&format!("{file}.pem"), chain);
        folder.write(&format!("{file}.key"), key);
    };
    issue("own", 30);
    issue("soon", 2);
    issue("new", 60);
    let certificates = ["own", "soon", "new"].map(|name| {
        format!(
            "[[certificate]]\nname = \"{name}\"\nchain = \"{name}.pem\"\nkey = \"{name}.key\"\n"
        )
    });
    let first =
        forward_to(backend("one").await).replacen('\n', "\ntls.certificates = \"soon\"\n", 1);
    let second = "[[listener]]\nname = \"c\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n\
                  tls.certificates = \"own\"\n";
    let text = first + second + &certificates.concat();
    let mut running = Administered::run_in(folder, "", &text, 2).await;
    let stream = running.gate.connect().await;
    let mut open = tls::connect(&authority, None, "shop.test", stream)
        .await
        .expect("TLS");
    assert_eq!(line(&mut open).await.expect("the greeting"), "one");
    let days_left = async |running: &Administered| {
        let text = running.get("/metrics").await.body;
        let key = "portcullis_certificate_not_after_seconds{name=\"shop.test\"} ";
        let value = text.lines().find_map(|line| line.strip_prefix(key));
        let end: f64 = value.expect("it is exported").parse().expect("a number");
        let now = SystemTime::UNIX_EPOCH
            .elapsed()
            .expect("after 1970")
            .as_secs_f64();
        ((end - now) / DAY.as_secs_f64()).round()
    };
    assert_eq!(days_left(&running).await, 2.0);
    let file = running.folder.path("gate.toml");
    let text = std::fs::read_to_string(&file).expect("it was written");
    running.folder.write(
        "gate.toml",
        text.replace("tls.certificates = \"soon\"", "tls.certificates = \"new\""),
    );
    running.gate.child.signal("HUP").await;
    running.gate.child.says("was reloaded").await;
    // The open connection does not keep its certificate alive.
    assert_eq!(days_left(&running).await, 30.0);
    open.write_all(b"still here\n").await.expect("it is open");
    assert_eq!(line(&mut open).await.expect("an echo"), "still here");
}
