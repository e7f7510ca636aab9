mod end_to_end;
mod reading;
mod splits;
mod writing;

use super::*;
use crate::error::find;
use encoding_rs::Encoding;
use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// A stream whose input arrives in pieces, each after a wait, and whose output is taken in pieces.
#[derive(Debug, Default)]
struct Pieces {
    input: VecDeque<Vec<u8>>,
    waited: bool,
    /// Bytes taken per write; every second write waits. Zero takes all bytes immediately.
    takes: usize,
    output: Vec<u8>,
    failure: Option<ErrorKind>,
    shut_down: bool,
}

impl Pieces {
    fn reading<const N: usize>(pieces: [&[u8]; N]) -> Self {
        let input = pieces.map(<[u8]>::to_vec).into();
        Self {
            input,
            ..Self::default()
        }
    }

    fn wait(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.waited = !self.waited;
        if self.waited {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.wait(cx));
        if let Some(mut piece) = self.input.pop_front() {
            let rest = piece.split_off(piece.len().min(buf.remaining()));
            buf.put_slice(&piece);
            if !rest.is_empty() {
                self.input.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(kind) = self.failure.take() {
            return Poll::Ready(Err(kind.into()));
        }
        let mut length = buf.len();
        if self.takes > 0 {
            std::task::ready!(self.wait(cx));
            length = length.min(self.takes);
        }
        self.output.extend_from_slice(&buf[..length]);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut_down = true;
        Poll::Ready(Ok(()))
    }
}

fn transcoded(io: Pieces, encoding: &'static Encoding, bad_text: BadText) -> TranscodeIo<Pieces> {
    TranscodeIo::new(io, encoding, bad_text).unwrap()
}

#[track_caller]
fn typed(error: io::Error) -> TranscodeError {
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    *find::<TranscodeError>(&error).unwrap()
}

/// Reproducible pseudorandom numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) as usize % bound
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// `bytes` in pieces of up to `most`.
    fn split<'a>(&mut self, mut bytes: &'a [u8], most: usize) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at((1 + self.below(most)).min(bytes.len()));
            pieces.push(piece);
            bytes = rest;
        }
        pieces
    }
}

/// Fails where the code under test would wait indefinitely.
async fn in_time<T>(future: impl Future<Output = T>) -> T {
    let limit = std::time::Duration::from_secs(30);
    tokio::time::timeout(limit, future).await.expect("in time")
}
