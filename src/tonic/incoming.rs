//! The stream that tonic's server takes.

use super::{TlsConnectInfo, TonicIo};
use crate::{
    server::Handle,
    service::{Incoming, LingerIo, hand_off::IDLE_GRACE_PERIOD},
};
use ::tonic::transport::server::TcpConnectInfo;
use futures_core::Stream;
use portcullis_middleware::{Connection, log_limit::LogLimit};
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
    /// The stream that tonic's `serve_with_incoming` takes; feature `tonic`.
    ///
    /// A request's `remote_addr()` and `local_addr()` are those of its connection. See [`tonic`](crate::tonic).
    pub fn tonic(self) -> TonicIncoming<IO, TcpConnectInfo> {
        self.tonic_with(|connection| connection.info().tcp_connect_info())
    }

    /// Like [`tonic`](Self::tonic), for stacks with a `TlsLayer`: `peer_certs()` works too.
    ///
    /// A connection without TLS is closed, and an error is logged: it is the stack that lacks the layer.
    pub fn tonic_tls(self) -> TonicIncoming<IO, TlsConnectInfo> {
        TonicIncoming::new(self, |connection| connection.info().tls_connect_info())
    }

    /// Like [`tonic`](Self::tonic), and requests are told what `tell` makes of their connection.
    ///
    /// It is among their extensions. `remote_addr()` and `peer_certs()` look for tonic's own types, and are
    /// `None` unless `C` is one of them or the interceptor [`tell`](crate::tonic::tell) helps.
    pub fn tonic_with<C>(
        self,
        mut tell: impl FnMut(&Connection<IO>) -> C + Send + 'static,
    ) -> TonicIncoming<IO, C> {
        TonicIncoming::new(self, move |connection| Some(tell(connection)))
    }
}

/// Connections as tonic's `serve_with_incoming` takes them; see the [module docs](super).
///
/// It ends when the server has stopped accepting and every connection that was on its way is out; where
/// connections are open then, half a second later, so that the client accepted last can send its request. Tonic
/// then sends `GOAWAY`; [`TonicIo`] ends the input of clients that ask for nothing. Dropping the stream stops the server, and closes connections
/// that were not taken yet.
pub struct TonicIncoming<IO, C> {
    incoming: Incoming<IO>,
    /// Runs once nothing more comes in.
    idle_grace_period: Option<Pin<Box<Sleep>>>,
    tell: Tell<IO, C>,
    log: LogLimit,
}

type Tell<IO, C> = Box<dyn FnMut(&Connection<IO>) -> Option<C> + Send>;

impl<IO, C> TonicIncoming<IO, C> {
    fn new(
        incoming: Incoming<IO>,
        tell: impl FnMut(&Connection<IO>) -> Option<C> + Send + 'static,
    ) -> Self {
        Self {
            incoming,
            idle_grace_period: None,
            tell: Box::new(tell),
            log: LogLimit::default(),
        }
    }

    /// The handle of the server that [`Server::incoming`](crate::Server::incoming) started.
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
            if let Some(told) = (this.tell)(&connection) {
                let io = LingerIo::new(connection, this.incoming.linger());
                return Poll::Ready(Some(Ok(TonicIo::new(io, told))));
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
