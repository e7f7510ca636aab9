//! `listener.tls`, what certificates are stapled, and how routes refuse.

use super::{PATIENCE, Running, greeting};
use crate::{
    configurations::ocsp_response,
    gate::{Authority, Folder, backend, line},
    tls::{self, Trusting, client, server_name},
};
use portcullis::middleware::tls::{
    provider,
    rustls::{
        ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion,
        pki_types::{CertificateDer, pem::PemObject},
        version::{TLS12, TLS13},
    },
};
use rcgen::{CertificateParams, SerialNumber};
use std::{io, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Listeners with these keys, which may use the certificates `a` of `a.test` and `b` of `b.test`.
async fn with_certificates(folder: Folder, keys: &[&str]) -> (Running, Authority) {
    let authority = Authority::new();
    let mut certificates = String::new();
    for name in ["a", "b"] {
        let mut params = CertificateParams::new([format!("{name}.test")]).expect("a name");
        params.serial_number = Some(SerialNumber::from(42));
        let (chain, key) = authority.sign_params(params);
        folder.write(&format!("{name}.pem"), chain);
        folder.write(&format!("{name}.key"), key);
        certificates += &format!(
            "[[certificate]]\nname = \"{name}\"\nchain = \"{name}.pem\"\nkey = \"{name}.key\"\n"
        );
    }
    folder.write("a.ocsp", ocsp_response());
    let certificates = certificates.replace("a.key\"\n", "a.key\"\nocsp = \"a.ocsp\"\n");
    let backend = format!("servers = \"{}\"", backend("one").await);
    let running = Running::in_folder(folder, &certificates, keys, &backend).await;
    (running, authority)
}

/// A client that trusts `authority` and speaks these versions.
fn speaking(authority: &Authority, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("a certificate");
    roots.add(root).expect("it is usable");
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .expect("the provider has them")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

async fn connect(
    running: &Running,
    listener: usize,
    config: impl Into<Arc<ClientConfig>>,
    name: &str,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = running.connect_to(listener).await;
    let connector = TlsConnector::from(config.into());
    let connected = timeout(PATIENCE, connector.connect(server_name(name), stream)).await;
    connected.expect("neither a handshake nor an alert")
}

#[tokio::test]
async fn the_listed_certificates_are_shown_by_name_and_a_single_one_to_all() {
    let keys = [
        "tls.certificates = [\"a\", \"b\"]",
        "tls.certificates = \"b\"",
    ];
    let (running, authority) = with_certificates(Folder::new(), &keys).await;
    for (listener, name, is_valid) in [
        (0, "a.test", true),
        (0, "b.test", true),
        (1, "a.test", false),
        (1, "b.test", true),
    ] {
        let connected = connect(&running, listener, client(&authority, None), name).await;
        assert_eq!(connected.is_ok(), is_valid, "{listener} {name}");
    }
    let any = tls::connect_to_any("c.test", running.connect_to(1).await).await;
    any.expect("it gets the only certificate");
}

#[tokio::test]
async fn clients_get_a_protocol_that_is_offered() {
    let keys = [
        "tls = { certificates = \"a\", alpn = [\"h2\", \"http/1.1\"] }",
        "tls = { certificates = \"a\" }",
    ];
    let (running, authority) = with_certificates(Folder::new(), &keys).await;
    for (listener, expected) in [(0, Some(&b"http/1.1"[..])), (1, None)] {
        let mut config = ClientConfig::clone(&client(&authority, None));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let connected = connect(&running, listener, config, "a.test").await;
        let connected = connected.expect("a handshake");
        assert_eq!(connected.get_ref().1.alpn_protocol(), expected);
    }
}

#[tokio::test]
async fn clients_of_an_older_version_are_rejected() {
    let keys = ["1.2", "1.3"]
        .map(|version| format!("tls = {{ certificates = \"a\", min-version = \"{version}\" }}"));
    let keys = keys.each_ref().map(|keys| &**keys);
    let (running, authority) = with_certificates(Folder::new(), &keys).await;
    for (listener, version, is_served) in [
        (0, &TLS12, true),
        (0, &TLS13, true),
        (1, &TLS12, false),
        (1, &TLS13, true),
    ] {
        let config = speaking(&authority, &[version]);
        let connected = connect(&running, listener, config, "a.test").await;
        assert_eq!(connected.is_ok(), is_served, "{listener} {version:?}");
    }
}

#[tokio::test]
async fn sessions_are_resumed_wherever_the_keys_of_tickets_are_the_same() {
    let folder = Folder::new();
    folder.write("tickets", [7; 48]);
    let shared = "tls = { certificates = \"a\", tickets.keys-file = \"tickets\" }";
    let keys = [shared, shared, "tls.certificates = \"a\""];
    let (running, authority) = with_certificates(folder, &keys).await;
    let config = client(&authority, None);
    let is_resumed = async |listener: usize| {
        let mut stream = connect(&running, listener, config.clone(), "a.test")
            .await
            .expect("a handshake");
        // Tickets come before it.
        assert_eq!(line(&mut stream).await.expect("a greeting"), "one");
        stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
    };
    assert!(!is_resumed(0).await);
    assert!(is_resumed(1).await);
    assert!(!is_resumed(2).await);
}

#[tokio::test]
async fn the_response_of_an_authority_is_stapled() {
    let keys = ["tls.certificates = [\"a\", \"b\"]"];
    let (running, _) = with_certificates(Folder::new(), &keys).await;
    for (name, expected) in [("a.test", ocsp_response()), ("b.test", Vec::new())] {
        let trusting = Arc::new(Trusting::default());
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .dangerous()
            .with_custom_certificate_verifier(trusting.clone())
            .with_no_client_auth();
        let connected = connect(&running, 0, config, name).await;
        connected.expect("a handshake");
        assert_eq!(
            *trusting.stapled.lock().expect("no panic"),
            expected,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_route_without_a_backend_closes_or_resets() {
    for (refuse, is_reset) in [("close", false), ("reset", true)] {
        let route = |name: &str, action: &str| format!("[[listener.route]]\n{name}{action}\n");
        let keys = route("protocol = \"http\"\n", "backend = \"b\"")
            + &route("protocol = \"ssh\"\n", &format!("refuse = \"{refuse}\""));
        let running = Running::listener(&keys).await;
        let send = async |bytes: &[u8]| {
            let mut stream = running.connect().await;
            stream.write_all(bytes).await.expect("it is open");
            stream
        };
        let mut served = send(b"GET / HTTP/1.1\r\n").await;
        assert_eq!(greeting(&mut served).await.expect("a greeting"), "one");
        let mut refused = send(b"SSH-2.0-client\r\n").await;
        let end = timeout(PATIENCE, refused.read(&mut [0])).await;
        match end.expect("it is not refused") {
            Ok(read) => assert!(read == 0 && !is_reset, "{refuse}"),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                assert!(is_reset, "{refuse}");
            }
        }
    }
}
