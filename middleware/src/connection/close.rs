//! The polite end of a connection.

use std::{io, mem::MaybeUninit, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::{Instant, timeout_at},
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
    // What the peer still sends concerns nobody; neither does an error on the way.
    // In a box, so that its buffer is there only now, and not in the task from the beginning.
    let _ = timeout_at(deadline, Box::pin(discard(io, linger.bytes))).await;
    Ok(())
}

async fn discard(io: &mut (impl AsyncRead + Unpin), mut bytes: usize) -> io::Result<()> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    while bytes > 0 {
        let mut buffer = ReadBuf::uninit(&mut buffer);
        let read = io.read_buf(&mut buffer).await?;
        if read == 0 {
            break;
        }
        bytes = bytes.saturating_sub(read);
    }
    Ok(())
}

/// As good as no bound.
const FOREVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);
