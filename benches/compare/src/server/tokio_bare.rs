//! tokio's accept loop by hand: the reference.

use super::runtime::{
    accept, bind, listen, run_on_workers, runtime, serve_each, stop_signal, workers,
};
use crate::{
    echo::echo,
    entry::{Entry, Job, Kind, Setup},
};
use harness::{BoxError, bulk, server::announce};
use std::{io, net, sync::Arc, thread};
use tokio::{net::TcpListener, runtime::Builder, select, spawn, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(super) const ENTRIES: &[Entry] = &[
    Entry::new("tokio", Kind::Bare, Job::Echo, tokio),
    Entry::new("tokio-per-core", Kind::Bare, Job::Echo, per_core),
    Entry::new("tokio-drain", Kind::Bare, Job::Echo, drain),
    Entry::new("tokio-limit-1", Kind::Bare, Job::Echo, limit),
    Entry::new("tokio-bulk", Kind::Bare, Job::Bulk, bulk),
];

fn tokio(setup: Setup) -> Result<(), BoxError> {
    serve_each(&setup, echo)
}

/// For what forwards bulk data.
fn bulk(setup: Setup) -> Result<(), BoxError> {
    serve_each(&setup, bulk::serve)
}

/// A thread for each worker, with a separate runtime and listener.
fn per_core(setup: Setup) -> Result<(), BoxError> {
    let first = bind(setup.port, true)?;
    let address = first.local_addr()?;
    let more = (1..workers()).map(|_| bind(address.port(), true));
    let listeners: Vec<_> = [Ok(first)]
        .into_iter()
        .chain(more)
        .collect::<io::Result<_>>()?;
    let workers: Vec<_> = listeners
        .into_iter()
        .map(|listener| thread::spawn(|| worker(listener)))
        .collect();
    announce(address)?;
    for worker in workers {
        worker.join().map_err(|_| "a worker panicked")??;
    }
    Ok(())
}

fn worker(listener: net::TcpListener) -> Result<(), BoxError> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(accept(listener, echo))
}

/// As in tokio's guide to shutdown, with a token to notify the tasks and a tracker to wait for them.
fn drain(setup: Setup) -> Result<(), BoxError> {
    let listener = listen(&setup)?;
    runtime()?.block_on(async {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let accepting = spawn(accept_until(listener, stop.clone(), tasks.clone()));
        stop_signal()?.await;
        stop.cancel();
        accepting.await??;
        tasks.close();
        tasks.wait().await;
        Ok(())
    })
}

async fn accept_until(
    listener: net::TcpListener,
    stop: CancellationToken,
    tasks: TaskTracker,
) -> Result<(), BoxError> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let stream = select! {
            () = stop.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted?.0,
        };
        let stop = stop.clone();
        tasks.spawn(async move {
            select! {
                () = stop.cancelled() => Ok(()),
                ended = echo(stream) => ended,
            }
        });
    }
}

/// One connection at a time, the others in the kernel's queue.
fn limit(setup: Setup) -> Result<(), BoxError> {
    let listener = listen(&setup)?;
    run_on_workers(async move {
        let listener = TcpListener::from_std(listener)?;
        let limit = Arc::new(Semaphore::new(1));
        loop {
            let permit = limit.clone().acquire_owned().await?;
            let (stream, _peer) = listener.accept().await?;
            spawn(async move {
                let ended = echo(stream).await;
                drop(permit);
                ended
            });
        }
    })
}
