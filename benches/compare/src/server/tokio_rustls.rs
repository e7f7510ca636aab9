//! tokio's accept loop by hand, and tokio-rustls: the reference with TLS.

use super::runtime::serve_each;
use crate::{
    echo::echo,
    entry::{Entry, Job, Kind, Setup},
    tls::server_config,
};
use ::tokio_rustls::TlsAcceptor;
use harness::BoxError;

pub(super) const ENTRIES: &[Entry] = &[Entry::new("tokio-rustls", Kind::Bare, Job::TlsEcho, serve)];

fn serve(setup: Setup) -> Result<(), BoxError> {
    let acceptor = TlsAcceptor::from(server_config(&setup.folder)?);
    serve_each(&setup, move |stream| {
        let acceptor = acceptor.clone();
        async move { echo(acceptor.accept(stream).await?).await }
    })
}
