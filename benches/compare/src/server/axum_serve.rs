//! `axum::serve`, with TCP_NODELAY as its documentation shows it.

use super::{Entry, HELLO, Job, Kind, Setup, listen, run_on_workers, stop_signal};
use crate::BoxError;
use axum::{
    Router,
    routing::get,
    serve::{ListenerExt, serve},
};
use tokio::net::{TcpListener, TcpStream};

pub(super) const ENTRIES: &[Entry] = &[
    Entry::new("axum", Kind::Peer, Job::Http, http),
    Entry::new("axum-drain", Kind::Peer, Job::Http, drain),
];

fn http(setup: Setup) -> Result<(), BoxError> {
    let listener = listen(&setup)?;
    run_on_workers(async move {
        let listener = TcpListener::from_std(listener)?;
        Ok(serve(listener.tap_io(nodelay), router()).await?)
    })
}

fn drain(setup: Setup) -> Result<(), BoxError> {
    let listener = listen(&setup)?;
    run_on_workers(async move {
        let listener = TcpListener::from_std(listener)?;
        let stop = stop_signal()?;
        let server = serve(listener.tap_io(nodelay), router());
        Ok(server.with_graceful_shutdown(stop).await?)
    })
}

pub(super) fn router() -> Router {
    Router::new().route("/", get(async || HELLO))
}

fn nodelay(stream: &mut TcpStream) {
    // Where it fails the connection is gone already.
    let _ = stream.set_nodelay(true);
}
