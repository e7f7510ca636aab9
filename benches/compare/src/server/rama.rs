//! rama's TCP server.

use super::runtime::{listen, run_on_workers};
use crate::{
    echo::echo,
    entry::{Entry, Job, Kind, Setup},
};
use harness::BoxError;
use rama_core::{rt::Executor, service::service_fn};
use rama_tcp::{TcpStream, server::TcpListener};
use std::convert::Infallible;

pub(super) const ENTRIES: &[Entry] = &[Entry::new("rama", Kind::Peer, Job::Echo, serve)];

fn serve(setup: Setup) -> Result<(), BoxError> {
    let listener = listen(&setup)?;
    run_on_workers(async move {
        let listener = TcpListener::try_from_std_tcp_listener(listener, Executor::default())?;
        let service = service_fn(async |stream: TcpStream| {
            // How a connection ends is its client's affair.
            let _ = echo(stream).await;
            Ok::<_, Infallible>(())
        });
        listener.serve(service).await;
        Ok(())
    })
}
