//! The servers as data: what they are, and how they are started.

use harness::BoxError;
use std::{net::SocketAddr, path::PathBuf, process::Command};

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

/// Another number of workers for the servers of this program: where they are counted they have one.
pub(crate) const WORKERS_VARIABLE: &str = "PORTCULLIS_COMPARE_WORKERS";

/// Threads, or processes, of each server.
pub(crate) const WORKERS: usize = 2;
