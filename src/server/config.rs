//! The configuration of a server, for reading it later.

use super::{Drain, Workers};
use crate::listener::accept_error::AcceptErrorPolicy;
use portcullis_middleware::connection::Address;
use std::time::Duration;

/// The settings that a server started with; see [`Handle::config`](super::Handle::config).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The listeners that it started with, in the order in which they were added.
    pub listeners: Vec<ListenerConfig>,
    /// Which threads serve.
    pub workers: Workers,
    /// How the server shuts down.
    pub drain: Drain,
    /// How the server handles accept errors.
    pub accept_errors: AcceptErrorPolicy,
    /// How long the server may be idle before it stops. `None` means indefinitely.
    pub stop_when_idle: Option<Duration>,
    /// Whether the server goes on without a listener.
    pub until_stopped: bool,
}

/// A listener of a server; see [`Config::listeners`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    pub(super) name: String,
    pub(super) address: Address,
}

impl ListenerConfig {
    /// The name, for logs and handlers.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address that it is bound to.
    pub const fn address(&self) -> &Address {
        &self.address
    }
}
