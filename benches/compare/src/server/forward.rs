//! Forwarders by hand in front of an echo on bare tokio, like the programs of the system.

use super::{
    portcullis::{MANY, serve},
    runtime::serve_each,
};
use crate::{
    entry::{Entry, Job, Kind, Setup},
    tls::server_config,
};
use ::portcullis::{
    ServiceBuilderExt,
    middleware::{timeout::IoTimeoutLayer, tls::TlsLayer},
    service::ForwardService,
};
use ::tokio_rustls::TlsAcceptor;
use harness::BoxError;
use std::{io, net::SocketAddr};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional, copy_bidirectional_with_sizes},
    net::TcpStream,
};
use tower::ServiceBuilder;

pub(super) const ENTRIES: &[Entry] = &[
    Entry::new("tokio-forward", Kind::Bare, Job::Echo, bare).forwarding(),
    Entry::new("tokio-rustls-forward", Kind::Bare, Job::TlsEcho, bare_tls).forwarding(),
    Entry::new("tokio-forward-64k", Kind::Bare, Job::Echo, large).forwarding(),
    Entry::new("portcullis-forward", Kind::Ours, Job::Echo, ours).forwarding(),
    Entry::new("portcullis-forward-stack", Kind::Ours, Job::Echo, stack).forwarding(),
    Entry::new("portcullis-tls-forward", Kind::Ours, Job::TlsEcho, ours_tls).forwarding(),
    Entry::new(
        "portcullis-tls-buffered",
        Kind::Ours,
        Job::TlsEcho,
        ours_tls_buffered,
    )
    .forwarding(),
];

fn bare(setup: Setup) -> Result<(), BoxError> {
    let backend = setup.backend.ok_or("no backend")?;
    serve_each(&setup, move |stream| forward(stream, backend))
}

/// With the buffers that suit bulk data, at their price in memory.
fn large(setup: Setup) -> Result<(), BoxError> {
    const BUFFER: usize = 64 * 1024;
    let backend = setup.backend.ok_or("no backend")?;
    serve_each(&setup, move |mut stream| async move {
        let mut upstream = TcpStream::connect(backend).await?;
        upstream.set_nodelay(true)?;
        copy_bidirectional_with_sizes(&mut stream, &mut upstream, BUFFER, BUFFER).await
    })
}

fn bare_tls(setup: Setup) -> Result<(), BoxError> {
    let acceptor = TlsAcceptor::from(server_config(&setup.folder)?);
    let backend = setup.backend.ok_or("no backend")?;
    serve_each(&setup, move |stream| {
        let acceptor = acceptor.clone();
        async move { forward(acceptor.accept(stream).await?, backend).await }
    })
}

fn ours(setup: Setup) -> Result<(), BoxError> {
    let backend = setup.backend.ok_or("no backend")?;
    let stack = ServiceBuilder::new().peer_addr();
    serve(&setup, stack.service(ForwardService::to(backend)))
}

fn stack(setup: Setup) -> Result<(), BoxError> {
    let backend = setup.backend.ok_or("no backend")?;
    let stack = ServiceBuilder::new()
        .peer_addr()
        .trace_connections("compare")
        .connection_limit(MANY)
        .catch_panics()
        // A client may wait for the backend, and the backend for the client.
        .layer(IoTimeoutLayer::new().without_read_timeout());
    serve(&setup, stack.service(ForwardService::to(backend)))
}

fn ours_tls(setup: Setup) -> Result<(), BoxError> {
    let tls = TlsLayer::new(server_config(&setup.folder)?).unbuffered();
    forward_tls(&setup, tls)
}

/// With the default session, which holds buffers.
fn ours_tls_buffered(setup: Setup) -> Result<(), BoxError> {
    let tls = TlsLayer::new(server_config(&setup.folder)?);
    forward_tls(&setup, tls)
}

fn forward_tls(setup: &Setup, tls: TlsLayer) -> Result<(), BoxError> {
    let backend = setup.backend.ok_or("no backend")?;
    let stack = ServiceBuilder::new().peer_addr().layer(tls);
    serve(setup, stack.service(ForwardService::to(backend)))
}

async fn forward(
    mut io: impl AsyncRead + AsyncWrite + Unpin,
    backend: SocketAddr,
) -> io::Result<()> {
    let mut upstream = TcpStream::connect(backend).await?;
    upstream.set_nodelay(true)?;
    copy_bidirectional(&mut io, &mut upstream).await?;
    Ok(())
}
