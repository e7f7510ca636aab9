//! The IO wrapper.

use super::{
    BadText, UnsupportedCharset,
    decode::Decode,
    encode::{Encode, ROOM},
    layer::TranscodeSettings,
};
use crate::stream::write_buffer::WriteBufferIo;
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

/// IO that is UTF-8 outside and another charset inside; see the [module docs](super).
///
/// A read returns whole characters where its buffer has room for them, and their parts where not. It
/// returns nothing only at the end.
///
/// # Cancel safety
///
/// A read that was dropped lost nothing, a write that was dropped took nothing.
#[pin_project]
pub struct TranscodeIo<IO> {
    /// Converted text has to stay somewhere, and to go out before a read waits.
    #[pin]
    io: WriteBufferIo<IO>,
    input: Decode,
    output: Encode,
    /// Came up when the operation had taken something already; the next one tells it.
    failure: Option<io::Error>,
    encoding: &'static Encoding,
}

impl<IO> TranscodeIo<IO> {
    /// Speaks `encoding` with `io`.
    ///
    /// # Errors
    ///
    /// As [`TranscodeLayer::new`](super::TranscodeLayer::new); `io` is dropped.
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
            io: WriteBufferIo::new(io, BUFFER),
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

    /// The IO inside.
    pub const fn get_ref(&self) -> &IO {
        self.io.get_ref()
    }

    /// The IO inside; what is moved through it is not converted, and may overtake what is.
    pub const fn get_mut(&mut self) -> &mut IO {
        self.io.get_mut()
    }

    /// Takes the IO out; what was converted and is not sent or not read yet is lost.
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
        ready!(this.io.as_mut().poll_room(cx, ROOM))?;
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
        // At once, as far as it goes: many handlers never flush. What stays is not lost.
        if let Poll::Ready(Err(error)) = this.io.poll_send(cx) {
            *this.failure = Some(error);
        }
        Poll::Ready(Ok(taken))
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
        // A part of a character is no text yet: on to the next part.
        while !this.input.drain(buf, before)? {
            let mut wire = [MaybeUninit::uninit(); WIRE];
            let room = Decode::wire_room(buf.remaining()).min(WIRE);
            let mut wire = ReadBuf::uninit(&mut wire[..room]);
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
            // No buffer only to find out that nothing goes into it.
            if this.output.owes_an_end() {
                ready!(this.io.as_mut().poll_room(cx, ROOM))?;
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

    /// The parts are gathered whether the IO inside can do that or not.
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

/// Most bytes that one read asks the IO for.
const WIRE: usize = 8 * 1024;

/// Most bytes that were converted and not sent.
const BUFFER: usize = 8 * 1024;
