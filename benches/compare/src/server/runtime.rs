//! The runtime, the listening socket and the accept loop that the servers share.

use crate::entry::{Setup, WORKERS, WORKERS_VARIABLE};
use ::tokio::{
    net::{TcpListener as Listener, TcpStream},
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
    spawn,
};
use harness::{BoxError, server::announce};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    env, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

/// The listening socket of every server that takes one: non-blocking, and its address printed.
pub(super) fn listen(setup: &Setup) -> io::Result<TcpListener> {
    let listener = bind(setup.port, false)?;
    announce(listener.local_addr()?)?;
    Ok(listener)
}

pub(super) fn bind(port: u16, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    // Streams inherit it, without a system call for each connection.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(BACKLOG as i32)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// tokio's multi-threaded runtime, for servers that do not create one.
pub(super) fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(workers())
        .enable_all()
        .build()
}

/// Runs a server on the workers of a [`runtime`], and not on the main thread besides them.
pub(super) fn run_on_workers<T>(server: T) -> Result<(), BoxError>
where
    T: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    runtime()?.block_on(async { ::tokio::spawn(server).await })?
}

/// Resolves on SIGTERM. From the call on, the signal does nothing else.
pub(super) fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut signal = signal(SignalKind::terminate())?;
    Ok(async move {
        signal.recv().await;
    })
}

/// [`WORKERS`], or the number in the environment.
pub(super) fn workers() -> usize {
    let asked = env::var(WORKERS_VARIABLE).ok();
    asked.and_then(|n| n.parse().ok()).unwrap_or(WORKERS)
}

/// Accepts connections on the workers of a [`runtime`], and spawns a task for each.
pub(super) fn serve_each<F>(
    setup: &Setup,
    serve: impl FnMut(TcpStream) -> F + Send + 'static,
) -> Result<(), BoxError>
where
    F: Future<Output: Send> + Send + 'static,
{
    run_on_workers(accept(listen(setup)?, serve))
}

/// Accepts connections, and spawns a task for each.
pub(super) async fn accept<F>(
    listener: TcpListener,
    mut serve: impl FnMut(TcpStream) -> F,
) -> Result<(), BoxError>
where
    F: Future<Output: Send> + Send + 'static,
{
    let listener = Listener::from_std(listener)?;
    loop {
        let (stream, _peer) = listener.accept().await?;
        spawn(serve(stream));
    }
}

/// pingora's is fixed and above the system's limit of 4096, so 4096 it is for all.
pub(crate) const BACKLOG: u32 = 4096;
