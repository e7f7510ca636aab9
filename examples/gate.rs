//! A gate in front of a service that may know nothing of TLS, PROXY headers or limits.
//!
//! ```text
//! redis-server --port 6380
//! cargo run --release --features proxy-protocol --example gate -- 127.0.0.1:0 127.0.0.1:6380
//! redis-benchmark -p PORT
//! ```
//!
//! Arguments: where to listen, the servers behind it, separated by commas, and any of these.
//!
//! | argument | effect |
//! |---|---|
//! | `tls` | terminates TLS with a certificate for `localhost`, whose file is printed |
//! | `alpn=h2` | selects this protocol if the client offers any |
//! | `accept-proxy` | requires a PROXY header of the client; only load balancers on this machine may connect |
//! | `buffers=BYTES` | limits the kernel's buffers, each of the four per connection |
//! | `send-proxy-v1`, `send-proxy-v2` | names the client to the servers in a PROXY header |
//!
//! Ctrl-C or SIGTERM shuts the program down. Connections may finish for up to 30 s; a second signal force-closes
//! them.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use portcullis::{
    BoxError, Server, ServiceBuilderExt,
    connect::Connector,
    listener::TcpOptions,
    middleware::{
        proxy_protocol::{ProxyHeaderEncoder, ProxyProtocolLayer},
        timeout::IoTimeoutLayer,
        tls::TlsLayer,
    },
    service::ForwardService,
    upstream::{self, Pool},
};
use std::{env, fs, path::PathBuf, process};
use tower::ServiceBuilder;

const USAGE: &str = "usage: gate LISTEN SERVER,.. [tls] [alpn=NAME] [accept-proxy] \
                     [send-proxy-v1 | send-proxy-v2] [buffers=BYTES]";

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().init();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, servers, options @ ..] = &*arguments else {
        return Err(USAGE.into());
    };
    let is_known = |option: &String| {
        matches!(
            &**option,
            "tls" | "accept-proxy" | "send-proxy-v1" | "send-proxy-v2"
        ) || option.starts_with("alpn=")
            || option.starts_with("buffers=")
    };
    if let Some(unknown) = options.iter().find(|option| !is_known(option)) {
        return Err(format!("unknown option {unknown:?}\n{USAGE}").into());
    }
    let is_set = |name: &str| options.iter().any(|option| option == name);
    let values = |name: &'static str| options.iter().filter_map(move |it| it.strip_prefix(name));
    let alpn: Vec<_> = values("alpn=").collect();
    let buffers = values("buffers=").next().map(str::parse::<usize>);
    let buffers = buffers.transpose();
    let buffers = buffers.map_err(|error| format!("buffers= takes a number of bytes: {error}"))?;

    let listener = TcpOptions::new()
        .with_recv_buffer_size(buffers)
        .with_send_buffer_size(buffers)
        .bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    let header = match (is_set("send-proxy-v1"), is_set("send-proxy-v2")) {
        (true, _) => Some(ProxyHeaderEncoder::v1()),
        (_, true) => Some(ProxyHeaderEncoder::v2()),
        _ => None,
    };
    let servers = servers.split(',').map(|server| {
        let server: upstream::Server = server.parse()?;
        Ok(server.with_proxy_header(header))
    });
    let servers: Vec<_> = servers.collect::<Result<_, BoxError>>()?;
    let connector = Connector::new()
        .with_recv_buffer_size(buffers)
        .with_send_buffer_size(buffers);
    let pool = Pool::builder().with_connector(connector).build(servers);
    let forward = ForwardService::new(pool);

    let front = ServiceBuilder::new()
        .peer_addr()
        .trace_connections("gate")
        .connection_limit(10_000)
        .catch_panics()
        .option_layer(match is_set("accept-proxy") {
            true => Some(ProxyProtocolLayer::new("127.0.0.0/8,::1".parse()?)),
            false => None,
        });
    // A client may wait for the backend, and the backend for the client.
    let timeouts = IoTimeoutLayer::new().without_read_timeout();
    let server = match is_set("tls") {
        false => Server::new().listen(listener, front.layer(timeouts).service(forward)),
        true => {
            let tls = self_signed()?.with_alpn(alpn).unbuffered();
            Server::new().listen(listener, front.layer(tls).layer(timeouts).service(forward))
        }
    };
    server.stop_on_signals().run().await?;
    Ok(())
}

/// Writes the certificate to a file, for clients to trust.
fn self_signed() -> Result<TlsLayer, BoxError> {
    let names = ["localhost", "127.0.0.1"].map(str::to_owned);
    let identity = rcgen::generate_simple_self_signed(names)?;
    let (chain, key) = (identity.cert.pem(), identity.signing_key.serialize_pem());
    let file: PathBuf = env::temp_dir().join(format!("gate-{}.pem", process::id()));
    fs::write(&file, &chain)?;
    println!("try: curl --cacert {}", file.display());
    Ok(TlsLayer::from_pem(chain.as_bytes(), key.as_bytes())?)
}
