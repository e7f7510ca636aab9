//! Exports the ends of certificates and the results of reloads.

use super::Snapshot;
use crate::{
    connection::CertificateFacts,
    meter::{Counter, Gauge},
};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::UNIX_EPOCH,
};

/// The metrics of a store.
pub(super) struct StoreMetrics {
    pub(super) reloaded: Counter,
    pub(super) failed: Counter,
    /// By name.
    not_after: Mutex<HashMap<String, Gauge>>,
}

impl StoreMetrics {
    pub(super) fn new() -> Self {
        Self {
            reloaded: Counter::reloads("completed"),
            failed: Counter::reloads("failed"),
            not_after: Mutex::default(),
        }
    }

    /// Shows the certificates of `snapshot`. Those that are not in use any more get the time zero.
    pub(super) fn show(&self, snapshot: &Snapshot) {
        let mut gauges = self
            .not_after
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut ends: HashMap<&str, f64> = HashMap::new();
        for facts in snapshot.facts() {
            let end = facts.not_after.duration_since(UNIX_EPOCH);
            let end = end.map_or(0.0, |end| end.as_secs() as f64);
            let first = ends.entry(name(facts)).or_insert(end);
            *first = first.min(end);
        }
        for (name, gauge) in &*gauges {
            if !ends.contains_key(name.as_str()) {
                gauge.set(0.0);
            }
        }
        for (name, end) in ends {
            let gauge = gauges.entry(name.to_owned());
            let gauge = gauge.or_insert_with(|| Gauge::certificate_not_after(name));
            gauge.set(end);
        }
    }
}

/// The first host name of a certificate, or else its subject.
fn name(facts: &CertificateFacts) -> &str {
    let name = facts.dns_names().next();
    name.or(facts.subject.as_deref()).unwrap_or_default()
}
