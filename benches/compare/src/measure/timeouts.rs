//! The cost of a timeout on each read and each write.

use super::data;
use crate::plan::{Bench, Plan};

pub(super) fn plan(bench: &Bench) -> Plan {
    data::kept(
        bench,
        "timeouts",
        "Timeouts of single operations",
        "Echo of 64 bytes as above. `tokio` and `portcullis` have no timeouts, the others 60 s for \
         each read and each write; `tokio-timeout` is `tokio::time::timeout` around each call.",
        64,
    )
    .servers("tokio portcullis portcullis-timeouts tokio-io-timeout tokio-timeout tokio")
}
