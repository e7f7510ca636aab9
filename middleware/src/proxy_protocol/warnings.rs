//! Warns of rejected connections that point to a mistake in the configuration.

use crate::{
    connection::Address,
    log_limit::LogLimit,
    log_text::{Causes, Escaped},
};
use std::{error::Error, time::Duration};

/// One warning of each kind per minute, however many connections cause it.
#[derive(Debug)]
pub(super) struct Warnings {
    untrusted: LogLimit,
    header: LogLimit,
    repeated: LogLimit,
}

impl Warnings {
    /// Warns of a source that is not trusted: possibly a load balancer that is missing in the list.
    pub(super) fn untrusted(&self, peer: &Address) {
        self.untrusted.write(|suppressed| {
            tracing::warn!(
                %peer, suppressed,
                "connection rejected: {peer} is not a trusted source of PROXY headers; if it is a load \
                 balancer, add it to the trusted sources, if it is a client, allow direct clients"
            );
        });
    }

    /// Warns of a trusted source that sends no valid header: possibly a proxy set up without one.
    pub(super) fn header(&self, peer: &Address, error: &(dyn Error + 'static)) {
        self.header.write(|suppressed| {
            let error = Escaped(Causes(error));
            tracing::warn!(
                %peer, %error, suppressed,
                "connection rejected: {error}; check that this trusted source sends PROXY headers"
            );
        });
    }

    /// Warns of a second header, whose addresses are not recorded.
    pub(super) fn repeated(&self, peer: &Address) {
        self.repeated.write(|suppressed| {
            tracing::warn!(
                %peer, suppressed,
                "a second PROXY header from {peer} was ignored; use one ProxyProtocolLayer only"
            );
        });
    }
}

impl Default for Warnings {
    fn default() -> Self {
        let limit = || LogLimit::new(1, Duration::from_secs(60));
        Self {
            untrusted: limit(),
            header: limit(),
            repeated: limit(),
        }
    }
}
