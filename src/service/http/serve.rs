//! Drives hyper on one connection, and ends it when the keeper says so.

use super::{
    Settings,
    body::RequestBody,
    io::HttpIo,
    keeper::{Keeper, Step},
    request::HttpRequests,
};
use http::{Request, Response};
use hyper_util::rt::TokioIo;
use portcullis_middleware::{BoxError, Connection};
use std::{future::poll_fn, io, pin::pin, sync::Arc, task::Poll};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Service;

/// Serves HTTP on `connection` until it ends or is upgraded.
pub(super) async fn serve<S, B, IO>(
    settings: Arc<Settings>,
    requests: HttpRequests<S>,
    connection: Connection<IO>,
) -> Result<(), BoxError>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let exchanges = requests.exchanges().clone();
    let io = TokioIo::new(HttpIo::new(connection, exchanges.clone()));
    let mut http = pin!(settings.hyper.serve_connection_with_upgrades(io, requests));
    let mut keeper = Keeper::new(&settings, exchanges);
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = http.as_mut().poll(cx) {
                return Poll::Ready(ended.map_err(with_kind));
            }
            match std::task::ready!(keeper.poll(cx)) {
                Step::Shutdown => http.as_mut().graceful_shutdown(),
                // The IO tells it.
                Step::HangUp => {}
                Step::End(result) => return Poll::Ready(result),
            }
        }
    })
    .await
}

/// Gives those errors of hyper that are the doing of the network or the peer the kind of IO error that they are.
fn with_kind(error: BoxError) -> BoxError {
    let kind = match error.downcast_ref::<hyper::Error>() {
        Some(error) if error.is_incomplete_message() => io::ErrorKind::UnexpectedEof,
        Some(error) if error.is_timeout() => io::ErrorKind::TimedOut,
        _ => return error,
    };
    io::Error::new(kind, error).into()
}
