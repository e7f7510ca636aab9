//! Servers of HTTP, all with the same application.

use super::serve::LIMIT;
use axum::{Router, extract::ConnectInfo, http::Request, routing::get};
use harness::{
    exchange::HELLO,
    server::{announce, serve_input},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use portcullis::{BoxError, service::HttpService};
use std::{sync::Arc, time::Duration};
use tokio::{net::TcpListener, runtime::Runtime, sync::Semaphore};
use tower::ServiceBuilder;

fn router() -> Router {
    Router::new().route("/", get(async || HELLO))
}

pub(crate) fn service() -> HttpService<Router> {
    HttpService::new(router())
}

/// The server that `HttpService` is compared to.
pub(crate) fn run_hyper(runtime: &Runtime) -> Result<(), BoxError> {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    announce(listener.local_addr()?)?;
    let accept = runtime.spawn(async move {
        let hyper = Arc::new(auto::Builder::new(TokioExecutor::new()));
        let service = TowerToHyperService::new(router());
        while let Ok((stream, _peer)) = listener.accept().await {
            let (hyper, service) = (hyper.clone(), service.clone());
            tokio::spawn(async move {
                stream.set_nodelay(true)?;
                let io = TokioIo::new(stream);
                hyper.serve_connection_with_upgrades(io, service).await
            });
        }
    });
    serve_input();
    accept.abort();
    Ok(())
}

/// The same with hyper's timeouts, a semaphore as connection limit, and the peer's address in each request.
pub(crate) fn run_hyper_plus(runtime: &Runtime) -> Result<(), BoxError> {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    announce(listener.local_addr()?)?;
    let accept = runtime.spawn(async move {
        let mut hyper = auto::Builder::new(TokioExecutor::new());
        hyper
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(30));
        hyper
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        let (hyper, router) = (Arc::new(hyper), router());
        let limit = Arc::new(Semaphore::new(LIMIT));
        while let Ok(permit) = limit.clone().acquire_owned().await
            && let Ok((stream, peer)) = listener.accept().await
        {
            let (hyper, router) = (hyper.clone(), router.clone());
            tokio::spawn(async move {
                let _permit = permit;
                stream.set_nodelay(true)?;
                let with_peer =
                    ServiceBuilder::new().map_request(move |mut request: Request<_>| {
                        request.extensions_mut().insert(ConnectInfo(peer));
                        request
                    });
                let service = TowerToHyperService::new(with_peer.service(router));
                let io = TokioIo::new(stream);
                hyper.serve_connection_with_upgrades(io, service).await
            });
        }
    });
    serve_input();
    accept.abort();
    Ok(())
}

pub(crate) fn run_axum(runtime: &Runtime) -> Result<(), BoxError> {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    announce(listener.local_addr()?)?;
    let serve = runtime.spawn(async move { axum::serve(listener, router()).await });
    serve_input();
    serve.abort();
    Ok(())
}
