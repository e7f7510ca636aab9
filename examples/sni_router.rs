//! One port for two names: TLS for one is terminated here, that of the other is passed through.
//!
//! ```text
//! cargo run --release --example sni_router             # or: -- 127.0.0.1:8443
//! openssl s_client -quiet -connect 127.0.0.1:PORT -servername here.example     # terminated here
//! openssl s_client -quiet -connect 127.0.0.1:PORT -servername there.example    # passed through
//! ```
//!
//! The server behind is a second listener of this program, with a certificate of its own. Each answer names the
//! certificate's server. Clients of other names are rejected. Ctrl-C or SIGTERM shuts the program down.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use portcullis::{
    BoxError, Connection, Server, ServiceBuilderExt,
    connect::Target,
    listener::TcpListener,
    middleware::{
        peek::PeekLayer,
        route::{Router, Routes},
        tls::TlsLayer,
    },
    service::ForwardService,
};
use std::env;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().init();
    let address = env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:0"))?;
    println!("listening on {}", listener.local_addr()?);
    let behind = TcpListener::bind("127.0.0.1:0")?;
    let server = Target::from(behind.local_addr()?);

    let here = ServiceBuilder::new()
        .layer(self_signed("here.example")?)
        .service_fn(|connection| answer(connection, "terminated here\n"));
    // TLS stays between the client and the server behind.
    let there = ServiceBuilder::new()
        .map_response(drop)
        .service(ForwardService::to(server));
    let routes = Routes::new()
        .with_name("here.example", here)?
        .with_name("there.example", there)?;
    let front = ServiceBuilder::new()
        .peer_addr()
        .trace_connections("front")
        .connection_limit(10_000)
        .layer(PeekLayer::new())
        .service(Router::new(routes));

    let server = ServiceBuilder::new()
        .peer_addr()
        .trace_connections("behind")
        .layer(self_signed("there.example")?)
        .service_fn(|connection| answer(connection, "passed through\n"));

    Server::new()
        .listen(listener, front)
        .listen(behind, server)
        .stop_on_signals()
        .run()
        .await?;
    Ok(())
}

async fn answer(
    mut connection: Connection<impl AsyncRead + AsyncWrite + Unpin>,
    text: &str,
) -> Result<(), BoxError> {
    connection.write_all(text.as_bytes()).await?;
    connection.close().await?;
    Ok(())
}

fn self_signed(name: &str) -> Result<TlsLayer, BoxError> {
    let identity = rcgen::generate_simple_self_signed([name.to_owned()])?;
    let (chain, key) = (identity.cert.pem(), identity.signing_key.serialize_pem());
    Ok(TlsLayer::from_pem(chain.as_bytes(), key.as_bytes())?)
}
