mod gathering;
mod promises;
mod two_tasks;
mod wire;

use self::wire::{Step, Wire};
use super::*;
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Waker},
};
use tokio::io::{AsyncRead, ReadBuf};
use tokio_test::task::{self, Spawn};

/// More than the small writes of these tests.
const SIZE: usize = 16;

fn buffered(wire: &Wire) -> WriteBufferIo<Wire> {
    WriteBufferIo::new(wire.clone(), SIZE)
}

/// Polls a read of up to eight bytes in its own task; returns the bytes.
fn read<'a, IO: AsyncRead + Unpin>(
    io: &'a mut IO,
) -> Spawn<impl Future<Output = io::Result<Vec<u8>>> + use<'a, IO>> {
    task::spawn(async move {
        let mut room = [0; 8];
        let mut buf = ReadBuf::new(&mut room);
        poll_fn(|cx| Pin::new(&mut *io).poll_read(cx, &mut buf)).await?;
        Ok(buf.filled().to_vec())
    })
}

fn quietly() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Fails where the code under test would wait indefinitely.
async fn in_time<T>(future: impl Future<Output = T>) -> T {
    let limit = std::time::Duration::from_secs(30);
    tokio::time::timeout(limit, future).await.expect("in time")
}
