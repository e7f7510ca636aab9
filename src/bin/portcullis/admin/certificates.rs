//! `/api/certificates`: the certificates that listeners show, without their keys.

use super::{
    reply::{self, Refusal, Reply},
    router::Call,
    time,
};
use crate::{config::Certificate, view::Current};
use portcullis::middleware::tls::store::StoredCertificate;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::SystemTime};

pub(super) fn list(call: &Call<'_>) -> Result<Reply, Refusal> {
    call.query(&[])?;
    let current = call.interface.view.current();
    let now = SystemTime::now();
    let shown: Vec<_> = in_use(&current)
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

pub(super) fn in_use(current: &Current) -> Vec<InUse> {
    let mut found: BTreeMap<(String, String), InUse> = BTreeMap::new();
    for listener in &current.listeners {
        let stored = listener
            .certificates
            .iter()
            .flat_map(|store| store.certificates());
        for stored in stored {
            let configured = configured(&stored, &current.config.certificates);
            let name = configured.map_or_else(|| title(&stored), |it| it.name.value.clone());
            let key = (name.clone(), stored.facts.serial.clone());
            let used = found.entry(key).or_insert_with(|| InUse {
                name,
                has_staple: configured.is_some_and(|it| it.ocsp.is_some()),
                stored,
                listeners: Vec::new(),
            });
            if !used.listeners.contains(&listener.name) {
                used.listeners.push(listener.name.clone());
            }
        }
    }
    found.into_values().collect()
}

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
    let name = stored.facts.dns_names().next();
    name.or(stored.facts.subject.as_deref())
        .unwrap_or("unnamed")
        .to_owned()
}

/// How long it is valid from `now`, in days; negative afterwards.
pub(super) fn days_left(stored: &StoredCertificate, now: SystemTime) -> i64 {
    const DAY: i64 = 24 * 60 * 60;
    let seconds = match stored.facts.not_after.duration_since(now) {
        Ok(left) => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        Err(over) => i64::try_from(over.duration().as_secs()).map_or(i64::MIN, |over| -over - 1),
    };
    seconds.div_euclid(DAY)
}

fn show(used: &InUse, now: SystemTime) -> Value {
    let facts = &used.stored.facts;
    json!({
        "name": used.name,
        "names": facts.dns_names().collect::<Vec<_>>(),
        "issuer": facts.issuer,
        "serial": facts.serial,
        "not_before": time::millis(facts.not_before),
        "not_after": time::millis(facts.not_after),
        "days_left": days_left(&used.stored, now),
        "chain": used.stored.source.as_ref().map(|path| path.display().to_string()),
        "staple": used.staple(),
        "listeners": used.listeners,
    })
}
