//! tls-listener, with the handshakes in tasks of their own, as its documentation advises for
//! several threads.

use super::{
    hyper_util::hello_on,
    runtime::{listen, run_on_workers},
};
use crate::{
    echo::echo,
    entry::{Entry, Job, Kind, Setup},
    tls::server_config,
};
use ::tls_listener::{SpawningHandshakes, TlsListener};
use ::tokio_rustls::TlsAcceptor;
use harness::BoxError;
use tokio::{net::TcpListener, spawn};

pub(super) const ENTRIES: &[Entry] = &[
    Entry::new("tls-listener", Kind::Peer, Job::TlsEcho, |setup| {
        serve(setup, false)
    }),
    Entry::new("tls-listener-https", Kind::Peer, Job::Https, |setup| {
        serve(setup, true)
    }),
];

fn serve(setup: Setup, http: bool) -> Result<(), BoxError> {
    let acceptor = TlsAcceptor::from(server_config(&setup.folder)?);
    let listener = listen(&setup)?;
    run_on_workers(async move {
        let listener = TcpListener::from_std(listener)?;
        let mut listener = TlsListener::new(SpawningHandshakes(acceptor), listener);
        loop {
            // A failed handshake is its client's.
            let Ok((stream, _peer)) = listener.accept().await else {
                continue;
            };
            if http {
                spawn(hello_on(stream));
            } else {
                spawn(echo(stream));
            }
        }
    })
}
