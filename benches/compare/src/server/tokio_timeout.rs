//! `tokio::time::timeout` around each read and write, as one writes it by hand.

use super::runtime::serve_each;
use crate::{
    echo::BUFFER,
    entry::{Entry, Job, Kind, Setup},
};
use harness::BoxError;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

pub(super) const ENTRIES: &[Entry] = &[Entry::new("tokio-timeout", Kind::Peer, Job::Echo, serve)];

fn serve(setup: Setup) -> Result<(), BoxError> {
    serve_each(&setup, echo)
}

/// A separate echo, because the timeouts wrap the calls and need a buffer that outlives them.
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
