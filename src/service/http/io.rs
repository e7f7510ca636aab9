//! The bytes under hyper: watched, and ended politely.

use super::exchanges::Exchanges;
use portcullis_middleware::{
    Connection,
    connection::{Linger, Lingering},
};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection as hyper has it. An upgraded one lives on in here, with its guards.
#[derive(Debug)]
pub(super) struct HttpIo<IO> {
    connection: Connection<IO>,
    exchanges: Arc<Exchanges>,
    end: End,
}

#[derive(Debug)]
enum End {
    Open,
    /// The write side has ended, the peer's has not: what still comes in must not cause a reset, which
    /// would take the response back.
    Lingering(Lingering),
    Over,
}

impl<IO> HttpIo<IO> {
    pub(super) const fn new(connection: Connection<IO>, exchanges: Arc<Exchanges>) -> Self {
        Self {
            connection,
            exchanges,
            end: End::Open,
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for HttpIo<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.connection).poll_read(cx, buf);
        if result.is_pending() && self.exchanges.is_hung_up() {
            return Poll::Ready(Ok(()));
        }
        ready!(result)?;
        self.exchanges.note_read(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for HttpIo<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.connection).poll_write(cx, buf);
        self.exchanges.note_write(&result);
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.connection).poll_flush(cx);
        self.exchanges.note_write(&result);
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.end {
                End::Open => {
                    let result = Pin::new(&mut this.connection).poll_shutdown(cx);
                    this.exchanges.note_write(&result);
                    ready!(result)?;
                    this.end = match this.exchanges.input_ended() {
                        true => End::Over,
                        false => {
                            this.exchanges.note_lingering();
                            End::Lingering(Linger::new().begin())
                        }
                    };
                }
                End::Lingering(lingering) => {
                    ready!(lingering.poll(cx, &mut this.connection));
                    this.end = End::Over;
                }
                End::Over => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.connection).poll_write_vectored(cx, bufs);
        self.exchanges.note_write(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }
}
