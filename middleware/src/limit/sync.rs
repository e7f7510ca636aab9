//! Locks of code that `tests/model` checks; there, this module is replaced by one whose schedule is explored.

pub(super) use std::sync::{Mutex, MutexGuard, PoisonError};
