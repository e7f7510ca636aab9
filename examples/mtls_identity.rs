//! Mutual TLS: an axum handler greets clients by the name in their certificate.
//!
//! ```text
//! cargo run --release --features axum --example mtls_identity   # or: -- 127.0.0.1:8443
//! curl --cacert ca.pem --cert client.pem --key client.key https://localhost:PORT/
//! curl --cacert ca.pem https://localhost:PORT/                  # without: no TLS, so no answer at all
//! ```
//!
//! The program prints the exact commands. It creates a certificate authority, a server and a client
//! certificate in a folder that it removes on exit. TLS admits every client with a certificate of that
//! authority. The handler decides what each client may do.
//!
//! Ctrl-C or SIGTERM shuts the server down. Requests may finish for up to 30 s; a second signal force-closes
//! them.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use axum::{
    RequestPartsExt, Router,
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use portcullis::{
    BoxError, Server, ServiceBuilderExt,
    axum::ClientCertificate,
    listener::TcpListener,
    middleware::{
        timeout::IoTimeoutLayer,
        tls::{TlsLayer, provider, rustls},
    },
    service::HttpService,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use std::{env, fs, path::Path, process, sync::Arc};
use tower::ServiceBuilder;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().init();
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".into());
    let folder = env::temp_dir().join(format!("portcullis-mtls-{}", process::id()));
    fs::create_dir(&folder)?;

    let router = Router::new().route("/", get(greet));
    let stack = ServiceBuilder::new()
        .peer_addr()
        .trace_connections("axum")
        .connection_limit(10_000)
        .layer(demo(&folder)?.with_alpn(["h2", "http/1.1"]))
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

async fn greet(Caller(name): Caller) -> String {
    format!("hello, {name}\n")
}

/// The client's name, as the certificate authority signed it.
struct Caller(String);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let certificate = parts.extract::<ClientCertificate>().await;
        let certificate = certificate.map_err(IntoResponse::into_response)?;
        let name = uri_in(certificate.der());
        name.map(Self).ok_or_else(|| {
            (StatusCode::FORBIDDEN, "the certificate contains no name").into_response()
        })
    }
}

/// The first URI among the names in a certificate, where SPIFFE puts its identities.
fn uri_in(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names
        .value
        .general_names
        .iter()
        .find_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        })
}

/// Creates an authority, a server that trusts only that authority, and a client in `folder`.
///
/// For this example only: never store real keys in a folder that other users can read.
fn demo(folder: &Path) -> Result<TlsLayer, BoxError> {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "authority of the example");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    fs::write(folder.join("ca.pem"), authority.pem())?;

    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    let name = SanType::URI("spiffe://example.org/ada".try_into()?);
    params.subject_alt_names.push(name);
    let client = params.signed_by(&key, &authority)?;
    fs::write(folder.join("client.pem"), client.pem())?;
    fs::write(folder.join("client.key"), key.serialize_pem())?;

    let key = KeyPair::generate()?;
    let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let server: CertificateDer<'static> = params.signed_by(&key, &authority)?.into();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());

    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone())?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier.clone())
        .with_single_cert(vec![server], key)?;
    // Clients that resume a session are verified again.
    Ok(TlsLayer::new(Arc::new(config)).with_client_verifier(verifier))
}
