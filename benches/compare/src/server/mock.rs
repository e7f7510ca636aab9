//! Servers that measure a stack of layers over a stream without a socket, and send the result.

use super::{portcullis::MANY, runtime::listen, tokio_timeout::BOUND};
use crate::{
    entry::{Entry, Job, Kind, Setup},
    operations::{self, Costs, MESSAGE, Mock, OPERATIONS},
};
use ::portcullis::{
    Connection, ConnectionInfo, ServiceBuilderExt, connection::Address,
    middleware::observe::ByteCounter, server::Stack,
};
use harness::BoxError;
use std::io::Write;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tower::{ServiceBuilder, service_fn};

pub(super) const ENTRIES: &[Entry] = &[
    entry("mock", Kind::Bare, raw),
    entry("mock-portcullis", Kind::Ours, peer_addr),
    entry("mock-portcullis-timeouts", Kind::Ours, timeouts),
    entry("mock-portcullis-count-1", Kind::Ours, count_1),
    entry("mock-portcullis-count-4", Kind::Ours, count_4),
    entry("mock-portcullis-box", Kind::Ours, boxed),
    entry("mock-portcullis-stack", Kind::Ours, stack),
    #[cfg(feature = "tokio-io-timeout")]
    entry("mock-tokio-io-timeout", Kind::Peer, tokio_io_timeout),
    entry("mock-tokio-timeout", Kind::Peer, tokio_timeout),
];

const fn entry(name: &'static str, kind: Kind, start: fn(Setup) -> Result<(), BoxError>) -> Entry {
    Entry::new(name, kind, Job::Operations, start)
}

/// A separate closure for each stack, because each has a different type of connection.
macro_rules! run {
    () => {
        |io: Connection<_>| operations::run(io)
    };
}

fn raw(setup: Setup) -> Result<(), BoxError> {
    serve(&setup, service_fn(operations::run::<Mock>))
}

/// What every connection has.
fn peer_addr(setup: Setup) -> Result<(), BoxError> {
    let stack = ServiceBuilder::new().peer_addr();
    serve(&setup, stack.service_fn(run!()))
}

fn timeouts(setup: Setup) -> Result<(), BoxError> {
    let stack = ServiceBuilder::new().map_request(alone).io_timeout();
    serve(&setup, stack.service_fn(run!()))
}

fn count_1(setup: Setup) -> Result<(), BoxError> {
    let stack = ServiceBuilder::new()
        .map_request(alone)
        .count_bytes(ByteCounter::new());
    serve(&setup, stack.service_fn(run!()))
}

fn count_4(setup: Setup) -> Result<(), BoxError> {
    let stack = ServiceBuilder::new()
        .map_request(alone)
        .count_bytes(ByteCounter::new())
        .count_bytes(ByteCounter::new())
        .count_bytes(ByteCounter::new())
        .count_bytes(ByteCounter::new());
    serve(&setup, stack.service_fn(run!()))
}

fn boxed(setup: Setup) -> Result<(), BoxError> {
    let stack = ServiceBuilder::new().map_request(alone).box_io();
    serve(&setup, stack.service_fn(run!()))
}

/// The recommended stack.
fn stack(setup: Setup) -> Result<(), BoxError> {
    let stack = ServiceBuilder::new()
        .peer_addr()
        .trace_connections("compare")
        .connection_limit(MANY)
        .catch_panics()
        .count_bytes(ByteCounter::new())
        .io_timeout();
    serve(&setup, stack.service_fn(run!()))
}

#[cfg(feature = "tokio-io-timeout")]
fn tokio_io_timeout(setup: Setup) -> Result<(), BoxError> {
    let stack = service_fn(|io: Mock| {
        let mut io = tokio_io_timeout::TimeoutStream::new(io);
        io.set_read_timeout(Some(BOUND));
        io.set_write_timeout(Some(BOUND));
        // It is not `Unpin`.
        operations::run(Box::pin(io))
    });
    serve(&setup, stack)
}

/// With a separate loop, because the timeouts wrap the calls.
fn tokio_timeout(setup: Setup) -> Result<(), BoxError> {
    let stack = service_fn(|mut io: Mock| async move {
        let mut buffer = [0; MESSAGE];
        for _ in 0..OPERATIONS {
            let read = timeout(BOUND, io.read(&mut buffer)).await??;
            timeout(BOUND, io.write_all(&buffer[..read])).await??;
        }
        Ok::<_, BoxError>(())
    });
    serve(&setup, stack)
}

/// A connection without what `PeerAddrLayer` puts around the stream, to see a layer alone.
fn alone(io: Mock) -> Connection<Mock> {
    let info = ConnectionInfo::new(Address::Unknown, Address::Unknown);
    Connection::new(io, info)
}

/// Measures for each client, and tells it the costs.
fn serve(setup: &Setup, stack: impl Stack<Mock>) -> Result<(), BoxError> {
    let listener = listen(setup)?;
    // Nothing else waits in this thread.
    listener.set_nonblocking(false)?;
    loop {
        let (mut client, _) = listener.accept()?;
        let costs = Costs::of(stack.clone())?;
        client.write_all(costs.to_string().as_bytes())?;
    }
}
