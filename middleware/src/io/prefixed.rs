//! A stream that returns bytes again after they were read from it.

use super::{Passthrough, Pipe};
use crate::departure::unless_sent;
use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Returns bytes that were already read from the stream, then the rest of the stream.
///
/// Writes go to the stream unchanged. The buffer is freed once its bytes are read. Afterwards the wrapper
/// takes one word of memory and one comparison per read.
pub struct PrefixedIo<IO> {
    /// In a box, because it is gone for most of a connection's life.
    prefix: Option<Box<UnreadPrefix>>,
    io: IO,
}

/// Never empty.
struct UnreadPrefix {
    bytes: Vec<u8>,
    taken: usize,
}

impl<IO> PrefixedIo<IO> {
    /// Wraps `io` without a prefix.
    pub const fn new(io: IO) -> Self {
        Self { prefix: None, io }
    }

    /// Returns `bytes` first, then the bytes of `io`.
    ///
    /// ```
    /// use portcullis_middleware::io::PrefixedIo;
    /// use tokio::io::AsyncReadExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let mut stream: &[u8] = b"EHLO client";
    /// let mut peeked = [0; 4];
    /// stream.read_exact(&mut peeked).await?;
    ///
    /// let mut whole = String::new();
    /// PrefixedIo::with_prefix(stream, peeked.into()).read_to_string(&mut whole).await?;
    /// assert_eq!(whole, "EHLO client");
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_prefix(io: IO, bytes: Vec<u8>) -> Self {
        Self::with_unread(io, bytes, 0)
    }

    /// Returns `bytes` without the first `taken`, then the bytes of `io`.
    pub(crate) fn with_unread(io: IO, bytes: Vec<u8>, taken: usize) -> Self {
        let left = taken < bytes.len();
        let prefix = left.then(|| Box::new(UnreadPrefix { bytes, taken }));
        Self { prefix, io }
    }

    /// Puts `bytes` in front of the [prefix](Self::prefix) and the stream.
    ///
    /// ```
    /// use portcullis_middleware::io::PrefixedIo;
    /// use tokio::io::AsyncReadExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let mut stream = PrefixedIo::with_prefix(&b" client"[..], b"LO".to_vec());
    /// stream.prepend(b"EH");
    ///
    /// let mut whole = String::new();
    /// stream.read_to_string(&mut whole).await?;
    /// assert_eq!(whole, "EHLO client");
    /// # Ok(())
    /// # }
    /// ```
    pub fn prepend(&mut self, bytes: &[u8]) {
        let bytes = [bytes, self.prefix()].concat();
        let prefix = UnreadPrefix { bytes, taken: 0 };
        self.prefix = (!prefix.left().is_empty()).then(|| Box::new(prefix));
    }

    /// The bytes of the prefix that are still to be read.
    pub fn prefix(&self) -> &[u8] {
        self.prefix.as_ref().map_or(&[], |prefix| prefix.left())
    }

    /// The stream.
    pub const fn get_ref(&self) -> &IO {
        &self.io
    }

    /// The stream, mutably. Reading it directly overtakes the [prefix](Self::prefix).
    pub const fn get_mut(&mut self) -> &mut IO {
        &mut self.io
    }

    /// Returns the stream. A [prefix](Self::prefix) that is still unread is lost.
    pub fn into_inner(self) -> IO {
        self.io
    }

    fn io(self: Pin<&mut Self>) -> Pin<&mut IO>
    where
        IO: Unpin,
    {
        Pin::new(&mut self.get_mut().io)
    }
}

impl UnreadPrefix {
    fn left(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for PrefixedIo<IO> {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(prefix) = &mut self.prefix else {
            return self.io().poll_read(cx, buf);
        };
        let length = prefix.left().len().min(buf.remaining());
        buf.put_slice(&prefix.left()[..length]);
        prefix.taken += length;
        if prefix.left().is_empty() {
            self.prefix = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for PrefixedIo<IO> {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.io().poll_write(cx, buf)
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_flush(cx)
    }

    #[inline]
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_shutdown(cx)
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io().poll_write_vectored(cx, bufs)
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

impl<IO: Passthrough> Passthrough for PrefixedIo<IO> {
    fn is_passthrough(&self) -> bool {
        self.prefix.is_none() && self.io.is_passthrough()
    }

    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        unless_sent(!self.prefix().is_empty(), self.io.poll_departure(cx))
    }

    fn has_unread(&self) -> bool {
        !self.prefix().is_empty() || self.io.has_unread()
    }

    fn poll_read_to_pipe(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        match self.prefix {
            Some(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
            None => self.io.poll_read_to_pipe(cx, pipe),
        }
    }

    fn poll_write_from_pipe(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        self.io.poll_write_from_pipe(cx, pipe)
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_sent(cx)
    }
}

impl<IO: fmt::Debug> fmt::Debug for PrefixedIo<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the bytes, which may be sensitive.
        f.debug_struct("PrefixedIo")
            .field("prefix_len", &self.prefix().len())
            .field("io", &self.io)
            .finish()
    }
}
