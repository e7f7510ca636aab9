//! Custom middleware as a function, a stream and a layer.
//!
//! ```text
//! cargo run --release --example custom_middleware     # or: -- 127.0.0.1:8080
//! nc 127.0.0.1 PORT                                   # what you type comes back in capitals
//! ```
//!
//! The server greets each client with a number and counts the connections that fail. Ctrl-C or SIGTERM shuts
//! it down.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use pin_project::pin_project;
use portcullis::{BoxError, Connection, Server, ServiceBuilderExt, listener::TcpListener};
use std::{
    env, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tower::{Layer, Service, ServiceBuilder};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let address = env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(&address)?;
    println!("listening on {}", listener.local_addr()?);

    let failures = Arc::new(AtomicU64::new(0));
    let stack = ServiceBuilder::new()
        .peer_addr()
        .layer(CountFailuresLayer(failures.clone()))
        // First form: an async function that takes the connection and the rest of the stack.
        .connection_fn(|mut connection, next| async move {
            let greeting = format!("you are number {}\n", connection.id());
            connection.write_all(greeting.as_bytes()).await?;
            next.run(connection).await
        })
        // Second form: a custom stream around the connection's stream.
        .map_io(|io| Capitals { io })
        .service_fn(echo);

    Server::new()
        .listen(listener, stack)
        .stop_on_signals()
        .run()
        .await?;
    println!("{} connections failed", failures.load(Ordering::Relaxed));
    Ok(())
}

async fn echo(mut connection: Connection<impl AsyncRead + AsyncWrite + Unpin>) -> io::Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        match connection.read(&mut buffer).await? {
            0 => return connection.close().await,
            read => connection.write_all(&buffer[..read]).await?,
        }
        connection.flush().await?;
    }
}

/// Turns input into capital letters. It depends on tokio alone.
#[pin_project]
struct Capitals<Io> {
    #[pin]
    io: Io,
}

impl<Io: AsyncRead> AsyncRead for Capitals<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(self.project().io.poll_read(cx, buf))?;
        buf.filled_mut()[before..].make_ascii_uppercase();
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite> AsyncWrite for Capitals<Io> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.project().io.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_shutdown(cx)
    }

    // Without these two methods the wrapper works, but each part of a vectored write becomes a write.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().io.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// Third form: a layer, a service and a future by hand. It counts connections that fail.
#[derive(Clone, Debug)]
struct CountFailuresLayer(Arc<AtomicU64>);

impl<S> Layer<S> for CountFailuresLayer {
    type Service = CountFailures<S>;

    fn layer(&self, inner: S) -> CountFailures<S> {
        let failures = self.0.clone();
        CountFailures { inner, failures }
    }
}

#[derive(Clone, Debug)]
struct CountFailures<S> {
    inner: S,
    failures: Arc<AtomicU64>,
}

impl<S, IO> Service<Connection<IO>> for CountFailures<S>
where
    S: Service<Connection<IO>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = CountFailuresFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, connection: Connection<IO>) -> Self::Future {
        CountFailuresFuture {
            inner: self.inner.call(connection),
            failures: self.failures.clone(),
        }
    }
}

#[pin_project]
struct CountFailuresFuture<F> {
    #[pin]
    inner: F,
    failures: Arc<AtomicU64>,
}

impl<F: Future<Output = Result<T, E>>, T, E> Future for CountFailuresFuture<F> {
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(cx));
        if result.is_err() {
            this.failures.fetch_add(1, Ordering::Relaxed);
        }
        Poll::Ready(result)
    }
}
