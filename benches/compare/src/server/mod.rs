//! The servers under test. Each runs in a separate process, with [`WORKERS`](crate::entry::WORKERS) workers.

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
mod runtime;
mod threads;
#[cfg(feature = "tls-listener")]
mod tls_listener;
mod tls_settings;
mod tokio_bare;
#[cfg(feature = "tokio-io-timeout")]
mod tokio_io_timeout;
mod tokio_rustls;
mod tokio_timeout;

use crate::entry::{Entry, Setup, Start};
use harness::{BoxError, server::serve_input};
use std::{process::exit, thread};

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
        threads::ENTRIES,
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

/// Runs a server until standard input ends, so that it never outlives its parent, or until SIGTERM.
pub(crate) fn run(name: &str, setup: Setup) -> Result<(), BoxError> {
    let entry = find(name).ok_or_else(|| format!("there is no server {name}"))?;
    let Start::Here(start) = entry.start else {
        return Err(format!("{name} is no server of this program").into());
    };
    thread::spawn(|| {
        serve_input();
        exit(0);
    });
    start(setup)
}

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
