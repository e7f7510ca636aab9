use portcullis_middleware::Connection;
use tower::{Layer, Service};

/// Limits the number of bytes that each peer may send.
#[derive(Clone, Copy, Debug)]
pub struct QuotaLayer(pub usize);

impl<S> Layer<S> for QuotaLayer {
    type Service = QuotaService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let bytes = self.0;
        QuotaService { inner, bytes }
    }
}

/// Calls `S` with a [`Quota`] inside each connection.
#[derive(Clone, Copy, Debug)]
pub struct QuotaService<S> {
    inner: S,
    bytes: usize,
}

impl<S: Service<Connection<Quota<IO>>>, IO> Service<Connection<IO>> for QuotaService<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, connection: Connection<IO>) -> S::Future {
        let left = self.bytes;
        self.inner.call(connection.map_io(|io| Quota { io, left }))
    }
}
