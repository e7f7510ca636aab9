//! tokio-io-timeout: a timer for each operation that waits.

use super::{runtime::serve_each, tokio_timeout::BOUND};
use crate::{
    echo::echo,
    entry::{Entry, Job, Kind, Setup},
};
use ::tokio_io_timeout::TimeoutStream;
use harness::BoxError;
use std::pin::pin;

pub(super) const ENTRIES: &[Entry] =
    &[Entry::new("tokio-io-timeout", Kind::Peer, Job::Echo, serve)];

fn serve(setup: Setup) -> Result<(), BoxError> {
    serve_each(&setup, move |stream| async move {
        let mut stream = TimeoutStream::new(stream);
        stream.set_read_timeout(Some(BOUND));
        stream.set_write_timeout(Some(BOUND));
        echo(pin!(stream)).await
    })
}
