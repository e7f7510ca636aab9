//! `axum::serve`.

use super::runtime::{listen, run_on_workers, stop_signal};
use crate::entry::{Entry, Job, Kind, Setup};
use axum::{Router, routing::get, serve::serve};
use harness::{BoxError, exchange::HELLO};
use tokio::net::TcpListener;

pub(super) const ENTRIES: &[Entry] = &[
    Entry::new("axum", Kind::Peer, Job::Http, http),
    Entry::new("axum-drain", Kind::Peer, Job::Http, drain),
];

fn http(setup: Setup) -> Result<(), BoxError> {
    let listener = listen(&setup)?;
    run_on_workers(async move {
        let listener = TcpListener::from_std(listener)?;
        Ok(serve(listener, router()).await?)
    })
}

fn drain(setup: Setup) -> Result<(), BoxError> {
    let listener = listen(&setup)?;
    run_on_workers(async move {
        let listener = TcpListener::from_std(listener)?;
        let stop = stop_signal()?;
        let server = serve(listener, router());
        Ok(server.with_graceful_shutdown(stop).await?)
    })
}

pub(super) fn router() -> Router {
    Router::new().route("/", get(async || HELLO))
}
