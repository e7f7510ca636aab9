//! Threads that block: ends of bulk transfers, and a forwarder that only splices, for comparison.

use super::runtime::bind;
use crate::entry::{Entry, Job, Kind, Setup};
use harness::{BoxError, bulk, server::announce};
use nix::fcntl::{FcntlArg, SpliceFFlags, fcntl, splice};
use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

pub(super) const ENTRIES: &[Entry] = &[
    Entry::new("threads-bulk", Kind::Bare, Job::Bulk, serve_bulk),
    Entry::new("threads-splice", Kind::Bare, Job::Echo, serve_splice).forwarding(),
];

/// For what forwards bulk data.
fn serve_bulk(setup: Setup) -> Result<(), BoxError> {
    accept(&setup, bulk::blocking::serve)
}

/// Splices, and does nothing else.
fn serve_splice(setup: Setup) -> Result<(), BoxError> {
    let backend = setup.backend.ok_or("no backend")?;
    accept(&setup, move |client| forward(client, backend))
}

fn forward(client: TcpStream, backend: SocketAddr) -> io::Result<()> {
    let backend = TcpStream::connect(backend)?;
    backend.set_nodelay(true)?;
    thread::scope(|scope| {
        scope.spawn(|| one_way(&client, &backend));
        one_way(&backend, &client)
    })
}

fn one_way(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let (reader, writer) = io::pipe()?;
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(PIPE as i32))?;
    loop {
        let mut filled = splice(from, None, &writer, None, PIPE, SpliceFFlags::SPLICE_F_MOVE)?;
        if filled == 0 {
            return to.shutdown(Shutdown::Write);
        }
        while filled > 0 {
            filled -= splice(&reader, None, to, None, filled, SpliceFFlags::SPLICE_F_MOVE)?;
        }
    }
}

/// Serves each connection in a thread.
fn accept(
    setup: &Setup,
    serve: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static,
) -> Result<(), BoxError> {
    let listener = TcpListener::from(bind(setup.port, false)?);
    listener.set_nonblocking(false)?;
    announce(listener.local_addr()?)?;
    for stream in listener.incoming() {
        let (stream, serve) = (stream?, serve.clone());
        // How a connection ends is its client's affair.
        thread::spawn(move || serve(stream));
    }
    Ok(())
}

/// The most that Linux gives an unprivileged user.
const PIPE: usize = 1024 * 1024;
