//! The servers under test. Each runs in a process of its own, with [`WORKERS`] workers.

#[cfg(feature = "actix")]
mod actix;
#[cfg(feature = "axum")]
mod axum_serve;
#[cfg(feature = "axum-server")]
mod axum_server;
mod external;
mod forward;
mod hyper_util;
mod mock;
#[cfg(feature = "pingora")]
mod pingora;
mod portcullis;
mod portcullis_http;
mod portcullis_layers;
#[cfg(feature = "rama")]
mod rama;
#[cfg(feature = "tls-listener")]
mod tls_listener;
mod tls_settings;
mod tokio_bare;
#[cfg(feature = "tokio-io-timeout")]
mod tokio_io_timeout;
mod tokio_rustls;
mod tokio_timeout;

use crate::{BoxError, count};
use ::tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    env,
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::{Command, exit},
    thread,
};

/// A server that can be measured.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) job: Job,
    /// Whether it passes the bytes on to another server, which costs it a connection more each.
    pub(crate) forwards: bool,
    pub(crate) start: Start,
}

impl Entry {
    const fn new(
        name: &'static str,
        kind: Kind,
        job: Job,
        start: fn(Setup) -> Result<(), BoxError>,
    ) -> Self {
        Self {
            name,
            kind,
            job,
            forwards: false,
            start: Start::Here(start),
        }
    }

    const fn forwarding(self) -> Self {
        Self {
            forwards: true,
            ..self
        }
    }
}

/// Whose server it is, and so what it is compared to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What anybody could write by hand on tokio.
    Bare,
    /// portcullis.
    Ours,
    /// Another library or program that does the same.
    Peer,
}

/// What clients ask of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    Echo,
    TlsEcho,
    Http,
    Https,
    /// It measures itself and says what it took.
    Operations,
}

impl Job {
    pub(crate) const fn is_tls(self) -> bool {
        matches!(self, Self::TlsEcho | Self::Https)
    }

    pub(crate) const fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }
}

/// How it is started.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    /// By this program, in the role of the server.
    Here(fn(Setup) -> Result<(), BoxError>),
    /// A program of the system, with the configuration that this writes.
    External {
        program: &'static str,
        configure: fn(&Setup) -> Result<Command, BoxError>,
    },
}

/// What a server is told.
#[derive(Debug)]
pub(crate) struct Setup {
    /// To listen on; 0 for any.
    pub(crate) port: u16,
    /// Where forwarders pass the bytes on to.
    pub(crate) backend: Option<SocketAddr>,
    /// Holds the certificate; configuration may be written there.
    pub(crate) folder: PathBuf,
}

/// All servers that this build has.
pub(crate) fn all() -> impl Iterator<Item = &'static Entry> {
    let groups: &[&[Entry]] = &[
        tokio_bare::ENTRIES,
        tokio_timeout::ENTRIES,
        mock::ENTRIES,
        portcullis::ENTRIES,
        portcullis_layers::ENTRIES,
        #[cfg(feature = "actix")]
        actix::ENTRIES,
        #[cfg(feature = "rama")]
        rama::ENTRIES,
        #[cfg(feature = "pingora")]
        pingora::ENTRIES,
        #[cfg(feature = "tokio-io-timeout")]
        tokio_io_timeout::ENTRIES,
        tokio_rustls::ENTRIES,
        #[cfg(feature = "tls-listener")]
        tls_listener::ENTRIES,
        tls_settings::ENTRIES,
        forward::ENTRIES,
        hyper_util::ENTRIES,
        portcullis_http::ENTRIES,
        #[cfg(feature = "axum")]
        axum_serve::ENTRIES,
        #[cfg(feature = "axum-server")]
        axum_server::ENTRIES,
        external::ENTRIES,
    ];
    groups.iter().copied().flatten()
}

/// The server of this name; `None` also where its feature is off.
pub(crate) fn find(name: &str) -> Option<&'static Entry> {
    all().find(|entry| entry.name == name)
}

/// The role of a server's process. It ends when its standard input does, so it never outlives its
/// driver, and on SIGTERM.
pub(crate) fn run(name: &str, setup: Setup) -> Result<(), BoxError> {
    let entry = find(name).ok_or_else(|| format!("there is no server {name}"))?;
    let Start::Here(start) = entry.start else {
        return Err(format!("{name} is no server of this program").into());
    };
    thread::spawn(|| {
        count::mark_lines();
        // The driver is gone, or wants us gone.
        exit(0);
    });
    start(setup)
}

/// Tells the driver where it listens.
fn announce(address: SocketAddr) -> io::Result<()> {
    let mut output = io::stdout();
    writeln!(output, "{address}")?;
    output.flush()
}

/// A listening socket as every server gets one, if it takes one; announced, and not blocking.
fn listen(setup: &Setup) -> io::Result<TcpListener> {
    let listener = bind(setup.port, false)?;
    announce(listener.local_addr()?)?;
    Ok(listener)
}

fn bind(port: u16, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    // Streams inherit it: nobody pays a system call for each connection.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(BACKLOG as i32)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// tokio's runtime with several threads, as every server gets it that does not make its own.
fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(workers())
        .enable_all()
        .build()
}

/// Runs a server on the workers of a [`runtime`], and not on the main thread besides them.
fn run_on_workers<T>(server: T) -> Result<(), BoxError>
where
    T: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    runtime()?.block_on(async { ::tokio::spawn(server).await })?
}

/// Resolves on SIGTERM. From the call on, the signal does nothing else.
fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut signal = signal(SignalKind::terminate())?;
    Ok(async move {
        signal.recv().await;
    })
}

/// [`WORKERS`], or as many as the driver asks for.
fn workers() -> usize {
    let asked = env::var(WORKERS_VARIABLE).ok();
    asked.and_then(|n| n.parse().ok()).unwrap_or(WORKERS)
}

/// Another number of workers for the servers of this program: where they are counted they have one.
pub(crate) const WORKERS_VARIABLE: &str = "PORTCULLIS_COMPARE_WORKERS";

/// Threads, or processes, of each server.
pub(crate) const WORKERS: usize = 2;

/// pingora's is fixed and above the system's limit of 4096, so 4096 it is for all.
pub(crate) const BACKLOG: u32 = 4096;

/// What every HTTP server answers, as `text/plain; charset=utf-8`.
pub(crate) const HELLO: &str = "Hello, world!";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_servers_have_the_same_name() {
        let mut names = HashSet::new();
        for entry in all() {
            assert!(names.insert(entry.name), "{}", entry.name);
        }
    }
}
