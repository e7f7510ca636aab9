//! The certificates that servers have presented.

use super::{member::Member, pool::Shared};
use portcullis_middleware::{ConnectionInfo, internal::Gauge};
use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The end of the certificate that a server has presented last, in Unix time; 0 if it has presented none.
#[derive(Debug, Default)]
pub(super) struct Presented(AtomicU64);

impl Presented {
    fn end(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|end| *end > 0)
    }

    /// Returns whether it was another one.
    fn set(&self, end: u64) -> bool {
        // Most handshakes show the same certificate, and only read.
        self.0.load(Ordering::Relaxed) != end && self.0.swap(end, Ordering::Relaxed) != end
    }

    pub(super) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// The gauges of a pool, by the name of the server or the host name that it is an address of, with what they contain.
#[derive(Debug, Default)]
pub(super) struct Ends(Mutex<HashMap<String, (Gauge, u64)>>);

impl Shared {
    /// Notes the certificate that a server has presented in a handshake.
    pub(super) fn presented(&self, member: &Member, info: &ConnectionInfo) {
        let Some(tls) = info.tls() else {
            return;
        };
        let Some(certificate) = &tls.peer_certificate else {
            return;
        };
        let end = certificate.not_after.duration_since(UNIX_EPOCH);
        let end = end.map_or(0, |end| end.as_secs());
        // The certificate of a resumed session is that of its first handshake.
        if !tls.resumed && member.state.presented.set(end) {
            self.show_certificates();
        }
    }

    /// When the certificate ends that a server has presented last.
    pub(super) fn certificate_not_after(&self, member: &Member) -> Option<SystemTime> {
        let end = self.presented_end(member)?;
        Some(UNIX_EPOCH + Duration::from_secs(end))
    }

    /// Shows for each server, or host name, the certificate that ends first.
    pub(super) fn show_certificates(&self) {
        let mut shown = self.ends.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ends: HashMap<&str, u64> = HashMap::new();
        let members = match self.is_retired.load(Ordering::SeqCst) {
            true => Default::default(),
            false => self.members(),
        };
        for member in members.iter() {
            if let Some(end) = self.presented_end(member) {
                let name = member.server.resolved_name().unwrap_or(&member.key);
                let first = ends.entry(name.as_str()).or_insert(end);
                *first = end.min(*first);
            }
        }
        let backend = self.name().unwrap_or_default();
        for name in ends.keys() {
            if !shown.contains_key(*name) {
                let gauge = Gauge::backend_certificate_not_after(backend, name);
                shown.insert((*name).to_owned(), (gauge, 0));
            }
        }
        shown.retain(|name, (gauge, before)| {
            let now = ends.get(name.as_str()).copied().unwrap_or_default();
            // By the difference, because another pool of this name may show it as well.
            gauge.add(now as f64 - *before as f64);
            *before = now;
            now > 0
        });
    }

    /// Nothing if neither connections to the server nor its checks have TLS any more.
    fn presented_end(&self, member: &Member) -> Option<u64> {
        let end = member.state.presented.end()?;
        self.has_tls(member).then_some(end)
    }

    #[cfg(feature = "tls")]
    fn has_tls(&self, member: &Member) -> bool {
        let settings = self.settings();
        let of_check = settings
            .health
            .as_ref()
            .and_then(|check| check.tls.as_ref());
        member.server.tls().or(of_check).is_some()
    }

    #[cfg(not(feature = "tls"))]
    const fn has_tls(&self, _: &Member) -> bool {
        false
    }
}
