//! The stream as the inner service gets it.

use super::lend::LentState;
use crate::io::{Passthrough, Pipe};
use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that returns to [`OnError`](super::OnError) when it is dropped.
///
/// It passes operations through to the inner stream without cost.
pub struct Lent<IO> {
    /// `None` only after `into_inner`, because fields cannot be moved out of a type with `Drop`.
    io: Option<IO>,
    state: Arc<LentState<IO>>,
}

impl<IO> Lent<IO> {
    pub(super) const fn new(io: IO, state: Arc<LentState<IO>>) -> Self {
        Self {
            io: Some(io),
            state,
        }
    }

    /// Returns a reference to the inner stream.
    pub fn get_ref(&self) -> &IO {
        self.io.as_ref().expect(TAKEN)
    }

    /// Returns a mutable reference to the inner stream.
    pub fn get_mut(&mut self) -> &mut IO {
        self.io.as_mut().expect(TAKEN)
    }

    /// Returns the inner stream, after which an error handler gets `None` for the connection.
    pub fn into_inner(mut self) -> IO {
        self.io.take().expect(TAKEN)
    }
}

impl<IO: Unpin> Lent<IO> {
    fn io(self: Pin<&mut Self>) -> Pin<&mut IO> {
        Pin::new(self.get_mut().get_mut())
    }
}

impl<IO> Drop for Lent<IO> {
    fn drop(&mut self) {
        if let Some(io) = self.io.take() {
            self.state.give_back(io);
        }
    }
}

impl<IO: fmt::Debug> fmt::Debug for Lent<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lent").field(self.get_ref()).finish()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Lent<IO> {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.io().poll_read(cx, buf)
    }
}

impl<IO: Passthrough> Passthrough for Lent<IO> {
    fn is_passthrough(&self) -> bool {
        self.get_ref().is_passthrough()
    }

    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.get_mut().poll_departure(cx)
    }

    fn has_unread(&self) -> bool {
        self.get_ref().has_unread()
    }

    fn poll_read_to_pipe(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_read_to_pipe(cx, pipe)
    }

    fn poll_write_from_pipe(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_from_pipe(cx, pipe)
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_sent(cx)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Lent<IO> {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.io().poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.get_ref().is_write_vectored()
    }
}

const TAKEN: &str = "the stream is present until `into_inner` consumes the wrapper";

#[cfg(test)]
mod tests {
    use super::super::lend::lend;
    use crate::testing::connection;
    use std::{
        io::{self, IoSlice},
        pin::Pin,
        task::{Context, Poll},
    };
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

    /// Records its operations.
    #[derive(Debug)]
    struct Recorder(Vec<&'static str>);

    impl AsyncRead for Recorder {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.0.push("read");
            buf.put_slice(b"r");
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Recorder {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.push("write");
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.0.push("flush");
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.0.push("shutdown");
            Poll::Ready(Ok(()))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.0.push("write vectored");
            Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }
    }

    #[tokio::test]
    async fn every_operation_passes_through() {
        let (mut lent, lender) = lend(connection(Recorder(Vec::new())));
        assert_eq!(lent.read_u8().await.unwrap(), b'r');
        assert_eq!(lent.write(b"12").await.unwrap(), 2);
        assert!(lent.is_write_vectored());
        let bufs = [IoSlice::new(b"1"), IoSlice::new(b"23")];
        assert_eq!(lent.write_vectored(&bufs).await.unwrap(), 3);
        lent.flush().await.unwrap();
        lent.shutdown().await.unwrap();
        assert!(format!("{lent:?}").contains("Lent(Recorder"));
        lent.get_mut().get_mut().0.push("get_mut");

        drop(lent);

        let back = lender.take_back(&"no".into()).unwrap();
        let expected = [
            "read",
            "write",
            "write vectored",
            "flush",
            "shutdown",
            "get_mut",
        ];
        assert_eq!(back.get_ref().0, expected);
    }
}
