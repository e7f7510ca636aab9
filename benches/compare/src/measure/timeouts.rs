//! What a bound on each read and each write costs.

use super::{Bench, Plan, data};
use crate::load::Client;

pub(super) fn plan(bench: &Bench) -> Plan {
    Plan::new(
        bench,
        "timeouts",
        "Timeouts of single operations",
        "Echo of 64 bytes as above. `tokio` and `portcullis` have no timeouts, the others 60 s for \
         each read and each write; `tokio-timeout` is `tokio::time::timeout` around each call.",
        data::OPERATIONS,
        |bench, row, server| {
            let client = Client::new(server.address, row.entry.job, 64, &bench.folder)?;
            data::kept(bench, &client, 64, server)
        },
    )
    .servers(&[
        "tokio",
        "portcullis",
        "portcullis-timeouts",
        "tokio-io-timeout",
        "tokio-timeout",
        "tokio",
    ])
}
