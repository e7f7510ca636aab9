//! The recommended stack, written by hand: every guard of a public server, in the order in which it helps most.
//!
//! ```text
//! cargo run --release --features http,metrics,proxy-protocol --example full_stack     # or: -- 127.0.0.1:8443
//! curl --insecure https://127.0.0.1:PORT/                        # "hello" and your address
//! curl --insecure --haproxy-protocol https://127.0.0.1:PORT/     # curl acts as the load balancer
//! openssl s_client -connect 127.0.0.1:PORT -tls1_2               # a handshake, and the end: an old version
//! printf 'PROXY TCP4 203.0.113.9 127.0.0.1 1 443\r\n' | nc 127.0.0.1 PORT     # a denied network: closed
//! ```
//!
//! The header is optional here, so that one port serves a load balancer and direct clients on this machine. The 21st
//! connection of a client is closed, and so is a client that connects more often than 100 times per second for a
//! while. [`portcullis::stack`] explains the order, and builds the same stack from options.
//!
//! Ctrl-C or SIGTERM shuts the program down.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use http::{Request, Response};
use portcullis::{
    BoxError, ConnectionInfo, Server, ServiceBuilderExt,
    listener::TcpListener,
    middleware::{
        access::{Acl, AclLayer, Subject, Verdict},
        limit::{Bandwidth, BandwidthLayer, ClientIp, KeyedLimitLayer, Rate, RateLimitLayer},
        observe::MetricsLayer,
        proxy_protocol::ProxyProtocolLayer,
        timeout::{ConnectionTimeoutLayer, IoTimeoutLayer},
        tls::TlsLayer,
    },
    service::{HttpService, http::RequestBody},
};
use std::{env, time::Duration};
use tower::{ServiceBuilder, service_fn};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().init();
    let address = env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    println!("listening on {address}");
    println!("try: curl --insecure https://{address}/");

    let balancers = Acl::new().allow("127.0.0.0/8".parse()?);
    let clients = AclLayer::new(Acl::new().deny("203.0.113.0/24".parse()?));
    let timeouts = ConnectionTimeoutLayer::new()
        .with_first_byte_timeout(Duration::from_secs(10))
        .with_idle_timeout(Duration::from_secs(300))
        .with_max_lifetime(Duration::from_secs(3600))
        .with_lifetime_jitter(Duration::from_secs(60));

    let stack = ServiceBuilder::new()
        .peer_addr()
        // What the operator sees: everything inside.
        .trace_connections("web")
        .layer(MetricsLayer::new("web")) // with a recorder, such as metrics-exporter-prometheus
        .catch_panics()
        // Before any work: how many, and from whom.
        .connection_limit(10_000)
        .layer(AclLayer::new(balancers).on(Subject::Socket))
        // The client's address, and the guards that need it.
        .layer(ProxyProtocolLayer::new("127.0.0.0/8".parse()?).with_optional_header())
        .layer(clients)
        .layer(RateLimitLayer::new(ClientIp::new(), Rate::per_second(100)))
        .layer(KeyedLimitLayer::new(ClientIp::new(), 20))
        // Outside of everything that waits for the client.
        .layer(timeouts)
        // The expensive step, for clients that all guards have admitted.
        .layer(self_signed()?.with_alpn(["h2", "http/1.1"]))
        .layer(AclLayer::predicate(has_current_tls))
        // The bytes of the service.
        .layer(IoTimeoutLayer::new().without_read_timeout())
        .layer(BandwidthLayer::new().with_write(Bandwidth::per_second(10 << 20)))
        .service(HttpService::new(service_fn(hello)));

    let server = Server::new().listen(listener, stack).stop_on_signals();
    server.run().await?;
    Ok(())
}

/// A rule on what the handshake has shown. The example `mtls_identity` requests certificates of clients.
fn has_current_tls(info: &ConnectionInfo) -> Verdict {
    match info.tls().and_then(|tls| tls.version) {
        Some("TLSv1_3") => Verdict::Admit,
        _ => Verdict::Deny("old TLS"),
    }
}

async fn hello(request: Request<RequestBody>) -> Result<Response<String>, BoxError> {
    let info: &ConnectionInfo = request.extensions().get().ok_or("no connection")?;
    Ok(Response::new(format!("hello {}\n", info.peer())))
}

fn self_signed() -> Result<TlsLayer, BoxError> {
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let (chain, key) = (identity.cert.pem(), identity.signing_key.serialize_pem());
    Ok(TlsLayer::from_pem(chain.as_bytes(), key.as_bytes())?)
}
