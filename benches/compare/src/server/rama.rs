//! rama's TCP server.

use super::runtime::{listen, run_on_workers};
use crate::{
    echo::echo,
    entry::{Entry, Job, Kind, Setup},
};
use harness::BoxError;
use rama_core::{Layer, rt::Executor, service::service_fn};
use rama_net::proxy::IoForwardService;
use rama_tcp::{TcpStream, proxy::IoToProxyBridgeIoLayer, server::TcpListener};
use std::convert::Infallible;

pub(super) const ENTRIES: &[Entry] = &[
    Entry::new("rama", Kind::Peer, Job::Echo, serve),
    Entry::new("rama-forward", Kind::Peer, Job::Echo, forward).forwarding(),
];

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

/// With rama's service for this, whose buffers have 16 KiB.
fn forward(setup: Setup) -> Result<(), BoxError> {
    let backend = setup.backend.ok_or("no backend")?;
    let listener = listen(&setup)?;
    run_on_workers(async move {
        let listener = TcpListener::try_from_std_tcp_listener(listener, Executor::default())?;
        let forward = IoToProxyBridgeIoLayer::new(backend).into_layer(IoForwardService::default());
        listener.serve(forward).await;
        Ok(())
    })
}
