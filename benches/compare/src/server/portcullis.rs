//! portcullis: bare, with one layer, with the recommended stack, per core, with TLS.

use super::runtime::{BACKLOG, runtime, workers};
use crate::{
    echo::echo,
    entry::{Entry, Job, Kind, Setup},
    tls::server_config,
};
use ::portcullis::{
    Connection, Server, ServiceBuilderExt,
    listener::{TcpListener, TcpOptions},
    middleware::{observe::ByteCounter, tls::TlsLayer},
    server::Stack,
    server::Workers,
};
use harness::{BoxError, server::announce};
use std::io;
use tokio::{net::TcpStream, select, spawn};
use tower::ServiceBuilder;

pub(super) const ENTRIES: &[Entry] = &[
    ours("portcullis", Job::Echo, bare),
    ours("portcullis-stack", Job::Echo, stack),
    ours("portcullis-per-core", Job::Echo, per_core),
    ours("portcullis-timeouts", Job::Echo, timeouts),
    ours("portcullis-limit-1", Job::Echo, limit),
    ours("portcullis-drain", Job::Echo, drain),
    ours("portcullis-tls", Job::TlsEcho, tls),
    ours("portcullis-tls-stack", Job::TlsEcho, tls_stack),
];

pub(super) const fn ours(
    name: &'static str,
    job: Job,
    start: fn(Setup) -> Result<(), BoxError>,
) -> Entry {
    Entry::new(name, Kind::Ours, job, start)
}

/// The recommended stack around a service; with TLS in its place where there is some.
macro_rules! recommended {
    ($($tls:ident)?) => {
        ServiceBuilder::new()
            .peer_addr()
            .trace_connections("compare")
            .connection_limit(MANY)
            .catch_panics()
            $(.layer($tls))?
            .count_bytes(ByteCounter::new())
            .io_timeout()
    };
}

fn bare(setup: Setup) -> Result<(), BoxError> {
    let stack = ServiceBuilder::new().peer_addr();
    serve(&setup, stack.service_fn(|io: Connection<_>| echo(io)))
}

fn stack(setup: Setup) -> Result<(), BoxError> {
    serve(
        &setup,
        recommended!().service_fn(|io: Connection<_>| echo(io)),
    )
}

fn per_core(setup: Setup) -> Result<(), BoxError> {
    let listener = options()
        .with_reuse_port(true)
        .bind(("127.0.0.1", setup.port))?;
    let stack = ServiceBuilder::new().peer_addr();
    let stack = stack.service_fn(|io: Connection<_>| echo(io));
    let server = Server::new().workers(Workers::Sharded(workers()));
    // Its threads are its own; this runtime only waits.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(server, listener, stack))
}

fn timeouts(setup: Setup) -> Result<(), BoxError> {
    let stack = ServiceBuilder::new().peer_addr().io_timeout();
    serve(&setup, stack.service_fn(|io: Connection<_>| echo(io)))
}

fn limit(setup: Setup) -> Result<(), BoxError> {
    let stack = ServiceBuilder::new().peer_addr().connection_limit(1);
    serve(&setup, stack.service_fn(|io: Connection<_>| echo(io)))
}

/// With a handler that ends when the drain begins.
fn drain(setup: Setup) -> Result<(), BoxError> {
    let stack = ServiceBuilder::new().peer_addr();
    let stack = stack.service_fn(|io: Connection<_>| async move {
        let stop = io.info().drain();
        select! {
            () = stop => Ok::<_, io::Error>(()),
            ended = echo(io) => ended,
        }
    });
    serve(&setup, stack)
}

fn tls(setup: Setup) -> Result<(), BoxError> {
    let tls = TlsLayer::new(server_config(&setup.folder)?);
    let stack = ServiceBuilder::new().peer_addr().layer(tls);
    serve(&setup, stack.service_fn(|io: Connection<_>| echo(io)))
}

fn tls_stack(setup: Setup) -> Result<(), BoxError> {
    let tls = TlsLayer::new(server_config(&setup.folder)?);
    serve(
        &setup,
        recommended!(tls).service_fn(|io: Connection<_>| echo(io)),
    )
}

/// On a runtime like that of the others.
pub(super) fn serve(setup: &Setup, stack: impl Stack<TcpStream>) -> Result<(), BoxError> {
    let listener = options().bind(("127.0.0.1", setup.port))?;
    runtime()?.block_on(run(Server::new(), listener, stack))
}

async fn run(
    server: Server,
    listener: TcpListener,
    stack: impl Stack<TcpStream>,
) -> Result<(), BoxError> {
    announce(listener.local_addr()?)?;
    let server = server.listen(listener, stack).stop_on_signals();
    spawn(server.run()).await??;
    Ok(())
}

/// The defaults but for the backlog: TCP_NODELAY, which streams inherit, and keepalive.
fn options() -> TcpOptions {
    TcpOptions::new().with_backlog(BACKLOG)
}

/// More than are ever open.
pub(super) const MANY: usize = 100_000;
