//! A stream over rustls' unbuffered API.

use super::{
    records::{Records, UnbufferedSession},
    rustls::{CommonState, ProtocolVersion},
    scratch::{BATCH, MAX_PLAINTEXT, with_scratch},
};
use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The plaintext of a TLS connection that holds no buffer while it is idle.
///
/// It reads ciphertext into the scratch of the thread, as much as fills the caller's buffer with full records.
/// It seals up to eight records and sends them with one write. What the socket does not accept is kept, and
/// sent before more is sealed.
pub(super) struct Unbuffered<IO, S> {
    io: IO,
    records: Records<S>,
}

impl<IO, S: UnbufferedSession> Unbuffered<IO, S> {
    pub(super) const fn new(io: IO, records: Records<S>) -> Self {
        Self { io, records }
    }

    pub(super) const fn get_ref(&self) -> &IO {
        &self.io
    }

    pub(super) const fn get_mut(&mut self) -> &mut IO {
        &mut self.io
    }

    pub(super) fn into_inner(self) -> IO {
        self.io
    }

    pub(super) fn state(&self) -> &CommonState {
        self.records.state()
    }

    #[cfg(all(test, any(feature = "aws-lc-rs", feature = "ring")))]
    pub(super) fn held_bytes(&self) -> usize {
        self.records.held_bytes()
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin, S: UnbufferedSession> Unbuffered<IO, S> {
    /// Performs the handshake of a client.
    pub(super) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(self.poll_flights(cx));
        if result.is_err() {
            // The alert; the failure is what counts.
            let _ = self.poll_send(cx);
        }
        Poll::Ready(result)
    }

    fn poll_flights(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Without input, the session begins.
        self.records.handshake(&[])?;
        loop {
            ready!(self.poll_send(cx))?;
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            if !self.state().is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            ready!(with_scratch(|scratch| {
                let mut input = ReadBuf::new(&mut scratch[..MAX_PLAINTEXT]);
                ready!(Pin::new(&mut self.io).poll_read(cx, &mut input))?;
                if input.filled().is_empty() {
                    let text = "the server closed the connection during the handshake";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, text)));
                }
                Poll::Ready(self.records.handshake(input.filled()))
            }))?;
        }
    }

    /// Reads ahead and returns what the next read will return; empty when the peer has ended its side.
    pub(super) fn poll_fill_buf(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        if self.records.plaintext().is_empty() {
            ready!(self.poll_receive(cx, &mut ReadBuf::new(&mut [])))?;
        }
        Poll::Ready(Ok(self.records.plaintext().rest()))
    }

    /// Waits for plaintext or the end. What does not fit into `buf` is kept.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.records.peer_has_ended() {
            return Poll::Ready(Ok(()));
        }
        self.records.check()?;
        with_scratch(|scratch| {
            let rest = self.records.take_input();
            let mut filled = rest.len();
            scratch[..filled].copy_from_slice(&rest);
            drop(rest);
            let result = self.poll_open(cx, buf, scratch, &mut filled);
            self.records.keep_input(&scratch[..filled]);
            result
        })
    }

    /// Receives into `scratch`, whose first `filled` bytes are the beginning of a record.
    fn poll_open(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        scratch: &mut [u8],
        filled: &mut usize,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        loop {
            let end = self.wanted(&scratch[..*filled], buf.remaining());
            let end = end.min(scratch.len());
            let mut input = ReadBuf::new(&mut scratch[*filled..end]);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut input))?;
            let received = input.filled().len();
            if received == 0 {
                return Poll::Ready(Err(truncated()));
            }
            *filled += received;
            let done = self.records.open(&mut scratch[..*filled], buf);
            scratch.copy_within(done..*filled, 0);
            *filled -= done;
            let is_plaintext = buf.filled().len() > before || !self.records.plaintext().is_empty();
            if let Err(error) = self.records.check() {
                // The alert; the failure is what counts.
                let _ = self.poll_send(cx);
                if !is_plaintext {
                    return Poll::Ready(Err(error));
                }
            }
            if is_plaintext || self.records.peer_has_ended() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// The input to receive in total: full records for `space`, but at least the whole of a record that has
    /// begun. A read then rarely ends within a record, whose beginning would be copied.
    fn wanted(&self, begun: &[u8], space: usize) -> usize {
        let overhead = match self.state().protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => 22,
            _ => 29,
        };
        let records = (space / MAX_PLAINTEXT).max(1);
        let full = records * (MAX_PLAINTEXT + overhead);
        let first = match begun {
            [_, _, _, high, low, ..] => 5 + usize::from(u16::from_be_bytes([*high, *low])),
            _ => 0,
        };
        match full.max(first) {
            // A handshake message that goes on in the next record.
            wanted if wanted <= begun.len() => begun.len() + MAX_PLAINTEXT,
            wanted => wanted,
        }
    }

    /// Sends the records that are kept.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let output = self.records.output();
        while !output.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, output.rest()))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            output.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until another batch may be sealed.
    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.records.has_ended() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.poll_send(cx)
    }

    /// Seals a batch and sends what the socket accepts. Returns the length of the plaintext.
    fn seal(&mut self, cx: &mut Context<'_>, plaintext: &[u8]) -> io::Result<usize> {
        let plaintext = &plaintext[..plaintext.len().min(BATCH)];
        with_scratch(|scratch| {
            let (taken, length) = self.records.seal(plaintext, scratch)?;
            let mut rest = &scratch[..length];
            while self.records.output().is_empty() && !rest.is_empty() {
                match Pin::new(&mut self.io).poll_write(cx, rest)? {
                    Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Poll::Ready(written) => rest = &rest[written..],
                    Poll::Pending => break,
                }
            }
            self.records.output().push(rest);
            Ok(taken)
        })
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin, S: UnbufferedSession + Unpin> AsyncRead
    for Unbuffered<IO, S>
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.records.plaintext().is_empty() && buf.remaining() > 0 {
            return self.poll_receive(cx, buf);
        }
        self.records.plaintext().read(buf);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin, S: UnbufferedSession + Unpin> AsyncWrite
    for Unbuffered<IO, S>
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(self.poll_writable(cx))?;
        Poll::Ready(self.seal(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut parts = bufs.iter().filter(|part| !part.is_empty());
        let (first, second) = (parts.next(), parts.next());
        if second.is_none() {
            return self.poll_write(cx, first.map_or(&[], |part| part));
        }
        ready!(self.poll_writable(cx))?;
        // Parts share records, so they are gathered.
        with_scratch(|scratch| {
            let mut filled = 0;
            for part in bufs {
                let length = part.len().min(BATCH - filled);
                scratch[filled..filled + length].copy_from_slice(&part[..length]);
                filled += length;
            }
            Poll::Ready(self.seal(cx, &scratch[..filled]))
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.records.close();
        ready!(self.poll_send(cx))?;
        match ready!(Pin::new(&mut self.io).poll_shutdown(cx)) {
            // The peer is gone, so that nothing is left to end.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }
}

impl<IO: fmt::Debug, S> fmt::Debug for Unbuffered<IO, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the session, which holds keys.
        f.debug_struct("Unbuffered")
            .field("io", &self.io)
            .finish_non_exhaustive()
    }
}

fn truncated() -> io::Error {
    let text = "the peer closed the connection without close_notify";
    io::Error::new(io::ErrorKind::UnexpectedEof, text)
}
