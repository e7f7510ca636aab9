//! A connection that lingers when it is dropped.

use portcullis_middleware::{Connection, connection::Linger};
use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    thread,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::Handle,
};

/// A connection that closes gracefully when it is dropped.
///
/// Servers such as hyper, axum and tonic, and handlers of upgraded connections (WebSocket, `CONNECT`), end a
/// connection by dropping it. A TCP socket with unread input is then reset, which can discard the last
/// output. Under TLS the `close_notify` of RFC 8446, section 6.1, is missing.
///
/// When this type is dropped, a task on the current runtime does what [`Connection::close_within`] does:
/// flush, end the write side, and linger within the limits of a [`Linger`]. The connection keeps its guards,
/// so a server's drain waits for that task, and force-closes the connection at the deadline. A program that
/// exits right after `axum::serve` has returned should therefore [wait for the server's
/// handle](crate::server::Handle::wait).
///
/// A drop does not show its reason. If a response fails midway under `axum::serve`, the close looks orderly
/// to an HTTP/1.0 client that reads until the end; `HttpService` distinguishes the two.
///
/// The connection is dropped immediately after an I/O error, when both sides have ended already, in a panic,
/// and outside of a Tokio runtime.
///
/// `poll_shutdown` only ends the write side and never reads, so that half-closed tunnels work:
///
/// ```
/// use portcullis::{Connection, connection::Linger, service::LingerIo};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (ours, mut theirs) = tokio::io::duplex(64);
/// let mut io = LingerIo::new(Connection::accept(ours), Linger::new());
/// io.write_all(b"bye").await?;
/// io.shutdown().await?;
///
/// theirs.write_all(b"one more").await?;
/// io.read_exact(&mut [0; 8]).await?;
/// drop(io); // lingers in a task of its own
/// # let mut received = String::new();
/// # theirs.read_to_string(&mut received).await?;
/// # assert_eq!(received, "bye");
/// # Ok(())
/// # }
/// ```
pub struct LingerIo<IO> {
    /// `None` only after it was dropped or taken out, because fields of a type with `Drop` cannot be moved.
    connection: Option<Connection<IO>>,
    linger: Linger,
    /// Closes the connection in a task. A function pointer avoids bounds on the type.
    close: fn(Connection<IO>, Linger),
    failed: bool,
    input_ended: bool,
    output_ended: bool,
}

impl<IO> LingerIo<IO> {
    /// Closes `connection` within the limits of `linger` when this is dropped.
    pub const fn new(connection: Connection<IO>, linger: Linger) -> Self
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Self {
            connection: Some(connection),
            linger,
            close: close_in_task,
            failed: false,
            input_ended: false,
            output_ended: false,
        }
    }

    /// Returns the connection.
    pub fn get_ref(&self) -> &Connection<IO> {
        self.connection.as_ref().expect(TAKEN)
    }

    /// Returns the connection mutably.
    pub fn get_mut(&mut self) -> &mut Connection<IO> {
        self.connection.as_mut().expect(TAKEN)
    }

    /// Returns the connection, which no longer lingers when it is dropped.
    pub fn into_inner(mut self) -> Connection<IO> {
        self.take()
    }

    /// Takes the connection out. Only a drop may follow.
    pub(crate) fn take(&mut self) -> Connection<IO> {
        self.connection.take().expect(TAKEN)
    }

    /// Returns the limits of lingering.
    #[cfg(feature = "http")]
    pub(crate) const fn bounds(&self) -> Linger {
        self.linger
    }

    /// Makes the drop close the connection immediately.
    #[cfg(feature = "http")]
    pub(crate) const fn do_not_linger(&mut self) {
        self.failed = true;
    }

    #[inline]
    fn pin(&mut self) -> Pin<&mut Connection<IO>>
    where
        IO: Unpin,
    {
        Pin::new(self.get_mut())
    }

    #[inline]
    fn note<T>(&mut self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.failed |= matches!(result, Poll::Ready(Err(_)));
        result
    }
}

impl<IO> Drop for LingerIo<IO> {
    fn drop(&mut self) {
        let ended = self.input_ended && self.output_ended;
        if self.failed || ended || thread::panicking() {
            return;
        }
        if let Some(connection) = self.connection.take() {
            (self.close)(connection, self.linger);
        }
    }
}

impl<IO: fmt::Debug> fmt::Debug for LingerIo<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LingerIo")
            .field("connection", &self.connection)
            .field("linger", &self.linger)
            .finish_non_exhaustive()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for LingerIo<IO> {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let remaining = buf.remaining();
        let result = self.pin().poll_read(cx, buf);
        ready!(self.note(result))?;
        self.input_ended |= remaining > 0 && buf.remaining() == remaining;
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for LingerIo<IO> {
    #[inline]
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = self.pin().poll_write(cx, buf);
        self.note(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = self.pin().poll_flush(cx);
        self.note(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = self.pin().poll_shutdown(cx);
        ready!(self.note(result))?;
        self.output_ended = true;
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = self.pin().poll_write_vectored(cx, bufs);
        self.note(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.get_ref().is_write_vectored()
    }
}

fn close_in_task<IO>(connection: Connection<IO>, linger: Linger)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Outside of a runtime the connection is dropped here.
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(async move {
            // The caller that dropped the connection expects no result.
            let _ = connection.close_within(linger).await;
        });
    }
}

const TAKEN: &str = "the connection is there until it is taken out or dropped";

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_middleware::{
        connection::{Phase, Socket},
        testing::in_memory,
    };
    use std::time::Duration;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::sleep,
    };

    type Ours = LingerIo<Socket<DuplexStream>>;

    fn pair() -> (Ours, DuplexStream) {
        let (connection, theirs) = in_memory(64);
        (LingerIo::new(connection, Linger::new()), theirs)
    }

    /// Whether the drop spawns a task that lingers.
    fn lingers(io: Ours) -> bool {
        let metrics = Handle::current().metrics();
        let before = metrics.num_alive_tasks();
        drop(io);
        metrics.num_alive_tasks() > before
    }

    #[tokio::test(start_paused = true)]
    async fn a_drop_flushes_ends_and_discards_input_until_the_peer_ends() {
        let (mut io, mut peer) = pair();
        let info = io.get_ref().info().clone();
        io.write_all(b"bye").await.unwrap();
        drop(io);
        let mut received = String::new();
        peer.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "bye");
        // More than fits into the pipe, so it must be read.
        peer.write_all(&[b'x'; 1000]).await.unwrap();
        sleep(Duration::from_secs(4)).await;
        peer.write_all(b"x").await.unwrap();
        assert_eq!(info.phase(), Phase::Closing);
        drop(peer);
        sleep(Duration::from_millis(1)).await;
        assert_eq!((info.phase(), info.bytes_read()), (Phase::Closed, 1001));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_stays_is_waited_for_within_the_bounds() {
        for (silence, expected) in [(9, 9), (70, 30)] {
            let (ours, _peer) = duplex(64);
            let linger = Linger::new().with_idle_timeout(Duration::from_secs(silence));
            let connection = Connection::accept(ours);
            let info = connection.info().clone();
            drop(LingerIo::new(connection, linger));
            sleep(Duration::from_secs(expected) - Duration::from_millis(1)).await;
            assert_eq!(info.phase(), Phase::Closing, "{silence}");
            sleep(Duration::from_millis(2)).await;
            assert_eq!(info.phase(), Phase::Closed, "{silence}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_reads_nothing_and_what_the_peer_sends_then_is_there() {
        let (mut io, mut peer) = pair();
        peer.write_all(b"before").await.unwrap();
        io.shutdown().await.unwrap();
        peer.write_all(b" and after").await.unwrap();
        let mut received = [0; 16];
        io.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"before and after");
        io.shutdown().await.unwrap();
        assert!(lingers(io));
    }

    #[tokio::test]
    async fn nothing_lingers_after_both_ends_after_a_failure_or_when_taken_out() {
        let (mut io, peer) = pair();
        drop(peer);
        assert_eq!(io.read(&mut [0]).await.unwrap(), 0);
        io.shutdown().await.unwrap();
        assert!(!lingers(io), "both sides have ended");

        let (mut io, peer) = pair();
        drop(peer);
        io.write_all(b"x").await.unwrap_err();
        assert!(!lingers(io), "a write failed");

        let (mut io, _peer) = pair();
        io.get_ref().info().force_close();
        io.read(&mut [0]).await.unwrap_err();
        assert!(!lingers(io), "closed from outside");

        let (io, _peer) = pair();
        drop(io.into_inner());
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    }

    #[tokio::test]
    async fn an_end_of_input_alone_is_answered_by_ours() {
        let (mut io, mut peer) = pair();
        peer.shutdown().await.unwrap();
        assert_eq!(io.read(&mut [0]).await.unwrap(), 0);
        assert!(lingers(io));
        assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
    }

    #[test]
    fn without_a_runtime_or_in_a_panic_the_connection_is_dropped() {
        let (io, _peer) = pair();
        let info = io.get_ref().info().clone();
        drop(io);
        assert_eq!(info.phase(), Phase::Closed);

        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(async {
            let (io, _peer) = pair();
            let info = io.get_ref().info().clone();
            let task = tokio::spawn(async move {
                let _io = io;
                panic!("on purpose")
            });
            task.await.unwrap_err();
            assert_eq!(info.phase(), Phase::Closed);
        });
    }
}
