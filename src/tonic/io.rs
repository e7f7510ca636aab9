//! A connection as tonic's server takes it.

use crate::service::{
    LingerIo,
    http::{departure::Departure, phase},
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

/// A connection of which each request is told `C`; see the [module docs](super).
///
/// A client that has not sent the first bytes of HTTP/2 within half a minute is cut: a read fails with
/// [`Elapsed`] ([`FIRST_BYTE`](phase::FIRST_BYTE)). Nothing bounds reads after that while the server serves.
///
/// Reads end when a client holds up the graceful shutdown: half a second after the server stopped accepting if
/// the preface is missing, and after two seconds of silence from the `GOAWAY` on if no stream is open.
///
/// When it is dropped it lingers, so that the client receives the last responses; see [`LingerIo`]. After one of
/// the ends above it does not: the client was waited for already.
#[derive(Debug)]
pub struct TonicIo<IO, C> {
    io: LingerIo<IO>,
    told: C,
    /// Until the client has introduced itself.
    opening: Option<Opening>,
    departure: Departure,
}

/// The time that a client has for the preface of HTTP/2.
#[derive(Debug)]
struct Opening {
    missing: usize,
    /// Runs from the first wait on.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<IO, C> TonicIo<IO, C> {
    pub(super) fn new(io: LingerIo<IO>, told: C) -> Self {
        Self {
            departure: Departure::new(io.get_ref().info().clone()),
            io,
            told,
            opening: Some(Opening {
                missing: PREFACE,
                timer: None,
            }),
        }
    }

    /// The connection.
    pub fn get_ref(&self) -> &Connection<IO> {
        self.io.get_ref()
    }

    /// The connection, to change.
    pub fn get_mut(&mut self) -> &mut Connection<IO> {
        self.io.get_mut()
    }

    /// The connection, out of tonic's hands; it no longer lingers when it is dropped.
    pub fn into_inner(self) -> Connection<IO> {
        self.io.into_inner()
    }
}

impl<IO, C: Clone + Send + Sync + 'static> Connected for TonicIo<IO, C> {
    type ConnectInfo = C;

    fn connect_info(&self) -> C {
        self.told.clone()
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
        if read.is_pending() && this.departure.poll_gone(cx).is_ready() {
            // It was waited for already.
            this.io.do_not_linger();
            return Poll::Ready(Ok(()));
        }
        let came = &buf.filled()[before..];
        this.departure.note_read(came);
        if let Some(opening) = &mut this.opening {
            if read.is_pending() {
                let elapsed = ready!(opening.poll_elapsed(cx));
                this.io.do_not_linger();
                return Poll::Ready(Err(elapsed.into()));
            }
            opening.missing = opening.missing.saturating_sub(came.len());
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
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.departure
            .note_written(&written, &[IoSlice::new(buf)], cx);
        written
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
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.departure.note_written(&written, bufs, cx);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

impl Opening {
    fn poll_elapsed(&mut self, cx: &mut Context<'_>) -> Poll<Elapsed> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(BOUND)));
        let elapsed = |()| Elapsed::new(phase::FIRST_BYTE, BOUND);
        timer.as_mut().poll(cx).map(elapsed)
    }
}

/// Bytes of the preface of HTTP/2 (RFC 9113, section 3.4); a request of HTTP/1 has more.
const PREFACE: usize = 24;
/// As of [`HttpService`](crate::service::HttpService). tonic has no such bound, and HTTP/2's pings begin later.
const BOUND: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_middleware::connection::Linger;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
        time::{Instant, timeout},
    };

    fn pair() -> (
        TonicIo<impl AsyncRead + AsyncWrite + Unpin, ()>,
        DuplexStream,
    ) {
        let (ours, theirs) = tokio::io::duplex(64);
        (
            TonicIo::new(LingerIo::new(Connection::accept(ours), Linger::new()), ()),
            theirs,
        )
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
        // More than lies in between: it is read and discarded.
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
            theirs.write_all(&[b'x'; PREFACE - 1]).await.unwrap();
        };
        let mut buffer = [0; 64];
        let (read, ()) = tokio::join!(ours.read(&mut buffer), late);
        assert_eq!(read.unwrap(), PREFACE - 1);
        let error = ours.read(&mut [0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), BOUND);
        drop(ours);
        // It is cut, and does not linger.
        theirs.write_all(b"x").await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_introduced_itself_may_be_silent() {
        let (mut ours, mut theirs) = pair();
        theirs.write_all(&[b'x'; PREFACE]).await.unwrap();
        assert_eq!(ours.read(&mut [0; 64]).await.unwrap(), PREFACE);
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
        let mut said = [0; 5];
        theirs.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"hello");
    }
}
