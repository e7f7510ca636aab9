//! Checks code of `portcullis-middleware` beyond its tests.
//!
//! ```text
//! cargo run --release --manifest-path tests/model/Cargo.toml
//! ```
//!
//! * loom runs the counts of `KeyedLimitLayer` under the schedules of a few threads: they take, release and resize,
//!   and no count may be lost or invented.
//! * governor, another implementation of GCRA, must decide as `RateLimitLayer` does.
//!
//! The sources are included as they are. Only their locks come from loom.

#![allow(dead_code, reason = "the sources have more than the models use")]

mod limit;

/// What the included sources import from their crate.
pub(crate) use portcullis_middleware::ConnectionInfo;

mod connection {
    pub(crate) use portcullis_middleware::internal::{Slot, Slots};
}

mod meter {
    /// Models export nothing.
    #[derive(Clone)]
    pub(crate) struct Gauge;

    impl Gauge {
        pub(crate) fn add(&self, _: f64) {}
    }
}

fn main() {
    limit::counts_model::check();
    limit::gcra_model::check();
}
