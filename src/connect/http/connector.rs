//! A connector for hyper's clients.

use super::{
    HttpConnection,
    uri::{BadUri, UriError, is_https, target},
};
use crate::connect::{
    LayeredConnector, ReturnConnection, Target, connector::ConnectDeadline, phase,
};
use http::Uri;
use portcullis_middleware::{BoxError, Connection, error::Elapsed};
use std::{
    future::ready,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tower::{Layer, Service, ServiceExt};

/// Connects to the host of a URI, for a hyper client; see the [module docs](super).
///
/// Clones share the state that the layers share, such as a limit or a counter.
#[derive(Clone, Debug)]
pub struct HttpConnector<C> {
    connect: C,
    https: bool,
    timeout: Option<Duration>,
}

impl<C> HttpConnector<Dial<C>> {
    /// Connects with `connect`, a [`Connector`](crate::connect::Connector) or another service of [`Target`]s.
    pub const fn new(connect: C) -> Self {
        Self {
            connect: Dial { connect },
            https: false,
            timeout: Some(DEFAULT_TIMEOUT),
        }
    }
}

impl<C> HttpConnector<C> {
    /// Passes each connection through `layers`, like [`LayeredConnector`].
    ///
    /// Layers added before `tls` see the bytes on the wire; layers added after it see plaintext.
    pub fn with_layers<L: Layer<ReturnConnection>>(
        self,
        layers: L,
    ) -> HttpConnector<LayeredConnector<C, L::Service>> {
        HttpConnector {
            connect: LayeredConnector::new(self.connect, layers),
            https: self.https,
            timeout: self.timeout,
        }
    }

    /// Performs the TLS handshake for `https` URIs; `http` URIs stay plain.
    ///
    /// The server's certificate must match the host of the URI. The protocols `h2` and `http/1.1` are
    /// offered, in this order, unless `tls` has [its own list].
    ///
    /// [its own list]: portcullis_middleware::tls::TlsConnector::with_alpn
    #[cfg(feature = "tls")]
    pub fn tls(
        self,
        tls: portcullis_middleware::tls::TlsConnector,
    ) -> HttpConnector<super::TlsByScheme<C>> {
        HttpConnector {
            connect: super::TlsByScheme::new(self.connect, tls),
            https: true,
            timeout: self.timeout,
        }
    }

    /// Limits waiting for a permit, connecting, layers and TLS together; 30 s by default.
    ///
    /// `None` leaves it to the timeouts of each step; waiting for a permit then has no limit.
    #[must_use]
    pub fn with_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Leaves the TLS of `https` URIs to the caller, which gets a plain connection to port 443.
    ///
    /// tonic's `Endpoint` with a `tls_config` needs this.
    #[must_use]
    pub fn tls_by_caller(mut self) -> Self {
        self.https = true;
        self
    }
}

impl<C, IO> Service<Uri> for HttpConnector<C>
where
    C: Service<Uri, Response = Connection<IO>, Error: Into<BoxError>, Future: Send>,
    C: Clone + Send + 'static,
{
    type Response = HttpConnection<IO>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpConnection<IO>, BoxError>> + Send>>;

    /// Always ready, because each call waits for the inner service within its timeout.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        if is_https(&uri) && !self.https {
            let error = UriError::new(&uri, BadUri::NoTls);
            return Box::pin(async { Err(error.into()) });
        }
        let mut connect = self.connect.clone();
        let bound = ConnectDeadline::starting_now(self.timeout);
        Box::pin(async move {
            let ready = bound.hold(connect.ready()).await;
            let room = |elapsed: Elapsed| Elapsed::new(phase::ADMISSION, elapsed.after());
            let ready = ready.map_err(room)?.map_err(Into::into)?;
            let connection = bound.hold(ready.call(uri)).await?.map_err(Into::into)?;
            Ok(HttpConnection::new(connection))
        })
    }
}

/// Connects with `C` to the host and port of a URI.
#[derive(Clone, Debug)]
pub struct Dial<C> {
    connect: C,
}

impl<C, IO> Service<Uri> for Dial<C>
where
    C: Service<Target, Response = Connection<IO>, Error: Into<BoxError>, Future: Send + 'static>,
    IO: Send + 'static,
{
    type Response = Connection<IO>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Connection<IO>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connect.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        match target(&uri) {
            Ok(target) => {
                let connecting = self.connect.call(target);
                Box::pin(async move { connecting.await.map_err(Into::into) })
            }
            Err(error) => Box::pin(ready(Err(error))),
        }
    }
}

/// Ten seconds each for connecting and for the handshake, plus ten to wait for a permit.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
