//! Locks and atomics of code that `tests/model` checks. It replaces this module by one whose schedules it explores.

pub(super) use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};
