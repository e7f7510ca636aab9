//! The stream wrapper.

use super::{
    BadText, UnsupportedCharset,
    decode::Decode,
    encode::{Encode, FREE},
    layer::TranscodeSettings,
};
use crate::{
    io::Passthrough,
    stream::write_buffer::{DEFAULT_BYTES, WriteBufferIo},
};
use encoding_rs::Encoding;
use pin_project::pin_project;
use std::{
    fmt,
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A UTF-8 stream over one in another charset; see the [module docs](super).
///
/// A read returns whole characters if they fit into its buffer, and parts of them otherwise. It returns
/// zero bytes only at the end of the stream.
///
/// # Cancel safety
///
/// All operations are cancel safe.
#[pin_project]
pub struct TranscodeIo<IO> {
    /// Buffers converted text, and sends it before a read waits.
    #[pin]
    io: WriteBufferIo<IO>,
    input: Decode,
    output: Encode,
    /// Occurred after the operation had accepted text; the next operation returns it.
    failure: Option<io::Error>,
    encoding: &'static Encoding,
}

impl<IO> TranscodeIo<IO> {
    /// Uses `encoding` on the stream `io`.
    ///
    /// # Errors
    ///
    /// Fails like [`TranscodeLayer::new`](super::TranscodeLayer::new), and drops `io`.
    pub fn new(
        io: IO,
        encoding: &'static Encoding,
        bad_text: BadText,
    ) -> Result<Self, UnsupportedCharset> {
        let settings = TranscodeSettings::new(encoding)?;
        Ok(Self::with_settings(
            io,
            TranscodeSettings {
                bad_text,
                ..settings
            },
        ))
    }

    pub(super) fn with_settings(io: IO, settings: TranscodeSettings) -> Self {
        Self {
            io: WriteBufferIo::new(io, DEFAULT_BYTES),
            input: Decode::new(settings),
            output: Encode::new(settings),
            failure: None,
            encoding: settings.encoding,
        }
    }

    /// The charset of the wire.
    pub const fn encoding(&self) -> &'static Encoding {
        self.encoding
    }

    /// Returns a reference to the inner stream.
    pub const fn get_ref(&self) -> &IO {
        self.io.get_ref()
    }

    /// Returns a mutable reference to the inner stream, which bypasses conversion and buffers.
    pub const fn get_mut(&mut self) -> &mut IO {
        self.io.get_mut()
    }

    /// Returns the inner stream and drops converted text that was not yet sent or read.
    pub fn into_inner(self) -> IO {
        self.io.into_inner()
    }
}

#[cfg(test)]
impl<IO> TranscodeIo<IO> {
    pub(super) fn buffer_capacity(&self) -> usize {
        self.io.buffer_capacity()
    }

    pub(super) const fn undecoded(&self) -> usize {
        self.input.undecoded()
    }
}

impl<IO: AsyncWrite> TranscodeIo<IO> {
    fn poll_write_texts<'a>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        texts: impl Iterator<Item = &'a [u8]>,
    ) -> Poll<io::Result<usize>> {
        let mut this = self.project();
        if let Some(failure) = this.failure.take() {
            return Poll::Ready(Err(failure));
        }
        if this.output.is_finished() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(this.io.as_mut().poll_capacity(cx, FREE))?;
        let wire = this.io.as_mut().buffer();
        let mut taken = 0;
        for text in texts {
            match this.output.take(text, wire) {
                Ok(length) => {
                    taken += length;
                    if length < text.len() {
                        break;
                    }
                }
                Err(error) if taken == 0 => return Poll::Ready(Err(error.into())),
                Err(error) => {
                    *this.failure = Some(error.into());
                    break;
                }
            }
        }
        // Send immediately, because many handlers never flush. The rest stays buffered.
        if let Poll::Ready(Err(error)) = this.io.poll_send(cx) {
            *this.failure = Some(error);
        }
        Poll::Ready(Ok(taken))
    }
}

impl<IO: Passthrough> Passthrough for TranscodeIo<IO> {
    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.io.poll_departure(cx)
    }

    fn has_unread(&self) -> bool {
        self.io.has_unread()
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_sent(cx)
    }
}

impl<IO: AsyncRead + AsyncWrite> AsyncRead for TranscodeIo<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut this = self.project();
        let before = buf.filled().len();
        // A part of a character yields no text, so read on.
        while !this.input.drain(buf, before)? {
            let mut wire = [MaybeUninit::uninit(); WIRE];
            let capacity = Decode::wire_capacity(buf.remaining()).min(WIRE);
            let mut wire = ReadBuf::uninit(&mut wire[..capacity]);
            ready!(this.io.as_mut().poll_read(cx, &mut wire))?;
            this.input.feed(wire.filled(), buf);
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite> AsyncWrite for TranscodeIo<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_texts(cx, [buf].into_iter())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        match this.failure.take() {
            Some(failure) => Poll::Ready(Err(failure)),
            None => this.io.poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.project();
        if let Some(failure) = this.failure.take() {
            return Poll::Ready(Err(failure));
        }
        if !this.output.is_finished() {
            // Allocate the buffer only if the end takes bytes.
            if this.output.owes_an_end() {
                ready!(this.io.as_mut().poll_capacity(cx, FREE))?;
                this.output.finish(this.io.as_mut().buffer())?;
            } else {
                this.output.finish(&mut Vec::new())?;
            }
            this.input.forgive();
        }
        this.io.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_texts(cx, bufs.iter().map(|buf| &**buf))
    }

    /// Buffers are gathered even if the inner stream cannot do that.
    fn is_write_vectored(&self) -> bool {
        true
    }
}

impl<IO: fmt::Debug> fmt::Debug for TranscodeIo<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TranscodeIo")
            .field("io", &self.io)
            .field("encoding", &self.encoding.name())
            .finish_non_exhaustive()
    }
}

/// Maximum number of bytes that one read requests from the stream.
const WIRE: usize = 8 * 1024;
