//! tokio's accept loop by hand, and tokio-rustls: the reference with TLS.

use super::{Entry, Job, Kind, Setup, listen, run_on_workers};
use crate::{BoxError, echo::echo, tls::server_config};
use ::tokio_rustls::TlsAcceptor;
use tokio::{net::TcpListener, spawn};

pub(super) const ENTRIES: &[Entry] = &[Entry::new("tokio-rustls", Kind::Bare, Job::TlsEcho, serve)];

fn serve(setup: Setup) -> Result<(), BoxError> {
    let acceptor = TlsAcceptor::from(server_config(&setup.folder)?);
    let listener = listen(&setup)?;
    run_on_workers(async move {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _peer) = listener.accept().await?;
            let acceptor = acceptor.clone();
            spawn(async move { echo(acceptor.accept(stream).await?).await });
        }
    })
}
