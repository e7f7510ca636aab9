//! tokio-io-timeout: a timer for each operation that waits.

use super::{Entry, Job, Kind, Setup, listen, run_on_workers, tokio_timeout::BOUND};
use crate::{BoxError, echo::echo};
use ::tokio_io_timeout::TimeoutStream;
use std::pin::pin;
use tokio::{net::TcpListener, spawn};

pub(super) const ENTRIES: &[Entry] =
    &[Entry::new("tokio-io-timeout", Kind::Peer, Job::Echo, serve)];

fn serve(setup: Setup) -> Result<(), BoxError> {
    let listener = listen(&setup)?;
    run_on_workers(async move {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _peer) = listener.accept().await?;
            spawn(async move {
                let mut stream = TimeoutStream::new(stream);
                stream.set_read_timeout(Some(BOUND));
                stream.set_write_timeout(Some(BOUND));
                echo(pin!(stream)).await
            });
        }
    })
}
