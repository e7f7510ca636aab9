//! axum over TLS, with HTTP/2 and HTTP/1.1, and a certificate that is replaced while the server runs.
//!
//! ```text
//! cargo run --release --features axum --example axum_tls   # or: -- 127.0.0.1:8443 chain.pem key.pem
//! curl --cacert chain.pem https://localhost:PORT/          # the exact line is printed
//! ```
//!
//! Overwrite the files with another certificate and its key, and send another request. The files are checked
//! once a second. If a certificate does not match its key (one of the two may be newer for a moment), is
//! unreadable or is damaged, the previous one stays in use and the reason is logged. Connections are
//! unaffected.
//!
//! Ctrl-C or SIGTERM shuts the server down. It notifies its clients, keeps accepting for half a second, and
//! lets requests finish for up to 30 s. A second signal force-closes them.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use axum::{Router, extract::ConnectInfo, http::Version, routing::get};
use portcullis::{
    BoxError, Server, ServiceBuilderExt,
    listener::TcpListener,
    middleware::{
        timeout::IoTimeoutLayer,
        tls::{TlsConfigError, TlsLayer, load, provider, rustls},
    },
    server::Drain,
    service::HttpService,
};
use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{env, fs, io, net::SocketAddr, path::PathBuf, process, sync::Arc, time::Duration};
use tokio::{sync::watch, time::interval};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().init();
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".into());
    let files = match (arguments.next(), arguments.next()) {
        (Some(chain), Some(key)) => Files::new(chain, key),
        _ => Files::of_my_own()?,
    };

    let pem = files.read().await?;
    let certificate = Arc::new(Certificate(watch::Sender::new(pem.check(&files)?)));
    tokio::spawn(replace(certificate.clone(), files.clone(), pem));
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificate);

    let router = Router::new().route("/", get(hello));
    let stack = ServiceBuilder::new()
        .peer_addr()
        .trace_connections("axum")
        .connection_limit(10_000)
        .layer(TlsLayer::new(Arc::new(config)).with_alpn(["h2", "http/1.1"]))
        // Clients must read their response in time. Handlers may be slow, so reads have no timeout.
        .layer(IoTimeoutLayer::new().without_read_timeout())
        .service(HttpService::new(router));

    let listener = TcpListener::bind(&address)?;
    let address = listener.local_addr()?;
    println!("listening on {address}");
    let (chain, port) = (files.chain.display(), address.port());
    println!("try: curl --cacert {chain} https://localhost:{port}/");

    let report = Server::new()
        .listen(listener, stack)
        // As long as the load balancer in front needs to notice, which is usually seconds.
        .drain(Drain::new().with_notice_period(Duration::from_millis(500)))
        .stop_on_signals()
        .run()
        .await?;
    println!(
        "ended: {} finished, {} force-closed",
        report.ended(),
        report.force_closed().len()
    );
    files.remove()
}

async fn hello(ConnectInfo(client): ConnectInfo<SocketAddr>, version: Version) -> String {
    format!("hello, {client}, by {version:?}\n")
}

/// The certificate in use. Each handshake takes the current one.
#[derive(Debug)]
struct Certificate(watch::Sender<Arc<CertifiedKey>>);

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.borrow().clone())
    }
}

/// Checks the files once a second and installs a new valid certificate.
async fn replace(certificate: Arc<Certificate>, files: Files, mut current: Pem) {
    let mut seconds = interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        // The file may be missing for a moment.
        let Ok(pem) = files.read().await else {
            continue;
        };
        if pem == current {
            continue;
        }
        match pem.check(&files) {
            Ok(fresh) => {
                certificate.0.send_replace(fresh);
                println!("the certificate was replaced");
            }
            Err(error) => println!("the old certificate stays in use, the new {error}"),
        }
        current = pem;
    }
}

/// What the files contain.
#[derive(PartialEq)]
struct Pem {
    chain: Vec<u8>,
    key: Vec<u8>,
}

impl Pem {
    /// A usable certificate with its whole chain and the matching key.
    fn check(&self, files: &Files) -> Result<Arc<CertifiedKey>, TlsConfigError> {
        let checked = load::certified_key(&self.chain, &self.key);
        checked
            .map(Arc::new)
            .map_err(|error| error.in_files(&files.chain, &files.key))
    }
}

#[derive(Clone)]
struct Files {
    chain: PathBuf,
    key: PathBuf,
    /// The folder that this program creates.
    folder: Option<PathBuf>,
}

impl Files {
    fn new(chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            chain: chain.into(),
            key: key.into(),
            folder: None,
        }
    }

    /// A self-signed certificate for this example only, whose key every local user can read.
    fn of_my_own() -> Result<Self, BoxError> {
        let folder = env::temp_dir().join(format!("portcullis-axum-tls-{}", process::id()));
        fs::create_dir(&folder)?;
        let mut files = Self::new(folder.join("chain.pem"), folder.join("key.pem"));
        files.folder = Some(folder);
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let own = rcgen::generate_simple_self_signed(names)?;
        fs::write(&files.chain, own.cert.pem())?;
        fs::write(&files.key, own.signing_key.serialize_pem())?;
        Ok(files)
    }

    async fn read(&self) -> io::Result<Pem> {
        let chain = tokio::fs::read(&self.chain).await?;
        let key = tokio::fs::read(&self.key).await?;
        Ok(Pem { chain, key })
    }

    fn remove(&self) -> Result<(), BoxError> {
        match &self.folder {
            Some(folder) => Ok(fs::remove_dir_all(folder)?),
            None => Ok(()),
        }
    }
}
