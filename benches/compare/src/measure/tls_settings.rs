//! Handshakes by TLS configuration.

use super::handshake;
use crate::plan::{Bench, Plan};

pub(super) fn plan(bench: &Bench) -> Plan {
    Plan::new(
        bench,
        "tls-settings",
        "Handshakes by TLS settings",
        "As above, by portcullis. `cache` is as rustls sets it up: two tickets for each connection, sessions in \
         memory. `one-ticket` is as a `TlsLayer` is that was made of certificates. With `no-tickets` nobody \
         can resume. `stateless` puts the session into the ticket, encrypted. `ring` is the other crypto \
         provider.",
        handshake::COLUMNS,
        |bench, row, server| handshake::sample(bench, row, server, row.group == RESUMED),
    )
    .group("full", 0, SETTINGS)
    .group(RESUMED, 0, SETTINGS)
}

const RESUMED: &str = "resumed";

pub(super) const SETTINGS: &str =
    "tls-cache tls-one-ticket tls-no-tickets tls-stateless tls-ring tls-cache";
