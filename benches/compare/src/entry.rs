//! The servers as data.

use harness::BoxError;
use std::{net::SocketAddr, path::PathBuf, process::Command};

/// A server that can be measured.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) job: Job,
    /// Whether it forwards to another server, with two connections for each client.
    pub(crate) forwards: bool,
    pub(crate) start: Start,
}

impl Entry {
    pub(crate) const fn new(
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

    pub(crate) const fn forwarding(self) -> Self {
        Self {
            forwards: true,
            ..self
        }
    }
}

/// Where a server comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Written by hand on tokio.
    Bare,
    /// portcullis.
    Ours,
    /// Another library or program.
    Peer,
}

/// What it does for its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    Echo,
    TlsEcho,
    /// Sends and receives bulk data, as the backend of forwarders.
    Bulk,
    Http,
    Https,
    /// Measures a stack of layers, and sends the result.
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
    /// By this program, in the role of a server.
    Here(fn(Setup) -> Result<(), BoxError>),
    /// A program of the system, with the configuration that this writes.
    External {
        program: &'static str,
        configure: fn(&Setup) -> Result<Command, BoxError>,
    },
}

/// The settings of a server.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The port to listen on; 0 for any.
    pub(crate) port: u16,
    /// The server that forwarders connect to.
    pub(crate) backend: Option<SocketAddr>,
    /// Holds the certificate; configuration may be written there.
    pub(crate) folder: PathBuf,
}

/// Number of workers of a server of this program, if it differs from [`WORKERS`]: one in the counters.
pub(crate) const WORKERS_VARIABLE: &str = "PORTCULLIS_COMPARE_WORKERS";

/// Threads, or processes, of each server.
pub(crate) const WORKERS: usize = 2;
