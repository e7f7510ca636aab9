//! Drives hyper on one connection, and ends it when the supervisor says so.

use super::{
    Settings,
    body::RequestBody,
    io::HttpIo,
    protocol::Allowed,
    request::HttpRequests,
    supervisor::{Step, Supervisor},
    tasks::HttpTasks,
};
use crate::service::LingerIo;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{rt::TokioIo, server::conn::auto::UpgradeableConnection};
use pin_project::pin_project;
use portcullis_middleware::{BoxError, Connection};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Service;

/// HTTP on one connection, until it ends or is upgraded.
///
/// By hand: an async block holds what it is given beside what it makes of it.
#[pin_project]
pub(super) struct Serve<S, IO>
where
    S: Service<Request<RequestBody>>,
    HttpRequests<S>: hyper::service::HttpService<Incoming>,
{
    stage: Stage<S, IO>,
    supervisor: Supervisor,
}

/// hyper comes with the first byte: what it needs is several times what a silent connection does.
enum Stage<S, IO>
where
    S: Service<Request<RequestBody>>,
    HttpRequests<S>: hyper::service::HttpService<Incoming>,
{
    /// `None` only in between.
    Silent(Option<(HttpIo<IO>, HttpRequests<S>)>),
    Http(Pin<Box<Http<S, IO>>>),
    /// Another protocol was spoken than is allowed: what is left of the answer to that.
    Refusing(HttpIo<IO>, &'static [u8]),
    /// Nothing was said, and nothing will be.
    Leaving(HttpIo<IO>),
}

type Http<S, IO> = UpgradeableConnection<'static, TokioIo<HttpIo<IO>>, HttpRequests<S>, HttpTasks>;

impl<S, B, IO> Serve<S, IO>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    pub(super) fn new(
        settings: Arc<Settings>,
        requests: HttpRequests<S>,
        connection: Connection<IO>,
    ) -> Self {
        let activity = requests.activity().clone();
        let io = HttpIo::new(LingerIo::new(connection, settings.linger), activity.clone());
        Self {
            stage: Stage::Silent(Some((io, requests))),
            supervisor: Supervisor::new(settings, activity),
        }
    }
}

impl<S, B, IO> Stage<S, IO>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    #[inline]
    fn poll(&mut self, settings: &Settings, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        loop {
            match self {
                Self::Http(http) => return http.as_mut().poll(cx).map_err(with_kind),
                Self::Silent(silent) => {
                    let (io, _) = silent.as_mut().expect("polled after its end");
                    let allowed = Allowed::of(&io.activity().info, &settings.hyper);
                    let speaks = ready!(io.poll_first(!allowed.is_any(), cx))?;
                    let (io, requests) = silent.take().expect("just seen");
                    let spoken = io.activity().protocol();
                    let refusal = spoken.and_then(|spoken| allowed.refusal(spoken));
                    *self = match (speaks, refusal) {
                        (true, None) => Self::Http(begin(settings, io, requests)),
                        (true, Some(answer)) => Self::Refusing(io, answer),
                        (false, _) => Self::Leaving(io),
                    };
                }
                Self::Refusing(io, answer) => {
                    while !answer.is_empty() {
                        let written = ready!(Pin::new(&mut *io).poll_write(cx, answer))?;
                        *answer = &answer[written..];
                    }
                    ready!(Pin::new(io).poll_shutdown(cx))?;
                    let error = "the client speaks another version of HTTP than was agreed on";
                    return Poll::Ready(Err(
                        io::Error::new(io::ErrorKind::InvalidData, error).into()
                    ));
                }
                Self::Leaving(io) => return Pin::new(io).poll_shutdown(cx).map_err(Into::into),
            }
        }
    }
}

#[inline(never)]
fn begin<S, B, IO>(
    settings: &Settings,
    io: HttpIo<IO>,
    requests: HttpRequests<S>,
) -> Pin<Box<Http<S, IO>>>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let hyper = &settings.hyper;
    let http = hyper.serve_connection_with_upgrades(TokioIo::new(io), requests);
    Box::pin(http.into_owned())
}

impl<S, B, IO> Future for Serve<S, IO>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = Result<(), BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        loop {
            if let Poll::Ready(ended) = this.stage.poll(this.supervisor.settings(), cx) {
                return Poll::Ready(ended);
            }
            match ready!(this.supervisor.poll(cx)) {
                Step::Shutdown => {
                    if let Stage::Http(http) = this.stage {
                        http.as_mut().graceful_shutdown();
                    }
                }
                // The IO tells it.
                Step::HangUp => {}
                Step::End(result) => return Poll::Ready(result),
            }
        }
    }
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
