//! HTTP at the end of a stack of portcullis.

use super::{
    hyper_util::hello,
    portcullis::{MANY, ours, serve},
};
use crate::{
    entry::{Entry, Job, Setup},
    tls::server_config,
};
use ::portcullis::{
    ServiceBuilderExt,
    middleware::{observe::ByteCounter, timeout::IoTimeoutLayer, tls::TlsLayer},
    service::HttpService,
};
use harness::BoxError;
use std::time::Duration;
use tower::{ServiceBuilder, service_fn};

pub(super) const ENTRIES: &[Entry] = &[
    ours("portcullis-http", Job::Http, http),
    ours("portcullis-http-stack", Job::Http, stack),
    #[cfg(feature = "axum")]
    ours("portcullis-http-axum", Job::Http, axum),
    #[cfg(feature = "axum")]
    ours("portcullis-http-axum-stack", Job::Http, axum_stack),
    ours("portcullis-http-drain", Job::Http, http),
    ours("portcullis-http-drain-at-once", Job::Http, drain_at_once),
    ours("portcullis-https", Job::Https, https),
    #[cfg(feature = "axum")]
    ours("portcullis-https-axum", Job::Https, https_axum),
];

fn http(setup: Setup) -> Result<(), BoxError> {
    let stack = ServiceBuilder::new().peer_addr();
    serve(&setup, stack.service(HttpService::new(service_fn(hello))))
}

/// The recommended stack, for HTTP without a bound on reads.
macro_rules! recommended {
    () => {
        ServiceBuilder::new()
            .peer_addr()
            .trace_connections("compare")
            .connection_limit(MANY)
            .catch_panics()
            .count_bytes(ByteCounter::new())
            .layer(IoTimeoutLayer::new().without_read_timeout())
    };
}

fn stack(setup: Setup) -> Result<(), BoxError> {
    let hello = HttpService::new(service_fn(hello));
    serve(&setup, recommended!().service(hello))
}

/// With axum's router, as `axum::serve` has it.
#[cfg(feature = "axum")]
fn axum(setup: Setup) -> Result<(), BoxError> {
    let stack = ServiceBuilder::new().peer_addr();
    serve(
        &setup,
        stack.service(HttpService::new(super::axum_serve::router())),
    )
}

#[cfg(feature = "axum")]
fn axum_stack(setup: Setup) -> Result<(), BoxError> {
    let router = HttpService::new(super::axum_serve::router());
    serve(&setup, recommended!().service(router))
}

/// Without the idle grace period, which the other servers do not have.
fn drain_at_once(setup: Setup) -> Result<(), BoxError> {
    let service = HttpService::new(service_fn(hello)).with_idle_grace_period(Duration::ZERO);
    serve(&setup, ServiceBuilder::new().peer_addr().service(service))
}

fn https(setup: Setup) -> Result<(), BoxError> {
    let tls = TlsLayer::new(server_config(&setup.folder)?);
    let stack = ServiceBuilder::new().peer_addr().layer(tls);
    serve(&setup, stack.service(HttpService::new(service_fn(hello))))
}

#[cfg(feature = "axum")]
fn https_axum(setup: Setup) -> Result<(), BoxError> {
    let tls = TlsLayer::new(server_config(&setup.folder)?);
    let stack = ServiceBuilder::new().peer_addr().layer(tls);
    serve(
        &setup,
        stack.service(HttpService::new(super::axum_serve::router())),
    )
}
