//! axum over TLS for two host names, with certificates that are replaced while the server runs.
//!
//! ```text
//! cargo run --release --features axum,watch --example axum_tls   # or: -- 127.0.0.1:8443 chain.pem key.pem
//! curl --cacert chain.pem https://localhost:PORT/                # the exact line is printed
//! ```
//!
//! Overwrite the files with another certificate and its key, and send another request. If a certificate does not
//! match its key (one of the two may be newer for a moment), is unreadable or is damaged, the previous one stays
//! in use and the reason is logged. Connections are unaffected.
//!
//! Ctrl-C or SIGTERM shuts the server down. It notifies its clients, keeps accepting for half a second, and
//! lets requests finish for up to 30 s. A second signal force-closes them.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use axum::{Router, extract::ConnectInfo, http::Version, routing::get};
use portcullis::{
    BoxError, Server, ServiceBuilderExt,
    axum::ServerName,
    listener::TcpListener,
    middleware::{
        timeout::IoTimeoutLayer,
        tls::{CertStore, TlsProfile},
    },
    server::Drain,
    service::HttpService,
};
use std::{env, fs, net::SocketAddr, path::PathBuf, process, time::Duration};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().init();
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".into());
    let folder = Folder::new()?;
    let (chain, key) = match (arguments.next(), arguments.next()) {
        (Some(chain), Some(key)) => (chain.into(), key.into()),
        _ => folder.certificate(&["localhost", "127.0.0.1"])?,
    };
    let (blog_chain, blog_key) = folder.certificate(&["blog.localhost"])?;

    // Clients that request neither name, or none because they connect to an address, get the default.
    let store = CertStore::builder()
        .pem_files(&chain, key)
        .as_default()
        .pem_files(&blog_chain, blog_key)
        .build()?;
    let tls = TlsProfile::new(&store)
        .with_alpn(["h2", "http/1.1"])
        .build()?;
    let _watch = store.watch();

    let router = Router::new().route("/", get(hello));
    let stack = ServiceBuilder::new()
        .peer_addr()
        .trace_connections("axum")
        .connection_limit(10_000)
        .layer(tls)
        // Clients must read their response in time. Handlers may be slow, so reads have no timeout.
        .layer(IoTimeoutLayer::new().without_read_timeout())
        .service(HttpService::new(router));

    let listener = TcpListener::bind(&address)?;
    let address = listener.local_addr()?;
    println!("listening on {address}");
    let port = address.port();
    for (chain, name) in [(chain, "localhost"), (blog_chain, "blog.localhost")] {
        let chain = chain.display();
        println!("try: curl --cacert {chain} https://{name}:{port}/");
    }

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
    Ok(())
}

async fn hello(
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    version: Version,
    name: Option<ServerName>,
) -> String {
    let of = match name.as_ref().map(ServerName::as_str) {
        None | Some("localhost") => String::new(),
        Some(name) => format!(" of {name}"),
    };
    format!("hello, {client}{of}, by {version:?}\n")
}

/// Self-signed certificates for this example only, in a folder that its drop removes.
///
/// Every local user can read the keys.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, BoxError> {
        let folder = env::temp_dir().join(format!("portcullis-axum-tls-{}", process::id()));
        fs::create_dir(&folder)?;
        Ok(Self(folder))
    }

    /// The files of a new certificate and its key.
    fn certificate(&self, names: &[&str]) -> Result<(PathBuf, PathBuf), BoxError> {
        let file = |kind| self.0.join(format!("{}.{kind}", names[0]));
        let (chain, key) = (file("pem"), file("key"));
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let own = rcgen::generate_simple_self_signed(names)?;
        fs::write(&chain, own.cert.pem())?;
        fs::write(&key, own.signing_key.serialize_pem())?;
        Ok((chain, key))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
