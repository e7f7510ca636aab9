//! Exports the ends of certificates and the results of reloads.

use super::Snapshot;
use crate::{
    connection::CertificateFacts,
    meter::{Counter, Gauge},
};
use std::{
    collections::HashMap,
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::UNIX_EPOCH,
};

/// The metrics of a store.
pub(super) struct StoreMetrics {
    pub(super) reloaded: Counter,
    pub(super) failed: Counter,
    /// The number of the store in [`Ends`].
    store: u64,
    /// By the name of a certificate.
    not_after: Mutex<HashMap<String, Gauge>>,
}

/// The ends of certificates by their names, in all stores of the process.
///
/// Several stores may have a certificate of one name, such as those of two listeners, and share its gauge. The gauge shows
/// the first end, so that none is missed, and zero when no store has the name.
#[derive(Default)]
struct Ends(HashMap<String, Vec<End>>);

struct End {
    store: u64,
    /// In Unix time.
    at: f64,
}

impl StoreMetrics {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            reloaded: Counter::reloads("completed"),
            failed: Counter::reloads("failed"),
            store: NEXT.fetch_add(1, Ordering::Relaxed),
            not_after: Mutex::default(),
        }
    }

    /// Shows the certificates of `snapshot` in place of those before.
    pub(super) fn show(&self, snapshot: &Snapshot) {
        let mut ends: HashMap<&str, f64> = HashMap::new();
        for facts in snapshot.facts() {
            let end = facts.not_after.duration_since(UNIX_EPOCH);
            let end = end.map_or(0.0, |end| end.as_secs() as f64);
            let first = ends.entry(name(facts)).or_insert(end);
            *first = first.min(end);
        }
        self.replace(&ends);
    }

    fn replace(&self, ends: &HashMap<&str, f64>) {
        let mut gauges = self.gauges();
        let mut all = Ends::lock();
        gauges.retain(|name, gauge| {
            let stays = ends.contains_key(name.as_str());
            if !stays {
                gauge.set(all.remove(name, self.store));
            }
            stays
        });
        for (name, at) in ends {
            let gauge = gauges.entry((*name).to_owned());
            let gauge = gauge.or_insert_with(|| Gauge::certificate_not_after(name));
            gauge.set(all.add(name, self.store, *at));
        }
    }

    fn gauges(&self) -> MutexGuard<'_, HashMap<String, Gauge>> {
        self.not_after
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for StoreMetrics {
    fn drop(&mut self) {
        self.replace(&HashMap::new());
    }
}

impl Ends {
    fn lock() -> MutexGuard<'static, Self> {
        static ENDS: LazyLock<Mutex<Ends>> = LazyLock::new(Mutex::default);
        ENDS.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what the gauge shows then, as does [`remove`](Self::remove).
    fn add(&mut self, name: &str, store: u64, at: f64) -> f64 {
        self.remove(name, store);
        let ends = self.0.entry(name.to_owned()).or_default();
        ends.push(End { store, at });
        first(ends)
    }

    fn remove(&mut self, name: &str, store: u64) -> f64 {
        let Some(ends) = self.0.get_mut(name) else {
            return 0.0;
        };
        ends.retain(|end| end.store != store);
        if ends.is_empty() {
            self.0.remove(name);
            return 0.0;
        }
        first(ends)
    }
}

fn first(ends: &[End]) -> f64 {
    ends.iter().map(|end| end.at).fold(f64::INFINITY, f64::min)
}

/// The first host name of a certificate, or else its subject.
fn name(facts: &CertificateFacts) -> &str {
    let name = facts.dns_names().next();
    name.or(facts.subject.as_deref()).unwrap_or_default()
}
