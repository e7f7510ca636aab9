//! Drives hyper on one connection, and carries out the supervisor's actions.

use super::{
    HttpSettings,
    activity::Activity,
    body::RequestBody,
    io::HttpIo,
    protocol::Allowed,
    request::HttpRequests,
    supervisor::{Supervisor, SupervisorAction},
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
/// Written by hand, because an async block would store its arguments twice.
#[pin_project]
pub(super) struct Serve<S, IO>
where
    S: Service<Request<RequestBody>>,
    HttpRequests<S>: hyper::service::HttpService<Incoming>,
{
    /// Dropped before hyper.
    end: End,
    stage: ServeStage<S, IO>,
    supervisor: Supervisor,
}

/// Records in its drop that hyper is not done, so that the stream does not appear to have ended gracefully.
struct End {
    activity: Arc<Activity>,
    is_orderly: bool,
}

impl Drop for End {
    fn drop(&mut self) {
        if !self.is_orderly {
            self.activity.abandon();
        }
    }
}

/// hyper's state is allocated with the first byte, because it is several times larger than a silent
/// connection.
enum ServeStage<S, IO>
where
    S: Service<Request<RequestBody>>,
    HttpRequests<S>: hyper::service::HttpService<Incoming>,
{
    /// `None` only during a transition.
    Silent(Option<(HttpIo<IO>, HttpRequests<S>)>),
    Http(Pin<Box<Http<S, IO>>>),
    /// The client uses a disallowed version; contains the rest of the response.
    Refusing(HttpIo<IO>, &'static [u8]),
    /// The client closed without sending a byte.
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
        settings: Arc<HttpSettings>,
        requests: HttpRequests<S>,
        connection: Connection<IO>,
    ) -> Self {
        let activity = requests.activity().clone();
        let io = HttpIo::new(LingerIo::new(connection, settings.linger), activity.clone());
        Self {
            end: End {
                activity: activity.clone(),
                is_orderly: false,
            },
            stage: ServeStage::Silent(Some((io, requests))),
            supervisor: Supervisor::new(settings, activity),
        }
    }
}

impl<S, B, IO> ServeStage<S, IO>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    #[inline]
    fn poll(
        &mut self,
        settings: &HttpSettings,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), BoxError>> {
        loop {
            match self {
                Self::Http(http) => return http.as_mut().poll(cx).map_err(with_kind),
                Self::Silent(silent) => {
                    let (io, _) = silent.as_mut().expect("polled after completion");
                    let allowed = Allowed::of(&io.activity().info, &settings.hyper);
                    let has_input = ready!(io.poll_first(!allowed.is_any(), cx))?;
                    let (io, requests) = silent.take().expect("just seen");
                    let version = io.activity().protocol();
                    let refusal = version.and_then(|version| allowed.refusal(version));
                    *self = match (has_input, refusal) {
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
                    let error = "the client uses an HTTP version that was not negotiated";
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
    settings: &HttpSettings,
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
                this.end.is_orderly = ended.is_ok();
                return Poll::Ready(ended);
            }
            match ready!(this.supervisor.poll(cx)) {
                SupervisorAction::Shutdown => {
                    if let ServeStage::Http(http) = this.stage {
                        http.as_mut().graceful_shutdown();
                    }
                }
                // The I/O object reports it.
                SupervisorAction::HangUp => {}
                SupervisorAction::End(result) => return Poll::Ready(result),
            }
        }
    }
}

/// Gives hyper errors caused by the network or the peer the matching I/O error kind.
fn with_kind(error: BoxError) -> BoxError {
    let kind = match error.downcast_ref::<hyper::Error>() {
        Some(error) if error.is_incomplete_message() => io::ErrorKind::UnexpectedEof,
        Some(error) if error.is_timeout() => io::ErrorKind::TimedOut,
        _ => return error,
    };
    io::Error::new(kind, error).into()
}
