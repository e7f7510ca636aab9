//! A connection as tonic's server takes it.

use crate::service::{
    LingerIo,
    http::{departing_io::DepartingIo, phase},
};
use ::tonic::transport::server::Connected;
use portcullis_middleware::{Connection, error::Elapsed};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// A connection whose requests carry `C`; see the [module docs](super).
///
/// A client has 30 seconds to send the HTTP/2 preface. After that, a read fails with [`Elapsed`]
/// ([`FIRST_BYTE`](phase::FIRST_BYTE)). Later reads have a timeout only during a graceful shutdown.
///
/// During a graceful shutdown, a client without an open stream reads as ended. If its preface is incomplete,
/// that happens half a second after the server stopped accepting, otherwise after two seconds of silence
/// since the `GOAWAY`.
///
/// A drop lingers, so that the client receives the last responses; see [`LingerIo`]. After one of these
/// timeouts the connection is closed immediately.
#[derive(Debug)]
pub struct TonicIo<IO, C> {
    io: DepartingIo<IO>,
    connect_info: C,
    /// `None` once the client has sent the preface.
    opening: Option<Opening>,
}

/// The timeout of the HTTP/2 preface.
#[derive(Debug)]
struct Opening {
    missing: usize,
    /// Starts with the first read that is pending.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<IO, C> TonicIo<IO, C> {
    pub(super) fn new(io: LingerIo<IO>, connect_info: C) -> Self {
        Self {
            io: DepartingIo::new(io),
            connect_info,
            opening: Some(Opening {
                missing: PREFACE_LEN,
                timer: None,
            }),
        }
    }

    /// The connection.
    pub fn get_ref(&self) -> &Connection<IO> {
        self.io.get_ref()
    }

    /// The connection, mutably.
    pub fn get_mut(&mut self) -> &mut Connection<IO> {
        self.io.get_mut()
    }

    /// Returns the connection. Its drop does not linger.
    pub fn into_inner(self) -> Connection<IO> {
        self.io.into_inner()
    }
}

impl<IO, C: Clone + Send + Sync + 'static> Connected for TonicIo<IO, C> {
    type ConnectInfo = C;

    fn connect_info(&self) -> C {
        self.connect_info.clone()
    }
}

impl<IO: AsyncRead + Unpin, C: Unpin> AsyncRead for TonicIo<IO, C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        if let Some(opening) = &mut this.opening {
            if read.is_pending() {
                let elapsed = ready!(opening.poll_elapsed(cx));
                // The client has had its time already.
                this.io.do_not_linger();
                return Poll::Ready(Err(elapsed.into()));
            }
            opening.missing = opening.missing.saturating_sub(buf.filled().len() - before);
            if opening.missing == 0 {
                this.opening = None;
            }
        }
        read
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin, C: Unpin> AsyncWrite for TonicIo<IO, C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

impl Opening {
    fn poll_elapsed(&mut self, cx: &mut Context<'_>) -> Poll<Elapsed> {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep(PREFACE_TIMEOUT)));
        let elapsed = |()| Elapsed::new(phase::FIRST_BYTE, PREFACE_TIMEOUT);
        timer.as_mut().poll(cx).map(elapsed)
    }
}

/// Length of the HTTP/2 preface (RFC 9113, section 3.4); an HTTP/1 request is longer.
const PREFACE_LEN: usize = 24;
/// The same as in [`HttpService`](crate::service::HttpService). tonic lacks such a timeout, and HTTP/2 pings
/// start later.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_middleware::{connection::Linger, testing::in_memory};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
        time::{Instant, timeout},
    };

    fn pair() -> (
        TonicIo<impl AsyncRead + AsyncWrite + Unpin, ()>,
        DuplexStream,
    ) {
        let (connection, theirs) = in_memory(64);
        let ours = LingerIo::new(connection, Linger::new());
        (TonicIo::new(ours, ()), theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_only_ends_our_side_and_a_drop_lingers() {
        let (mut ours, mut theirs) = pair();
        ours.shutdown().await.unwrap();
        assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);
        theirs.write_all(b"more").await.unwrap();
        let mut more = [0; 4];
        ours.read_exact(&mut more).await.unwrap();
        assert_eq!(&more, b"more");
        drop(ours);
        // More than the pipe holds: it is read and discarded.
        theirs.write_all(&[b'x'; 1000]).await.unwrap();
        sleep(Duration::from_secs(6)).await;
        theirs.write_all(b"x").await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_has_half_a_minute_to_introduce_itself() {
        let (mut ours, mut theirs) = pair();
        let begun = Instant::now();
        let late = async {
            sleep(Duration::from_secs(29)).await;
            theirs.write_all(&[b'x'; PREFACE_LEN - 1]).await.unwrap();
        };
        let mut buffer = [0; 64];
        let (read, ()) = tokio::join!(ours.read(&mut buffer), late);
        assert_eq!(read.unwrap(), PREFACE_LEN - 1);
        let error = ours.read(&mut [0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), PREFACE_TIMEOUT);
        drop(ours);
        // It is closed without lingering.
        theirs.write_all(b"x").await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_introduced_itself_may_be_silent() {
        let (mut ours, mut theirs) = pair();
        theirs.write_all(&[b'x'; PREFACE_LEN]).await.unwrap();
        assert_eq!(ours.read(&mut [0; 64]).await.unwrap(), PREFACE_LEN);
        let mut buffer = [0; 64];
        let silence = timeout(Duration::from_secs(3600), ours.read(&mut buffer));
        silence.await.unwrap_err();
    }

    #[tokio::test]
    async fn vectored_writes_go_through() {
        let (mut ours, mut theirs) = pair();
        assert!(ours.is_write_vectored());
        let parts = [IoSlice::new(b"hel"), IoSlice::new(b"lo")];
        assert_eq!(ours.write_vectored(&parts).await.unwrap(), 5);
        ours.flush().await.unwrap();
        let mut output = [0; 5];
        theirs.read_exact(&mut output).await.unwrap();
        assert_eq!(&output, b"hello");
    }
}
