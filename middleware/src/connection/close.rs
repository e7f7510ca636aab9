//! The polite end of a connection.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::{Instant, Sleep, sleep_until, timeout_at},
};

/// Bounds of a lingering close: how long, and how much input is thrown away.
///
/// By default one second and 256 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linger {
    time: Duration,
    bytes: usize,
}

impl Linger {
    /// At most one second and 256 KiB.
    pub const fn new() -> Self {
        Self {
            time: Duration::from_secs(1),
            bytes: 256 * 1024,
        }
    }

    /// Sets how long the whole close may take, the flush included.
    #[must_use]
    pub const fn with_time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// Sets how many bytes of input are read and thrown away.
    #[must_use]
    pub const fn with_bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }
}

impl Default for Linger {
    fn default() -> Self {
        Self::new()
    }
}

impl Linger {
    /// Begins to discard input; the write side has ended.
    pub fn begin(self) -> Lingering {
        let now = Instant::now();
        self.until(now.checked_add(self.time).unwrap_or(now + FOREVER))
    }

    fn until(self, deadline: Instant) -> Lingering {
        Lingering {
            bytes: self.bytes,
            deadline: Box::pin(sleep_until(deadline)),
        }
    }
}

/// The rest of a polite close, for IO that is polled: input is read and thrown away.
///
/// [`Connection::close`](super::Connection::close) does it all.
#[derive(Debug)]
pub struct Lingering {
    bytes: usize,
    deadline: Pin<Box<Sleep>>,
}

impl Lingering {
    /// Discards input of `io`; ready when the peer has ended too, or a bound is reached.
    pub fn poll(&mut self, cx: &mut Context<'_>, io: &mut (impl AsyncRead + Unpin)) -> Poll<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        while self.bytes > 0 {
            let mut buffer = ReadBuf::uninit(&mut buffer);
            match Pin::new(&mut *io).poll_read(cx, &mut buffer) {
                // What the peer still sends concerns nobody; neither does an error on the way.
                Poll::Ready(result) if result.is_err() || buffer.filled().is_empty() => break,
                Poll::Ready(_) => self.bytes = self.bytes.saturating_sub(buffer.filled().len()),
                Poll::Pending => return self.deadline.as_mut().poll(cx),
            }
        }
        Poll::Ready(())
    }
}

/// Flushes, ends the write side, and discards input until the peer ends too or a bound is reached.
pub(super) async fn close<IO>(io: &mut IO, linger: Linger) -> io::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let now = Instant::now();
    let deadline = now.checked_add(linger.time).unwrap_or(now + FOREVER);
    timeout_at(deadline, async {
        io.flush().await?;
        io.shutdown().await
    })
    .await??;
    let mut lingering = linger.until(deadline);
    poll_fn(|cx| lingering.poll(cx, io)).await;
    Ok(())
}

/// As good as no bound.
const FOREVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);
