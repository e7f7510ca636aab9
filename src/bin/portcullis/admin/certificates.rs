//! `/api/certificates`: the certificates that listeners and the admin interface show, and those that are shown to
//! servers, without their keys.

use super::{
    reply::{self, Refusal, Reply},
    router::Call,
    time,
};
use crate::{
    config::Certificate,
    tls_facts::text_of,
    view::{Current, View},
};
use portcullis::middleware::tls::{CertStore, store::StoredCertificate};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::SystemTime};

pub(super) fn list(call: &Call<'_>) -> Result<Reply, Refusal> {
    call.query(&[])?;
    let view = &call.interface.view;
    let now = SystemTime::now();
    let shown: Vec<_> = in_use(view, &view.current())
        .iter()
        .map(|used| show(used, now))
        .collect();
    Ok(reply::ok(&json!({ "certificates": shown })))
}

/// A certificate, which several listeners may have read for themselves.
pub(super) struct InUse {
    /// Its name in the configuration.
    pub(super) name: String,
    pub(super) stored: StoredCertificate,
    has_staple: bool,
    listeners: Vec<String>,
    /// The listeners whose clients get it if no certificate has the name that they request.
    default_for: Vec<String>,
    /// Those whose servers it is shown to.
    backends: Vec<String>,
}

impl InUse {
    /// The state of its OCSP response.
    pub(super) fn staple(&self) -> &'static str {
        match (self.stored.is_stapled, self.has_staple) {
            (true, _) => "good",
            (false, true) => "stale",
            (false, false) => "none",
        }
    }
}

pub(super) fn in_use(view: &View, current: &Current) -> Vec<InUse> {
    let mut found = Found::new();
    for (listener, store) in stores(view, current) {
        for stored in store.certificates() {
            let is_default = stored.is_default;
            let used = find(&mut found, stored, current);
            add(&mut used.listeners, &listener);
            if is_default {
                add(&mut used.default_for, &listener);
            }
        }
    }
    for (backend, pool) in &current.pools {
        for stored in pool.client_certificates() {
            add(&mut find(&mut found, stored, current).backends, backend);
        }
    }
    found.into_values().collect()
}

/// The stores of listeners, with their names, and that of the admin interface.
pub(super) fn stores(view: &View, current: &Current) -> Vec<(String, CertStore)> {
    let listeners = current.listeners.iter();
    let of_listeners = listeners.flat_map(|it| {
        let stores = it.certificates.iter().cloned();
        stores.map(|store| (it.name.clone(), store))
    });
    let of_admin = view.admin_certificates.load_full();
    let of_admin = of_admin.map(|store| (ADMIN.to_owned(), CertStore::clone(&store)));
    of_listeners.chain(of_admin).collect()
}

/// By name and serial number.
type Found = BTreeMap<(String, String), InUse>;

fn find<'a>(found: &'a mut Found, stored: StoredCertificate, current: &Current) -> &'a mut InUse {
    let configured = configured(&stored, &current.config.certificates);
    let name = configured.map_or_else(|| title(&stored), |it| it.name.value.clone());
    let key = (name.clone(), stored.facts.serial.clone());
    found.entry(key).or_insert_with(|| InUse {
        name,
        has_staple: configured.is_some_and(|it| it.ocsp.is_some()),
        stored,
        listeners: Vec::new(),
        default_for: Vec::new(),
        backends: Vec::new(),
    })
}

fn add(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}

/// In place of a listener. The name of a listener has no space.
pub(super) const ADMIN: &str = "admin interface";

fn configured<'a>(stored: &StoredCertificate, all: &'a [Certificate]) -> Option<&'a Certificate> {
    let Some(source) = &stored.source else {
        return all
            .iter()
            .find(|certificate| certificate.in_memory.is_some());
    };
    all.iter()
        .find(|certificate| certificate.chain.value == *source)
}

/// For one that the configuration no longer has.
fn title(stored: &StoredCertificate) -> String {
    let name = stored.facts.names.iter().find_map(text_of);
    name.or_else(|| stored.facts.subject.clone())
        .unwrap_or_else(|| "unnamed".into())
}

/// How long a certificate with this end is valid from `now`, in days; negative afterwards.
pub(super) fn days_left(not_after: SystemTime, now: SystemTime) -> i64 {
    const DAY: i64 = 24 * 60 * 60;
    let seconds = match not_after.duration_since(now) {
        Ok(left) => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        Err(over) => i64::try_from(over.duration().as_secs()).map_or(i64::MIN, |over| -over - 1),
    };
    seconds.div_euclid(DAY)
}

/// What an operator should know about a certificate with this end, if it ends soon.
pub(super) fn warning(not_after: SystemTime, now: SystemTime) -> Option<String> {
    match days_left(not_after, now) {
        i64::MIN..0 => Some("has expired".into()),
        0 => Some("ends within a day".into()),
        days @ 1..EXPIRY => Some(format!("ends in {days} days")),
        EXPIRY.. => None,
    }
}

/// Days before the end of a certificate. Those of Let's Encrypt are renewed 30 days before.
const EXPIRY: i64 = 14;

fn show(used: &InUse, now: SystemTime) -> Value {
    let facts = &used.stored.facts;
    json!({
        "name": used.name,
        "names": facts.names.iter().filter_map(text_of).collect::<Vec<_>>(),
        "issuer": facts.issuer,
        "serial": facts.serial,
        "not_before": time::millis(facts.not_before),
        "not_after": time::millis(facts.not_after),
        "days_left": days_left(facts.not_after, now),
        "chain": used.stored.source.as_ref().map(|path| path.display().to_string()),
        "staple": used.staple(),
        "problem": used.stored.problem.as_deref(),
        "listeners": used.listeners,
        "default_for": used.default_for,
        "backends": used.backends,
    })
}
