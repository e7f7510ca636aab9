//! The layer and the service.

use super::{Lent, OnErrorFuture, Retry, lend::lend};
use crate::{BoxError, Connection};
use std::{
    fmt,
    ops::ControlFlow,
    task::{Context, Poll},
};
use tower::{Layer, Service};

/// Layer for [`OnError`]; see the [module docs](super).
#[derive(Clone, Copy)]
pub struct OnErrorLayer<H> {
    handler: H,
}

impl<H> OnErrorLayer<H> {
    /// Calls `handler` for each connection on which the inner service fails.
    ///
    /// It gets the error ([`Panicked`](crate::error::Panicked) for a panic) and the connection, or
    /// `None` if that did not return. Its result is the result for the connection. The types of its
    /// arguments are inferred.
    pub fn new<IO, R, Fut>(handler: H) -> Self
    where
        // Lets the compiler infer the closure's arguments.
        H: Fn(BoxError, Option<Connection<IO>>) -> Fut,
        Fut: Future<Output = Result<R, BoxError>>,
    {
        Self { handler }
    }
}

impl<H> OnErrorLayer<Retry<H>> {
    /// Like [`new`](OnErrorLayer::new), with a handler that may call the inner service again.
    ///
    /// The handler returns [`Break`](ControlFlow::Break) with a response to end, or
    /// [`Continue`](ControlFlow::Continue) with the connection to have the inner service called on
    /// it again. It can count retries in the connection's extensions, which it gets back with the next
    /// error. This costs one more allocation per connection.
    ///
    /// Retry only after errors that are known to be harmless, and limit the number of retries. An I/O error
    /// recurs immediately, so a handler that always retries keeps a processor busy until the connection is
    /// closed from outside. Each retry yields to other tasks first.
    ///
    /// ```
    /// use portcullis_middleware::{BoxError, Connection, handler::OnErrorLayer};
    /// use std::{io, num::ParseIntError, ops::ControlFlow};
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// use tower::{Service, ServiceBuilder};
    ///
    /// /// Answers each digit with its double, until the client half-closes.
    /// async fn double(
    ///     mut connection: Connection<impl AsyncReadExt + AsyncWriteExt + Unpin>,
    /// ) -> Result<(), BoxError> {
    ///     let mut byte = [0];
    ///     while connection.read(&mut byte).await? > 0 {
    ///         let digit: u8 = str::from_utf8(&byte)?.parse()?;
    ///         connection.write_all((2 * digit).to_string().as_bytes()).await?;
    ///     }
    ///     Ok(())
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// let mut stack = ServiceBuilder::new()
    ///     .layer(OnErrorLayer::with_retry(|error, connection| async move {
    ///         match connection {
    ///             Some(mut connection) if error.is::<ParseIntError>() => {
    ///                 connection.write_all(b"?").await?;
    ///                 Ok(ControlFlow::Continue(connection))
    ///             }
    ///             _ => Err(error),
    ///         }
    ///     }))
    ///     .service_fn(double);
    ///
    /// let (ours, mut client) = tokio::io::duplex(64);
    /// client.write_all(b"1x2").await?;
    /// client.shutdown().await?;
    /// stack.call(Connection::accept(ours)).await?;
    /// let mut answer = String::new();
    /// client.read_to_string(&mut answer).await?;
    /// assert_eq!(answer, "2?4");
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_retry<IO, R, Fut>(handler: H) -> Self
    where
        H: Fn(BoxError, Option<Connection<IO>>) -> Fut,
        Fut: Future<Output = Result<ControlFlow<R, Connection<IO>>, BoxError>>,
    {
        let handler = Retry(handler);
        Self { handler }
    }
}

impl<H: Clone, S> Layer<S> for OnErrorLayer<H> {
    type Service = OnError<S, H>;

    fn layer(&self, inner: S) -> Self::Service {
        let handler = self.handler.clone();
        OnError { inner, handler }
    }
}

impl<H> fmt::Debug for OnErrorLayer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnErrorLayer").finish_non_exhaustive()
    }
}

/// Lends each connection to `S`, and calls `H` with the error and the connection if `S` fails.
#[derive(Clone, Copy)]
pub struct OnError<S, H> {
    pub(super) inner: S,
    pub(super) handler: H,
}

impl<S, H, IO, Fut> Service<Connection<IO>> for OnError<S, H>
where
    S: Service<Connection<Lent<IO>>, Error: Into<BoxError>>,
    H: Fn(BoxError, Option<Connection<IO>>) -> Fut + Clone,
    Fut: Future<Output = Result<S::Response, BoxError>>,
    IO: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = OnErrorFuture<S::Future, H, IO, Fut>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, connection: Connection<IO>) -> Self::Future {
        let (lent, lender) = lend(connection);
        OnErrorFuture::new(|| self.inner.call(lent), self.handler.clone(), lender)
    }
}

impl<S: fmt::Debug, H> fmt::Debug for OnError<S, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnError")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        connection::AnyStream, handler::from_fn::from_fn, peer_addr::PeerAddrLayer,
        stream::map_io::BoxIoLayer,
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, BufStream},
        net::{TcpListener, TcpStream},
    };
    use tower::{ServiceBuilder, ServiceExt};

    #[tokio::test]
    async fn a_whole_stack_needs_no_types() {
        let stack = ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .layer(OnErrorLayer::new(|error, connection| async move {
                let mut connection = connection.ok_or(error)?;
                connection.write_all(b"oops").await?;
                Ok(connection.close().await?)
            }))
            .layer(from_fn(|connection, next| async move {
                next.run(connection.map_io(BufStream::new)).await
            }))
            .layer(OnErrorLayer::new(|error, _| async move { Err(error) }))
            .layer(BoxIoLayer::new())
            .service_fn(|connection: Connection<_>| async move {
                assert!(connection.peer_addr().is_none(), "TCP has addresses");
                Ok::<_, BoxError>(())
            });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        let served = tokio::spawn(stack.oneshot(AnyStream::from(accepted.unwrap().0)));
        let (mut client, mut received) = (client.unwrap(), String::new());
        client.read_to_string(&mut received).await.unwrap();
        drop(client);
        served.await.unwrap().unwrap();
        assert_eq!(received, "oops");
    }
}
