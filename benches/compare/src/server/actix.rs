//! actix-server.

use super::runtime::{BACKLOG, bind, workers};
use crate::{
    echo::echo,
    entry::{Entry, Job, Kind, Setup},
};
use actix_rt::{System, net::TcpStream};
use actix_server::Server;
use actix_service::fn_service;
use harness::{BoxError, server::announce};
use std::io;
use tokio::select;

pub(super) const ENTRIES: &[Entry] = &[
    Entry::new("actix", Kind::Peer, Job::Echo, |setup| {
        serve(setup, workers(), usize::MAX)
    }),
    // One worker: its limit is for each.
    Entry::new("actix-limit-1", Kind::Peer, Job::Echo, |setup| {
        serve(setup, 1, 1)
    }),
    Entry::new("actix-drain", Kind::Peer, Job::Echo, drain),
];

fn serve(setup: Setup, workers: usize, limit: usize) -> Result<(), BoxError> {
    let listener = bind(setup.port, false)?;
    announce(listener.local_addr()?)?;
    System::new().block_on(async move {
        let builder = Server::build()
            .workers(workers)
            .backlog(BACKLOG)
            .max_concurrent_connections(limit.min(MANY))
            .disable_signals();
        let echo = || fn_service(|stream: TcpStream| echo(stream));
        builder.listen("echo", listener, echo)?.run().await
    })?;
    Ok(())
}

/// On SIGTERM it notifies the connections and waits for them.
fn drain(setup: Setup) -> Result<(), BoxError> {
    let listener = bind(setup.port, false)?;
    announce(listener.local_addr()?)?;
    System::new().block_on(async move {
        let builder = Server::build()
            .workers(workers())
            .backlog(BACKLOG)
            .max_concurrent_connections(MANY)
            .shutdown_timeout(30);
        let stop = builder.graceful_shutdown_signal();
        let echo = move || {
            let stop = stop.clone();
            fn_service(move |stream: TcpStream| {
                let stop = stop.clone();
                async move {
                    select! {
                        () = stop.notified() => Ok::<_, io::Error>(()),
                        ended = echo(stream) => ended,
                    }
                }
            })
        };
        builder.listen("echo", listener, echo)?.run().await
    })?;
    Ok(())
}

/// More than are ever open.
const MANY: usize = 100_000;
