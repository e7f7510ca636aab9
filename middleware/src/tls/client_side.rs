//! A client during the server's handshake: its input, and whether it is connected.

use super::{
    common::invalid,
    handshake::HandshakeFailure,
    handshake_limit::HandshakeLimit,
    hello::{Hello, MAX_HELLO, Progress},
    negotiation::{Negotiation, Session},
    not_tls::NotTls,
    rustls::{self, InvalidMessage},
};
use crate::departure::poll_departure;
use std::{
    future::poll_fn,
    io::{self, IoSlice},
    mem::{self, MaybeUninit},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::SemaphorePermit,
};

/// The stream of a client during its handshake, with unprocessed input.
///
/// A silent client takes only this much memory. The input is allocated when it arrives.
#[derive(Debug)]
pub(super) struct Client<IO> {
    io: IO,
    input: Vec<u8>,
    /// The client has ended its side.
    ended: bool,
}

impl<IO: AsyncRead + AsyncWrite + Unpin + 'static> Client<IO> {
    pub(super) const fn new(io: IO) -> Self {
        let input = Vec::new();
        let ended = false;
        Self { io, input, ended }
    }

    pub(super) fn into_io(self) -> IO {
        self.io
    }

    /// Waits for the whole ClientHello (true), or for input that is something else (false).
    pub(super) async fn hello(&mut self) -> Result<bool, HandshakeFailure> {
        let mut hello = Hello::default();
        loop {
            self.receive().await?;
            match hello.advance(&self.input) {
                Progress::Partial => {}
                Progress::Complete => return Ok(true),
                Progress::NoHello => return Ok(false),
                Progress::TooLong => {
                    self.send_bytes(&DECODE_ERROR).await;
                    let error = InvalidMessage::HandshakePayloadTooLarge;
                    return Err(invalid(rustls::Error::InvalidMessage(error)).into());
                }
            }
        }
    }

    /// Waits for some input.
    pub(super) async fn receive(&mut self) -> Result<(), HandshakeFailure> {
        poll_fn(|cx| self.poll_input(cx)).await?;
        self.check_connected()
    }

    /// Waits for a slot to process the input in. Set `must_stay` if a client that has already half-closed
    /// cannot be served.
    ///
    /// Continues to read, so that a client that has left is detected before its handshake computes anything.
    pub(super) async fn turn<'a>(
        &mut self,
        slots: &'a HandshakeLimit,
        must_stay: bool,
    ) -> Result<SemaphorePermit<'a>, HandshakeFailure> {
        let mut slot = pin!(slots.enter());
        poll_fn(|cx| {
            while !self.ended && self.input.len() < MAX_INPUT {
                match self.poll_input(cx) {
                    Poll::Ready(result) => result?,
                    Poll::Pending => break,
                }
            }
            if must_stay {
                self.check_connected()?;
                // The read above may have checked tokio's readiness only, which learns of an end later.
                if let Poll::Ready(reason) = poll_departure(&mut self.io, cx) {
                    return Poll::Ready(Err(reason.into()));
                }
            }
            slot.as_mut().poll(cx).map(Ok)
        })
        .await
    }

    /// The error if what it has sent is no TLS.
    pub(super) fn not_tls(&self) -> Option<io::Error> {
        let not_tls = NotTls::of(&self.input)?;
        Some(io::Error::new(io::ErrorKind::InvalidData, not_tls))
    }

    /// Processes all input. This is the expensive part: signatures, key exchange, certificates.
    pub(super) fn process(&mut self, negotiation: &mut Negotiation) -> io::Result<()> {
        let input = mem::take(&mut self.input);
        self.ended |= negotiation.process(&input)?;
        Ok(())
    }

    /// Sends `bytes` outside of a session, as far as the socket takes them immediately.
    async fn send_bytes(&mut self, bytes: &[u8]) {
        let mut io = Pin::new(&mut self.io);
        let _ = poll_fn(|cx| Poll::Ready(io.as_mut().poll_write(cx, bytes))).await;
    }

    /// Sends all output of `session`.
    pub(super) async fn send(&mut self, session: &mut Session) -> Result<(), HandshakeFailure> {
        poll_fn(|cx| self.poll_send(cx, session)).await?;
        Ok(())
    }

    /// Sends as much of an alert as the socket takes immediately.
    pub(super) async fn send_alert(&mut self, negotiation: &mut Negotiation) {
        match negotiation {
            Negotiation::Hello(_) => {}
            Negotiation::Session(_, session) => {
                let _ = poll_fn(|cx| Poll::Ready(self.poll_send(cx, session))).await;
            }
            Negotiation::Failed(alert) => self.send_bytes(alert).await,
        }
    }

    pub(super) fn check_connected(&self) -> Result<(), HandshakeFailure> {
        if self.ended {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, LEFT).into());
        }
        Ok(())
    }

    /// Reads once, and notes when the client has ended its side.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // On the stack, so that a client takes memory for the bytes it has sent and not for those it may
        // send.
        let mut buffer = [MaybeUninit::uninit(); READ];
        let mut buffer = ReadBuf::uninit(&mut buffer);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
        self.ended = buffer.filled().is_empty();
        self.input.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(()))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, session: &mut Session) -> Poll<io::Result<()>> {
        while session.wants_write() {
            let io = &mut self.io;
            match session.write_tls(&mut Blocking { io, cx }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }
}

/// The stream as rustls writes to it, with `WouldBlock` instead of a pending task.
struct Blocking<'a, 'b, IO> {
    io: &'a mut IO,
    cx: &'a mut Context<'b>,
}

impl<IO: AsyncWrite + Unpin> io::Write for Blocking<'_, '_, IO> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        would_block(Pin::new(&mut *self.io).poll_write(self.cx, bytes))
    }

    fn write_vectored(&mut self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        would_block(Pin::new(&mut *self.io).poll_write_vectored(self.cx, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        would_block(Pin::new(&mut *self.io).poll_flush(self.cx))
    }
}

fn would_block<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// Bytes of one read; a flight of a client is rarely larger.
const READ: usize = 4096;

/// Reading ahead stops here. One more read fills what a session accepts before its plaintext is read, because
/// data may directly follow the handshake and rustls buffers 16 KiB of it.
const MAX_INPUT: usize = MAX_HELLO - READ;

const LEFT: &str = "the client disconnected during the handshake";

/// A fatal alert in its own record (RFC 8446, sections 5.1 and 6.2).
const DECODE_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 50];
