//! The certificates of a store at one time, by name.

use super::{CertStoreProblem, error::Fault, source::Source};
use crate::{
    connection::CertificateFacts,
    tls::{
        rustls::{
            SignatureAlgorithm, SignatureScheme,
            server::{ClientHello, ResolvesServerCert},
            sign::CertifiedKey,
        },
        x509::now,
    },
};
use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

/// A certificate of a [`CertStore`](super::CertStore), without its key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoredCertificate {
    /// Its names, validity, issuer and serial number.
    pub facts: CertificateFacts,
    /// The file of its chain, unless it was added as bytes.
    pub source: Option<PathBuf>,
    /// Whether it serves clients that request no name or another name.
    pub is_default: bool,
    /// Whether an OCSP response is sent with it.
    pub is_stapled: bool,
    /// The time since which it is in use.
    pub since: SystemTime,
    /// Why the files of its successor cannot be used, if [`CertStore::watch`](super::CertStore::watch) has found that.
    pub problem: Option<Arc<str>>,
}

/// A certificate with its key.
pub(in crate::tls) struct StoredKey {
    number: usize,
    pub(super) key: Arc<CertifiedKey>,
    stapled: Option<Stapled>,
    pub(in crate::tls) facts: CertificateFacts,
    source: Option<PathBuf>,
    pub(super) since: SystemTime,
}

impl StoredKey {
    pub(super) fn new(
        number: usize,
        key: CertifiedKey,
        facts: CertificateFacts,
        source: Option<PathBuf>,
        since: SystemTime,
    ) -> Self {
        Self {
            number,
            key: Arc::new(key),
            stapled: None,
            facts,
            source,
            since,
        }
    }

    /// Of several certificates for one name, each has another type.
    fn key_type(&self) -> SignatureAlgorithm {
        self.key.key.algorithm()
    }

    pub(super) fn staple(&mut self, response: Vec<u8>, until: i64, file: PathBuf) {
        let mut key = CertifiedKey::clone(&self.key);
        key.ocsp = Some(response);
        self.stapled = Some(Stapled {
            key: Arc::new(key),
            until,
            file,
            is_reported: AtomicBool::new(false),
        });
    }

    /// With its OCSP response, unless that is out of date by now.
    pub(in crate::tls) fn current(&self) -> &Arc<CertifiedKey> {
        self.current_at(now())
    }

    pub(in crate::tls) fn current_at(&self, now: i64) -> &Arc<CertifiedKey> {
        let Some(stapled) = &self.stapled else {
            return &self.key;
        };
        if now <= stapled.until {
            return &stapled.key;
        }
        if !stapled.is_reported.swap(true, Ordering::Relaxed) {
            tracing::warn!(file = ?stapled.file, "an OCSP response is out of date and no longer sent");
        }
        &self.key
    }
}

/// A certificate with an OCSP response.
struct Stapled {
    key: Arc<CertifiedKey>,
    /// The last second of its validity.
    until: i64,
    file: PathBuf,
    /// Whether it was reported that it is out of date.
    is_reported: AtomicBool,
}

pub(super) fn same_leaf(a: &CertifiedKey, b: &CertifiedKey) -> bool {
    a.cert.first() == b.cert.first()
}

/// Immutable; a reload makes a new one.
#[derive(Default)]
pub(in crate::tls) struct Snapshot {
    keys: Vec<Arc<StoredKey>>,
    /// Why certificates keep their files of before, by their numbers.
    problems: HashMap<usize, Arc<str>>,
    /// Positions in `keys`, by name in lower case. Those of one name have keys of different types.
    exact: HashMap<Box<str>, Vec<usize>>,
    /// Wildcards, without `*.`.
    wildcards: HashMap<Box<str>, Vec<usize>>,
    default: Option<usize>,
}

impl Snapshot {
    /// Reads `sources`, and returns what is usable together with all problems.
    pub(super) fn load(
        sources: &[Source],
        default: Option<usize>,
        before: Option<&Self>,
        now: SystemTime,
    ) -> (Self, Vec<CertStoreProblem>) {
        let (mut new, mut problems) = (Self::default(), Vec::new());
        if sources.is_empty() {
            problems.push(CertStoreProblem::new(None, 0, Fault::Empty));
        }
        for (number, source) in sources.iter().enumerate() {
            let before = before.and_then(|before| before.keys.iter().find(|k| k.number == number));
            match source.load(number, before.map(|key| &**key), now) {
                Ok(key) => problems.extend(new.add(key.into(), default == Some(number))),
                Err(problem) => problems.push(problem),
            }
        }
        (new, problems)
    }

    /// Reads `sources`. A certificate that is not usable, or does not fit the others, stays as it was `before`, and
    /// has its problem.
    pub(super) fn renew(
        sources: &[Source],
        default: Option<usize>,
        before: &Self,
        now: SystemTime,
    ) -> (Self, Vec<(usize, CertStoreProblem)>) {
        let mut problems = Vec::new();
        let mut keys = Vec::new();
        for (number, (source, before)) in sources.iter().zip(&before.keys).enumerate() {
            keys.push(match source.load(number, Some(before), now) {
                Ok(key) => key.into(),
                Err(problem) => {
                    problems.push((number, problem));
                    before.clone()
                }
            });
        }
        let is_new = |keys: &[Arc<StoredKey>], number: usize| {
            !same_leaf(&keys[number].key, &before.keys[number].key)
        };
        // Those of before fit each other, so it ends when all that conflict are from before.
        loop {
            let mut new = Self::default();
            let conflict = keys.iter().enumerate().find_map(|(number, key)| {
                let found = new.add(key.clone(), default == Some(number));
                found.into_iter().next()
            });
            let Some(problem) = conflict else {
                let texts = problems.iter();
                new.problems = texts.map(|(n, problem)| (*n, problem.text())).collect();
                return (new, problems);
            };
            let mut both = problem.certificates();
            let Some(number) = both.find(|number| is_new(&keys, *number)) else {
                return (new, problems);
            };
            drop(both);
            keys[number] = before.keys[number].clone();
            problems.push((number, problem));
        }
    }

    fn add(&mut self, key: Arc<StoredKey>, is_default: bool) -> Vec<CertStoreProblem> {
        let mut problems = Vec::new();
        let position = self.keys.len();
        let mut is_reachable = is_default;
        for dns_name in key.facts.dns_names() {
            let name = normalized(dns_name);
            let (names, name) = match name.strip_prefix("*.") {
                Some(parent) => (&mut self.wildcards, parent),
                None => (&mut self.exact, &*name),
            };
            if name.is_empty() || name.contains('*') {
                continue;
            }
            is_reachable = true;
            let positions = names.entry(name.into()).or_default();
            // A certificate may repeat a name.
            if positions.last() == Some(&position) {
                continue;
            }
            let mut others = positions.iter().map(|other| &self.keys[*other]);
            let same_type = others.find(|other| other.key_type() == key.key_type());
            match same_type {
                None => positions.push(position),
                Some(other) => {
                    let fault = Fault::Claimed {
                        name: dns_name.to_owned(),
                        by: other.source.clone(),
                        number: other.number,
                    };
                    problems.push(CertStoreProblem::new(
                        key.source.as_deref(),
                        key.number,
                        fault,
                    ));
                }
            }
        }
        if !is_reachable {
            let source = key.source.as_deref();
            problems.push(CertStoreProblem::new(source, key.number, Fault::Nameless));
        }
        if is_default {
            self.default = Some(position);
        }
        self.keys.push(key);
        problems
    }

    /// Whether there is a certificate for `name`, or for clients that request none.
    pub(in crate::tls) fn serves(&self, name: Option<&str>) -> bool {
        self.find(name).is_some()
    }

    pub(in crate::tls) fn find(&self, name: Option<&str>) -> Option<&StoredKey> {
        self.keys.get(self.position(name)?).map(|key| &**key)
    }

    /// The first certificate for `name` whose key the client can verify, or else the first one.
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<&StoredKey> {
        let positions = self.positions(name);
        let mut keys = positions.iter().map(|position| &*self.keys[*position]);
        let is_known = |key: &&StoredKey| key.key.key.choose_scheme(schemes).is_some();
        let first = keys.clone().next();
        match positions.len() {
            ..2 => first,
            _ => keys.find(is_known).or(first),
        }
    }

    /// The certificate of a client, which no name selects.
    pub(in crate::tls) fn client_key(&self) -> Option<Arc<CertifiedKey>> {
        let key = self.keys.get(self.default.unwrap_or_default())?;
        Some(key.key.clone())
    }

    /// What the certificate of a client says.
    pub(in crate::tls) fn client_certificate(&self) -> Option<StoredCertificate> {
        let mut all = self.certificates();
        let position = self.default.unwrap_or_default();
        (position < all.len()).then(|| all.swap_remove(position))
    }

    fn position(&self, name: Option<&str>) -> Option<usize> {
        self.positions(name).first().copied()
    }

    fn positions(&self, name: Option<&str>) -> &[usize] {
        let named = name.map(normalized).and_then(|name| {
            let wildcard = || self.wildcards.get(name.split_once('.')?.1);
            self.exact.get(&*name).or_else(wildcard)
        });
        named.map_or(self.default.as_slice(), |positions| positions)
    }

    pub(super) fn resolve(&self, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
            .map(|key| key.current().clone())
    }

    pub(super) fn certificates(&self) -> Vec<StoredCertificate> {
        let positions = 0..self.keys.len();
        positions.map(|position| self.stored(position)).collect()
    }

    pub(super) fn certificate_for(&self, name: Option<&str>) -> Option<StoredCertificate> {
        self.position(name).map(|position| self.stored(position))
    }

    fn stored(&self, position: usize) -> StoredCertificate {
        let key = &self.keys[position];
        StoredCertificate {
            facts: key.facts.clone(),
            source: key.source.clone(),
            is_default: self.default == Some(position),
            is_stapled: key.current().ocsp.is_some(),
            since: key.since,
            problem: self.problems.get(&key.number).cloned(),
        }
    }

    pub(super) fn facts(&self) -> impl Iterator<Item = &CertificateFacts> {
        self.keys.iter().map(|key| &key.facts)
    }

    /// The number of certificates that differ from those of `before`.
    pub(super) fn changes(&self, before: &Self) -> usize {
        let keys = self.keys.iter().zip(&before.keys);
        keys.filter(|(new, old)| !same_leaf(&new.key, &old.key))
            .count()
    }

    pub(super) fn warn_about_expiry(&self) {
        let now = SystemTime::now();
        for key in &self.keys {
            if let Some(left) = key.facts.expires_soon(now) {
                let days = left.as_secs() / (24 * 60 * 60);
                tracing::warn!(
                    file = key.source.as_ref().map(tracing::field::debug),
                    "a certificate expires in {days} days"
                );
            }
        }
    }
}

impl ResolvesServerCert for Snapshot {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Self::resolve(self, &hello)
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without keys.
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

/// `name` in lower case, without a trailing dot.
fn normalized(name: &str) -> Cow<'_, str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(name.to_ascii_lowercase()),
        false => Cow::Borrowed(name),
    }
}
