//! `tokio::time::timeout` around each read and write, as one writes it by hand.

use super::{Entry, Job, Kind, Setup, listen, run_on_workers};
use crate::{BoxError, echo::BUFFER};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    spawn,
    time::timeout,
};

pub(super) const ENTRIES: &[Entry] = &[Entry::new("tokio-timeout", Kind::Peer, Job::Echo, serve)];

fn serve(setup: Setup) -> Result<(), BoxError> {
    let listener = listen(&setup)?;
    run_on_workers(async move {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _peer) = listener.accept().await?;
            spawn(echo(stream));
        }
    })
}

/// Its own echo, for the bounds are around the calls: it needs a buffer that outlives them.
async fn echo(mut stream: TcpStream) -> Result<(), BoxError> {
    let mut buffer = Vec::with_capacity(BUFFER);
    while timeout(BOUND, stream.read_buf(&mut buffer)).await?? > 0 {
        timeout(BOUND, stream.write_all(&buffer)).await??;
        buffer.clear();
    }
    Ok(())
}

/// As portcullis has by default.
pub(super) const BOUND: Duration = Duration::from_secs(60);
