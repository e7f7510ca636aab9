//! Layers for outgoing connections.

use super::Connector;
use portcullis_middleware::{BoxError, Connection, internal::take_ready};
use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::Pin,
    task::{Context, Poll},
};
use tower::{Layer, Service};

impl Connector {
    /// Passes each connection through `layers`, the same ones that a server uses.
    ///
    /// ```
    /// use portcullis::{ServiceBuilderExt, connect::{Connector, Target}};
    /// use portcullis::middleware::observe::ByteCounter;
    /// use tower::{ServiceBuilder, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), portcullis::BoxError> {
    /// # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// # let address = listener.local_addr()?.to_string();
    /// let counter = ByteCounter::new();
    /// let layers = ServiceBuilder::new()
    ///     .connection_limit(64) // open at once
    ///     .io_timeout()
    ///     .count_bytes(counter.clone());
    /// let connector = Connector::new().with_layers(layers);
    ///
    /// let target: Target = address.parse()?; // "example.org:4242"
    /// let connection = connector.oneshot(target).await?;
    /// # assert_eq!(connection.peer_addr(), Some(listener.local_addr()?));
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_layers<L: Layer<ReturnConnection>>(
        self,
        layers: L,
    ) -> LayeredConnector<Self, L::Service> {
        LayeredConnector::new(self, layers)
    }
}

/// Makes connections with `C` and passes them through the layers `S`.
///
/// The innermost service is [`ReturnConnection`], so the response is the connection as the layers changed it.
/// Permits and other guards of the layers are held until the connection is dropped.
///
/// It is ready when the stack is ready, and then `C`, so a connection limit waits before a connection is
/// made. A clone inherits neither readiness.
///
/// # Limitations
///
/// Layers may change, limit, count or reject a connection. For a layer that acts when its inner service ends,
/// that is the moment the connection is returned. A trace therefore reports nothing after that, and later
/// errors on the connection belong to the caller.
///
/// # Errors
///
/// Those of `C` and of the layers, each as a [`BoxError`].
///
/// # Cancel safety
///
/// Dropping the future drops the connection, or the attempt to make one, with its guards.
#[derive(Clone, Debug)]
pub struct LayeredConnector<C, S> {
    connect: C,
    stack: S,
}

impl<C, S> LayeredConnector<C, S> {
    /// Passes each connection that `connect` makes through `layers`.
    pub fn new<L>(connect: C, layers: L) -> Self
    where
        L: Layer<ReturnConnection, Service = S>,
    {
        let stack = layers.layer(ReturnConnection);
        Self { connect, stack }
    }
}

impl<C, S, To, In, Out> Service<To> for LayeredConnector<C, S>
where
    C: Service<To, Response = Connection<In>, Error: Into<BoxError>, Future: Send + 'static>,
    S: Service<Connection<In>, Response = Connection<Out>, Error: Into<BoxError>, Future: Send>,
    S: Clone + Send + 'static,
    In: Send,
{
    type Response = Connection<Out>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Connection<Out>, BoxError>> + Send>>;

    /// Waits for the stack and then for `C`.
    ///
    /// In this order a connection that waits for a permit does not keep others from connecting.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        std::task::ready!(self.stack.poll_ready(cx)).map_err(Into::into)?;
        self.connect.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, to: To) -> Self::Future {
        let connecting = self.connect.call(to);
        let mut ready = take_ready(&mut self.stack);
        Box::pin(async move {
            let connection = connecting.await.map_err(Into::into)?;
            ready.call(connection).await.map_err(Into::into)
        })
    }
}

/// The innermost service of a stack, which returns the connection; see [`LayeredConnector`].
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ReturnConnection;

impl<IO> Service<Connection<IO>> for ReturnConnection {
    type Response = Connection<IO>;
    type Error = Infallible;
    type Future = Ready<Result<Connection<IO>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, connection: Connection<IO>) -> Self::Future {
        ready(Ok(connection))
    }
}
