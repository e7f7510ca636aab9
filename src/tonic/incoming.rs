//! The stream that tonic's server accepts from.

use super::{TlsConnectInfo, TonicIo};
use crate::{
    server::Handle,
    service::{Incoming, LingerIo},
};
use ::tonic::transport::server::TcpConnectInfo;
use futures_core::Stream;
use portcullis_middleware::{Connection, internal::IDLE_GRACE_PERIOD, log_limit::LogLimit};
use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Sleep, sleep},
};

impl<IO> Incoming<IO> {
    /// Returns the stream for tonic's `serve_with_incoming`.
    ///
    /// A request's `remote_addr()` and `local_addr()` are those of its connection. See
    /// [`tonic`](crate::tonic).
    pub fn tonic(self) -> TonicIncoming<IO, TcpConnectInfo> {
        self.tonic_with(|connection| connection.info().tcp_connect_info())
    }

    /// Like [`tonic`](Self::tonic), for stacks with a `TlsLayer`, and `peer_certs()` works too.
    ///
    /// A connection without TLS is closed and an error is logged, because the stack lacks the layer.
    pub fn tonic_tls(self) -> TonicIncoming<IO, TlsConnectInfo> {
        TonicIncoming::new(self, |connection| connection.info().tls_connect_info())
    }

    /// Like [`tonic`](Self::tonic), and inserts the result of `connect_info` into each request.
    ///
    /// It is among the request's extensions. `remote_addr()` and `peer_certs()` read tonic's own types, and
    /// return `None` unless `C` is one of them or the interceptor
    /// [`insert_connect_info`](crate::tonic::insert_connect_info) adds them.
    pub fn tonic_with<C>(
        self,
        mut connect_info: impl FnMut(&Connection<IO>) -> C + Send + 'static,
    ) -> TonicIncoming<IO, C> {
        TonicIncoming::new(self, move |connection| Some(connect_info(connection)))
    }
}

/// A stream of connections for tonic's `serve_with_incoming`; see the [module docs](super).
///
/// The stream ends once the server has stopped accepting and all accepted connections have been handed over,
/// plus half a second if any are open, so that tonic does not close a connection before its first request.
/// Tonic then sends `GOAWAY`, and [`TonicIo`] ends the input of clients without a request. Dropping the
/// stream stops the server and closes connections that were not taken yet.
pub struct TonicIncoming<IO, C> {
    incoming: Incoming<IO>,
    /// Runs after the last connection.
    idle_grace_period: Option<Pin<Box<Sleep>>>,
    make_info: MakeInfo<IO, C>,
    log: LogLimit,
}

type MakeInfo<IO, C> = Box<dyn FnMut(&Connection<IO>) -> Option<C> + Send>;

impl<IO, C> TonicIncoming<IO, C> {
    fn new(
        incoming: Incoming<IO>,
        make_info: impl FnMut(&Connection<IO>) -> Option<C> + Send + 'static,
    ) -> Self {
        Self {
            incoming,
            idle_grace_period: None,
            make_info: Box::new(make_info),
            log: LogLimit::default(),
        }
    }

    /// Returns the handle of the server that [`Server::incoming`](crate::Server::incoming) started.
    pub fn handle(&self) -> Option<&Handle> {
        self.incoming.handle()
    }
}

impl<IO, C> Stream for TonicIncoming<IO, C>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Item = Result<TonicIo<IO, C>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(idle_grace_period) = &mut this.idle_grace_period {
                return idle_grace_period.as_mut().poll(cx).map(|()| None);
            }
            let Some(connection) = ready!(Pin::new(&mut this.incoming).poll_next(cx)) else {
                let handle = this.incoming.handle();
                if handle.is_some_and(|handle| handle.status().active == 0) {
                    return Poll::Ready(None);
                }
                this.idle_grace_period = Some(Box::pin(sleep(IDLE_GRACE_PERIOD)));
                continue;
            };
            if let Some(info) = (this.make_info)(&connection) {
                let io = LingerIo::new(connection, this.incoming.linger());
                return Poll::Ready(Some(Ok(TonicIo::new(io, info))));
            }
            this.log.write(|suppressed| {
                let peer = connection.info().peer();
                tracing::error!(%peer, suppressed, "closed: the stack has no TlsLayer, and `tonic_tls` needs one");
            });
        }
    }
}

impl<IO, C> fmt::Debug for TonicIncoming<IO, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TonicIncoming")
            .field("incoming", &self.incoming)
            .finish_non_exhaustive()
    }
}
