//! The echo that every echo server runs.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Echoes until the peer half-closes, and then closes the connection.
///
/// It reads into [`BUFFER`] bytes on the stack of the worker, so that the memory of an idle connection is the
/// server's alone. Only data that the socket does not accept is kept.
pub(crate) async fn echo(mut io: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut kept = Kept::default();
    poll_fn(|cx| {
        loop {
            ready!(kept.poll_send(&mut io, cx))?;
            if ready!(poll_exchange(&mut io, &mut kept, cx))? == Step::End {
                return Poll::Ready(Ok::<_, io::Error>(()));
            }
        }
    })
    .await?;
    poll_fn(|cx| Pin::new(&mut io).poll_shutdown(cx)).await
}

/// Data that is not sent yet.
#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    sent: usize,
    flush: bool,
}

impl Kept {
    fn poll_send(
        &mut self,
        io: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.sent < self.bytes.len() {
            match ready!(Pin::new(&mut *io).poll_write(cx, &self.bytes[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        // Frees the memory, because the connection may now wait for long.
        if self.sent > 0 {
            *self = Self {
                flush: true,
                ..Self::default()
            };
        }
        if self.flush {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.flush = false;
        }
        Poll::Ready(Ok(()))
    }
}

#[derive(Debug, PartialEq)]
enum Step {
    Again,
    End,
}

/// One read, and as much of its echo as the socket accepts.
fn poll_exchange(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    kept: &mut Kept,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Step>> {
    let mut space = [MaybeUninit::uninit(); BUFFER];
    let mut read = ReadBuf::uninit(&mut space);
    ready!(Pin::new(&mut *io).poll_read(cx, &mut read))?;
    let mut answer = read.filled();
    if answer.is_empty() {
        return Poll::Ready(Ok(Step::End));
    }
    while !answer.is_empty() {
        match Pin::new(&mut *io).poll_write(cx, answer) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(written)) => answer = &answer[written..],
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => break,
        }
    }
    kept.bytes = answer.to_vec();
    kept.flush = true;
    Poll::Ready(Ok(Step::Again))
}

/// Most bytes of one read.
pub(crate) const BUFFER: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn everything_comes_back_also_through_a_narrow_pipe() {
        let (client, server) = duplex(100);
        let echo = tokio::spawn(echo(server));
        let (mut reader, mut writer) = tokio::io::split(client);
        let sent: Vec<u8> = (0..100_000_u32).map(|i| i as u8).collect();
        let message = sent.clone();
        tokio::spawn(async move {
            writer.write_all(&message).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        let mut back = Vec::new();
        reader.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, sent);
        echo.await.unwrap().unwrap();
    }
}
