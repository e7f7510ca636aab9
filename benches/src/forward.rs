//! Forwarders, all to one backend.

use super::{
    serve::{LIMIT, run},
    variant::Variant,
};
use harness::server::{announce, serve_input};
use portcullis::{
    BoxError, ServiceBuilderExt, middleware::timeout::IoTimeoutLayer, service::ForwardService,
};
use std::net::SocketAddr;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};
use tower::ServiceBuilder;

/// Runs a forwarder to `backend`.
pub(crate) fn start(
    variant: Variant,
    runtime: &Runtime,
    backend: SocketAddr,
) -> Result<(), BoxError> {
    let stack = ServiceBuilder::new().peer_addr();
    let service = ForwardService::to(backend);
    match variant {
        Variant::Forward => run(runtime, stack.service(service)),
        Variant::ForwardStack => run(
            runtime,
            stack
                .trace_connections("bench")
                .connection_limit(LIMIT)
                .catch_panics()
                // A client may wait for the backend, and the backend for the client.
                .layer(IoTimeoutLayer::new().without_read_timeout())
                .service(service),
        ),
        _ => run_bare(runtime, backend),
    }
}

/// The forwarder that `ForwardService` is compared to.
fn run_bare(runtime: &Runtime, backend: SocketAddr) -> Result<(), BoxError> {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    announce(listener.local_addr()?)?;
    let accept = runtime.spawn(async move {
        while let Ok((mut stream, _peer)) = listener.accept().await {
            tokio::spawn(async move {
                stream.set_nodelay(true)?;
                let mut server = TcpStream::connect(backend).await?;
                server.set_nodelay(true)?;
                copy_bidirectional(&mut stream, &mut server).await
            });
        }
    });
    serve_input();
    accept.abort();
    Ok(())
}
