//! portcullis with one TLS configuration or another.

use super::portcullis::{ours, serve};
use crate::{
    echo::echo,
    entry::{Entry, Job, Setup},
    tls,
};
use ::portcullis::{Connection, ServiceBuilderExt, middleware::tls::TlsLayer};
use harness::BoxError;
use std::sync::Arc;
use tokio_rustls::rustls::{
    ServerConfig,
    crypto::{aws_lc_rs::Ticketer, ring},
};
use tower::ServiceBuilder;

pub(super) const ENTRIES: &[Entry] = &[
    ours("tls-cache", Job::TlsEcho, |setup| {
        let config = tls::config(&setup.folder, tls::provider())?;
        serve_with(setup, config)
    }),
    ours("tls-one-ticket", Job::TlsEcho, |setup| tickets(setup, 1)),
    ours("tls-no-tickets", Job::TlsEcho, |setup| tickets(setup, 0)),
    ours("tls-stateless", Job::TlsEcho, |setup| {
        let mut config = tls::config(&setup.folder, tls::provider())?;
        config.ticketer = Ticketer::new()?;
        serve_with(setup, config)
    }),
    ours("tls-ring", Job::TlsEcho, |setup| {
        let config = tls::config(&setup.folder, ring::default_provider())?;
        serve_with(setup, config)
    }),
];

fn tickets(setup: Setup, count: usize) -> Result<(), BoxError> {
    let mut config = tls::config(&setup.folder, tls::provider())?;
    config.send_tls13_tickets = count;
    serve_with(setup, config)
}

fn serve_with(setup: Setup, config: ServerConfig) -> Result<(), BoxError> {
    let tls = TlsLayer::new(Arc::new(config));
    let stack = ServiceBuilder::new().peer_addr().layer(tls);
    serve(&setup, stack.service_fn(|io: Connection<_>| echo(io)))
}
