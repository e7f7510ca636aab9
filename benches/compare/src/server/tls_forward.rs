//! Terminators of TLS by hand, as the programs of the system are used: forward to an echo.

use super::{Entry, Job, Kind, Setup, Start, listen, portcullis::serve, run_on_workers};
use crate::{BoxError, tls::server_config};
use ::portcullis::{Connection, ServiceBuilderExt, middleware::tls::TlsLayer};
use ::tokio_rustls::TlsAcceptor;
use std::{io, net::SocketAddr};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes},
    net::{TcpListener, TcpStream},
    spawn,
};
use tower::ServiceBuilder;

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        name: "tokio-rustls-forward",
        kind: Kind::Forwarder,
        job: Job::TlsEcho,
        start: Start::Here(tokio_rustls),
    },
    Entry {
        name: "portcullis-tls-forward",
        kind: Kind::Forwarder,
        job: Job::TlsEcho,
        start: Start::Here(portcullis),
    },
];

fn tokio_rustls(setup: Setup) -> Result<(), BoxError> {
    let acceptor = TlsAcceptor::from(server_config(&setup.folder)?);
    let backend = setup.backend.ok_or("no backend")?;
    let listener = listen(&setup)?;
    run_on_workers(async move {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _peer) = listener.accept().await?;
            let acceptor = acceptor.clone();
            spawn(async move {
                stream.set_nodelay(true)?;
                forward(acceptor.accept(stream).await?, backend).await
            });
        }
    })
}

fn portcullis(setup: Setup) -> Result<(), BoxError> {
    let tls = TlsLayer::new(server_config(&setup.folder)?);
    let backend = setup.backend.ok_or("no backend")?;
    let stack = ServiceBuilder::new().peer_addr().tls(tls);
    let forward = move |io: Connection<_>| forward(io, backend);
    serve(&setup, stack.service_fn(forward))
}

async fn forward(
    mut io: impl AsyncRead + AsyncWrite + Unpin,
    backend: SocketAddr,
) -> io::Result<()> {
    let mut upstream = TcpStream::connect(backend).await?;
    upstream.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut io, &mut upstream, BUFFER, BUFFER).await?;
    Ok(())
}

/// As nginx and HAProxy have by default.
const BUFFER: usize = 16 * 1024;
