//! Mutual TLS: an axum handler greets clients by the name in their certificate, another has stricter rules.
//!
//! ```text
//! cargo run --release --features axum --example mtls_identity   # or: -- 127.0.0.1:8443
//! curl --cacert ca.pem --cert client.pem --key client.key https://localhost:PORT/
//! curl --cacert ca.pem https://localhost:PORT/                  # the handshake fails without a certificate
//! ```
//!
//! The program prints the exact commands. It creates a certificate authority, a server and a client
//! certificate in a folder that it removes on exit. TLS admits every client with a certificate of that
//! authority. The handler decides what each client may do.
//!
//! Ctrl-C or SIGTERM shuts the server down. Requests may finish for up to 30 s; a second signal force-closes
//! them.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use axum::{Router, http::StatusCode, routing::get};
use portcullis::{
    BoxError, Server, ServiceBuilderExt,
    axum::ClientCertificate,
    listener::TcpListener,
    middleware::{
        timeout::IoTimeoutLayer,
        tls::{CertStore, ClientAuth, TlsLayer, TlsProfile, Trust},
    },
    service::HttpService,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use std::{env, fs, path::Path, process};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().init();
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".into());
    let folder = env::temp_dir().join(format!("portcullis-mtls-{}", process::id()));
    fs::create_dir(&folder)?;
    create_certificates(&folder)?;

    let router = Router::new()
        .route("/", get(greet))
        .route("/admin", get(administer));
    let stack = ServiceBuilder::new()
        .peer_addr()
        .trace_connections("axum")
        .connection_limit(10_000)
        .layer(tls(&folder)?)
        .layer(IoTimeoutLayer::new().without_read_timeout())
        .service(HttpService::new(router));

    let listener = TcpListener::bind(&address)?;
    let address = listener.local_addr()?;
    println!("listening on {address}");
    println!(
        "try: curl --cacert {0}/ca.pem --cert {0}/client.pem --key {0}/client.key https://localhost:{1}/",
        folder.display(),
        address.port()
    );

    let server = Server::new().listen(listener, stack).stop_on_signals();
    let report = server.run().await?;
    println!(
        "ended: {} finished, {} force-closed",
        report.ended(),
        report.force_closed().len()
    );
    fs::remove_dir_all(folder)?;
    Ok(())
}

/// Clients must present a certificate of the authority in `ca.pem`.
///
/// With `store.watch()` it would be replaced at run time, as in the example `axum_tls`.
fn tls(folder: &Path) -> Result<TlsLayer, BoxError> {
    let store = CertStore::builder()
        .pem_files(folder.join("server.pem"), folder.join("server.key"))
        .as_default()
        .build()?;
    let trust = Trust::pem_file(folder.join("ca.pem"));
    let profile = TlsProfile::new(&store).with_client_auth(ClientAuth::Required(trust));
    Ok(profile.with_alpn(["h2", "http/1.1"]).build()?)
}

/// The name is a URI, as SPIFFE puts its identities.
async fn greet(client: ClientCertificate) -> Result<String, StatusCode> {
    let name = client.facts().and_then(|facts| facts.uris().next());
    let name = name.ok_or(StatusCode::FORBIDDEN)?;
    Ok(format!("hello, {name}\n"))
}

/// Only one of the clients may come here.
async fn administer(client: ClientCertificate) -> Result<&'static str, StatusCode> {
    let mut uris = client.facts().into_iter().flat_map(|facts| facts.uris());
    let is_admin = uris.any(|uri| uri == "spiffe://example.org/admin");
    is_admin.then_some("welcome\n").ok_or(StatusCode::FORBIDDEN)
}

/// Creates an authority, and certificates for a server and a client, in `folder`.
///
/// For this example only: never store real keys in a folder that other users can read.
fn create_certificates(folder: &Path) -> Result<(), BoxError> {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "authority of the example");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    fs::write(folder.join("ca.pem"), authority.pem())?;

    let mut client = CertificateParams::default();
    let name = SanType::URI("spiffe://example.org/ada".try_into()?);
    client.subject_alt_names.push(name);
    let server = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    for (file, params) in [("client", client), ("server", server)] {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &authority)?;
        fs::write(folder.join(format!("{file}.pem")), certificate.pem())?;
        fs::write(folder.join(format!("{file}.key")), key.serialize_pem())?;
    }
    Ok(())
}
