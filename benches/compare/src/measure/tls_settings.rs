//! What the choices in a TLS configuration cost: tickets, and the crypto provider.

use super::{Bench, Plan, handshake};

pub(super) fn plan(bench: &Bench) -> Plan {
    Plan::new(
        bench,
        "tls-settings",
        "Handshakes by TLS settings",
        "As above, by portcullis. `cache` is as rustls sets it up, and so is a `TlsLayer` made of certificates: \
         two tickets for each connection, sessions in memory. `one-ticket` differs from it by what it says, \
         `no-tickets` as well: nobody can resume there. `stateless` puts the session into the ticket, encrypted. \
         `ring` is the other crypto provider.",
        handshake::COLUMNS,
        |bench, row, server| handshake::sample(bench, row, server, row.group == RESUMED),
    )
    .group("full", 0, SETTINGS)
    .group(RESUMED, 0, SETTINGS)
}

const RESUMED: &str = "resumed";

pub(super) const SETTINGS: &[&str] = &[
    "tls-cache",
    "tls-one-ticket",
    "tls-no-tickets",
    "tls-stateless",
    "tls-ring",
    "tls-cache",
];
