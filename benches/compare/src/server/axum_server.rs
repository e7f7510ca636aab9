//! axum-server, plain and with rustls.

use super::{
    axum_serve::router,
    runtime::{listen, run_on_workers, stop_signal},
};
use crate::{
    entry::{Entry, Job, Kind, Setup},
    tls::server_config,
};
use ::axum_server::{
    Handle, from_tcp,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use harness::BoxError;
use std::{net::SocketAddr, time::Duration};
use tokio::spawn;

pub(super) const ENTRIES: &[Entry] = &[
    Entry::new("axum-server", Kind::Peer, Job::Http, http),
    Entry::new("axum-server-https", Kind::Peer, Job::Https, https),
    Entry::new("axum-server-drain", Kind::Peer, Job::Http, drain),
];

fn http(setup: Setup) -> Result<(), BoxError> {
    let listener = listen(&setup)?;
    run_on_workers(async move {
        let server = from_tcp(listener)?;
        Ok(server.serve(router().into_make_service()).await?)
    })
}

fn https(setup: Setup) -> Result<(), BoxError> {
    let config = RustlsConfig::from_config(server_config(&setup.folder)?);
    let listener = listen(&setup)?;
    run_on_workers(async move {
        let acceptor = RustlsAcceptor::new(config);
        let server = from_tcp(listener)?.acceptor(acceptor);
        Ok(server.serve(router().into_make_service()).await?)
    })
}

fn drain(setup: Setup) -> Result<(), BoxError> {
    let listener = listen(&setup)?;
    run_on_workers(async move {
        let (stop, handle) = (stop_signal()?, Handle::<SocketAddr>::new());
        let stopped = handle.clone();
        spawn(async move {
            stop.await;
            stopped.graceful_shutdown(Some(Duration::from_secs(30)));
        });
        let server = from_tcp(listener)?.handle(handle);
        Ok(server.serve(router().into_make_service()).await?)
    })
}
