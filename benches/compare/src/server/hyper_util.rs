//! hyper-util's server by hand: the reference with HTTP.

use super::runtime::{listen, runtime, serve_each, stop_signal};
use crate::{
    entry::{Entry, Job, Kind, Setup},
    tls::server_config,
};
#[cfg(feature = "axum")]
use ::hyper_util::service::TowerToHyperService;
use ::hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
};
use ::tokio_rustls::TlsAcceptor;
use harness::{BoxError, exchange::HELLO};
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderValue},
    service::service_fn,
};
use std::convert::Infallible;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    select, spawn,
};

pub(super) const ENTRIES: &[Entry] = &[
    Entry::new("hyper-util", Kind::Bare, Job::Http, http),
    #[cfg(feature = "axum")]
    Entry::new("hyper-util-axum", Kind::Bare, Job::Http, axum),
    Entry::new("hyper-util-https", Kind::Bare, Job::Https, https),
    Entry::new("hyper-util-drain", Kind::Bare, Job::Http, drain),
];

fn http(setup: Setup) -> Result<(), BoxError> {
    serve_each(&setup, hello_on)
}

/// With axum's router.
#[cfg(feature = "axum")]
fn axum(setup: Setup) -> Result<(), BoxError> {
    let router = super::axum_serve::router();
    serve_each(&setup, move |stream| {
        let router = TowerToHyperService::new(router.clone());
        async move {
            let builder = Builder::new(TokioExecutor::new());
            builder.serve_connection(TokioIo::new(stream), router).await
        }
    })
}

fn https(setup: Setup) -> Result<(), BoxError> {
    let acceptor = TlsAcceptor::from(server_config(&setup.folder)?);
    serve_each(&setup, move |stream| {
        let acceptor = acceptor.clone();
        async move { hello_on(acceptor.accept(stream).await?).await }
    })
}

fn drain(setup: Setup) -> Result<(), BoxError> {
    let listener = listen(&setup)?;
    runtime()?.block_on(async move {
        let stop = stop_signal()?;
        spawn(async move {
            let listener = TcpListener::from_std(listener)?;
            let graceful = GracefulShutdown::new();
            let mut stop = std::pin::pin!(stop);
            loop {
                let stream = select! {
                    () = &mut stop => break,
                    accepted = listener.accept() => accepted?.0,
                };
                let watcher = graceful.watcher();
                spawn(async move {
                    let builder = Builder::new(TokioExecutor::new());
                    let connection =
                        builder.serve_connection(TokioIo::new(stream), service_fn(hello));
                    watcher.watch(connection).await
                });
            }
            graceful.shutdown().await;
            Ok(())
        })
        .await?
    })
}

/// Serves HTTP on one connection.
pub(super) async fn hello_on<Io>(io: Io) -> Result<(), BoxError>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let builder = Builder::new(TokioExecutor::new());
    builder
        .serve_connection(TokioIo::new(io), service_fn(hello))
        .await
}

pub(super) async fn hello<B>(_: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(Bytes::from_static(HELLO.as_bytes())));
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    Ok(response)
}
