//! The I/O object under hyper, which records activity and lingers.

use super::activity::{Activity, PREFACE};
use crate::service::LingerIo;
use portcullis_middleware::{Connection, connection::Lingering};
use std::{
    io::{self, IoSlice},
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection for hyper. An upgraded connection stays in it, with its guards.
#[derive(Debug)]
pub(super) struct HttpIo<IO> {
    /// Lingers on drop if hyper gives it away. Otherwise hyper shuts it down here.
    io: LingerIo<IO>,
    activity: Arc<Activity>,
    stage: IoStage,
}

#[derive(Debug)]
enum IoStage {
    /// The first bytes, until hyper reads them.
    First(First),
    Open,
    /// The write side is closed but the peer's side is open. Further input must not cause a reset, which
    /// would discard the response.
    Lingering(Lingering),
    Over,
}

impl<IO> HttpIo<IO> {
    pub(super) const fn new(io: LingerIo<IO>, activity: Arc<Activity>) -> Self {
        Self {
            io,
            activity,
            stage: IoStage::Open,
        }
    }

    pub(super) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Returns the connection, and first bytes that hyper has not read.
    pub(super) fn into_connection(mut self) -> (Connection<IO>, Vec<u8>) {
        let unread = match &self.stage {
            IoStage::First(first) => first.bytes[first.from..first.to].to_vec(),
            _ => Vec::new(),
        };
        (self.io.take(), unread)
    }
}

impl<IO> Drop for HttpIo<IO> {
    fn drop(&mut self) {
        // It was shut down, or must not appear to have ended gracefully. After a request for an upgrade, hyper gives
        // the connection away instead of shutting it down, also if the response declines the upgrade.
        let is_over = matches!(self.stage, IoStage::Over);
        if !self.activity.is_upgraded() && (is_over || self.activity.is_abandoned()) {
            self.io.do_not_linger();
        }
    }
}

impl<IO: AsyncRead + Unpin> HttpIo<IO> {
    /// Waits for input, or with `until_known` until the protocol is known; false at the end of input.
    pub(super) fn poll_first(
        &mut self,
        until_known: bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        loop {
            // At most what hyper reads first, so that this costs no extra read.
            let mut first = match mem::replace(&mut self.stage, IoStage::Open) {
                IoStage::First(first) => first,
                _ => First::new(),
            };
            let mut buf = ReadBuf::new(&mut first.bytes);
            buf.advance(first.to);
            let polled = Pin::new(&mut *self).poll_read(cx, &mut buf);
            let before = mem::replace(&mut first.to, buf.filled().len());
            let (received, more) = (first.to > 0, first.to > before);
            if received {
                self.stage = IoStage::First(first);
            }
            ready!(polled)?;
            if !more || !until_known || self.activity.protocol().is_some() {
                return Poll::Ready(Ok(received));
            }
        }
    }
}

/// The first bytes; it is filled before it is stored.
#[derive(Debug)]
struct First {
    bytes: [u8; PREFACE.len()],
    from: usize,
    to: usize,
}

impl First {
    const fn new() -> Self {
        Self {
            bytes: [0; PREFACE.len()],
            from: 0,
            to: 0,
        }
    }

    /// Moves as much as fits into `buf`; returns whether that was everything.
    fn read(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let left = &self.bytes[self.from..self.to];
        let taken = left.len().min(buf.remaining());
        buf.put_slice(&left[..taken]);
        self.from += taken;
        self.from == self.to
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for HttpIo<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let IoStage::First(first) = &mut self.stage {
            // Recorded when it arrived.
            if first.read(buf) {
                self.stage = IoStage::Open;
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let result = Pin::new(&mut self.io).poll_read(cx, buf);
        if result.is_pending() && self.activity.is_hung_up() {
            return Poll::Ready(Ok(()));
        }
        match ready!(result) {
            // h2 would accept this end as orderly, although it may have truncated a message.
            Err(error) if is_end_without_close_notify(&error) && self.activity.is_amid_http2() => {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, error)));
            }
            // HTTP/1 marks where a message ends, so hyper notices a truncated one.
            Err(error) if is_end_without_close_notify(&error) && !self.activity.is_upgraded() => {}
            result => result?,
        }
        self.activity.note_read(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

/// Whether TLS ended without `close_notify`, which many clients omit.
fn is_end_without_close_notify(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for HttpIo<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, buf);
        self.activity.note_write(&result);
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(cx);
        self.activity.note_write(&result);
        result
    }

    /// Closes the write side; unless upgraded, it also waits for the client's end.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.stage {
                IoStage::First(_) | IoStage::Open => {
                    let result = Pin::new(&mut this.io).poll_shutdown(cx);
                    this.activity.note_write(&result);
                    let result = ready!(result);
                    // In a tunnel, this may be the end of one direction.
                    if this.activity.is_upgraded() {
                        return Poll::Ready(result);
                    }
                    match result {
                        // The client has left, and hyper has already flushed its response.
                        Err(_) if this.activity.input_ended() => {}
                        result => result?,
                    }
                    let bounds = this.io.bounds();
                    // A client without a first byte has no response to lose, and an idle one may have been
                    // silent for long enough.
                    let ended = this.activity.input_ended()
                        || this.activity.is_hung_up()
                        || this.activity.idle_for() >= bounds.silence();
                    this.stage = match ended {
                        true => IoStage::Over,
                        false => {
                            this.activity.note_lingering();
                            IoStage::Lingering(this.io.get_mut().linger(bounds))
                        }
                    };
                }
                IoStage::Lingering(lingering) => {
                    ready!(lingering.poll(cx, this.io.get_mut()));
                    this.stage = IoStage::Over;
                }
                IoStage::Over => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.activity.note_write(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_middleware::{connection::Linger, testing::info};
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    fn http_io() -> (HttpIo<DuplexStream>, DuplexStream) {
        let (ours, client) = duplex(1024);
        let info = info();
        let activity = Activity::new(info.clone());
        let io = LingerIo::new(Connection::new(ours, info), Linger::new());
        (HttpIo::new(io, activity), client)
    }

    #[tokio::test]
    async fn what_came_first_is_read_before_the_rest_however_it_is_cut() {
        let request = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
        let cuts = (1..=request.len()).flat_map(|piece| [(piece, false), (piece, true)]);
        for (piece, until_known) in cuts {
            let (mut io, mut client) = http_io();
            client.write_all(&request[..piece]).await.unwrap();
            poll_fn(|cx| io.poll_first(until_known, cx)).await.unwrap();
            client.write_all(&request[piece..]).await.unwrap();
            client.shutdown().await.unwrap();
            let (mut read, mut buf) = (Vec::new(), [0; 5]);
            while let count @ 1.. = io.read(&mut buf).await.unwrap() {
                read.extend_from_slice(&buf[..count]);
            }
            assert_eq!(read, request, "{piece}");
        }
    }

    /// A peer that has closed its side, and to which data cannot be delivered.
    #[derive(Debug)]
    struct Gone;

    impl AsyncRead for Gone {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Gone {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }
    }

    #[tokio::test]
    async fn a_shutdown_that_fails_is_an_error_in_a_tunnel_alone_where_the_client_has_ended() {
        for upgraded in [false, true] {
            let info = info();
            let activity = Activity::new(info.clone());
            let io = LingerIo::new(Connection::new(Gone, info), Linger::new());
            let mut io = HttpIo::new(io, activity.clone());
            assert_eq!(io.read(&mut [0]).await.unwrap(), 0);
            if upgraded {
                activity.begin().upgrades();
            }
            assert_eq!(io.shutdown().await.is_err(), upgraded);
        }
    }

    #[tokio::test]
    async fn an_end_that_comes_first_is_read_as_an_end() {
        let (mut io, client) = http_io();
        drop(client);
        poll_fn(|cx| io.poll_first(true, cx)).await.unwrap();
        assert_eq!(io.read(&mut [0]).await.unwrap(), 0);
        assert!(io.activity.input_ended());
    }
}
