//! The included sources, with the locks of loom, and their models.

pub(crate) mod counts_model;
pub(crate) mod gcra_model;

#[path = "../../../../middleware/src/limit/keyed_limit/counts.rs"]
#[rustfmt::skip]
mod counts;
#[path = "../../../../middleware/src/limit/key.rs"]
#[rustfmt::skip]
mod key;
#[path = "../../../../middleware/src/limit/rate_limit/rate.rs"]
#[rustfmt::skip]
mod rate;
#[path = "../../../../middleware/src/limit/table.rs"]
#[rustfmt::skip]
mod table;

mod sync {
    pub(super) use loom::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    };
    pub(super) use std::sync::PoisonError;
}
