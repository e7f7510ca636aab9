//! One certificate of a store, as it is read.

use super::{
    error::{CertStoreProblem, Fault},
    ocsp,
    snapshot::{StoredKey, same_leaf},
};
use crate::{
    file,
    tls::{
        error::{ConfigProblem, Part, TlsConfigError},
        load, provider, x509,
    },
};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Where PEM comes from.
#[derive(Clone, PartialEq)]
pub(in crate::tls) enum Input {
    File(PathBuf),
    Bytes(Arc<[u8]>),
}

impl Input {
    pub(in crate::tls) fn read(&self, part: Part) -> Result<Cow<'_, [u8]>, TlsConfigError> {
        match self {
            Self::File(path) => file::read(path).map(Cow::Owned).map_err(|error| {
                TlsConfigError::new(part, ConfigProblem::Read(error)).in_file(path)
            }),
            Self::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
        }
    }

    /// Adds the path to `error`.
    pub(in crate::tls) fn name(&self, error: TlsConfigError) -> TlsConfigError {
        match self {
            Self::File(path) => error.in_file(path),
            Self::Bytes(_) => error,
        }
    }

    pub(in crate::tls) fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Bytes(_) => None,
        }
    }
}

#[derive(Clone, PartialEq)]
pub(super) struct Source {
    chain: Input,
    key: Input,
    pub(super) ocsp: Option<PathBuf>,
    /// For messages.
    pub(super) name: Option<Arc<str>>,
}

impl Source {
    pub(super) const fn new(chain: Input, key: Input) -> Self {
        Self {
            chain,
            key,
            ocsp: None,
            name: None,
        }
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        let pem = [self.chain.path(), self.key.path()];
        pem.into_iter().flatten().chain(self.ocsp.as_deref())
    }

    /// Reads and checks certificate `number` of the store. `before` is the one that it replaces.
    pub(super) fn load(
        &self,
        number: usize,
        before: Option<&StoredKey>,
        now: SystemTime,
    ) -> Result<StoredKey, CertStoreProblem> {
        let problem = |fault| CertStoreProblem::new(self.chain.path(), number, fault);
        let chain = self
            .chain
            .read(Part::Chain)
            .map_err(|e| problem(e.into()))?;
        let key = self.key.read(Part::Key).map_err(|e| problem(e.into()))?;
        let key = load::certified_key(&chain, &key).map_err(|error| {
            let input = if error.is_key() {
                &self.key
            } else {
                &self.chain
            };
            problem(input.name(error).into())
        })?;
        let facts = x509::facts(&key.cert[0], x509::sha256(&provider())).ok_or_else(|| {
            let error = TlsConfigError::new(Part::Chain, ConfigProblem::Rejected(None));
            problem(self.chain.name(error.of_certificate(1)).into())
        })?;
        let before = before.filter(|before| same_leaf(&before.key, &key));
        // In use already, so nothing gets worse.
        if before.is_none() {
            if let Ok(since) = now.duration_since(facts.not_after)
                && since >= Duration::from_secs(1)
            {
                return Err(problem(Fault::Expired(since)));
            }
            let from = facts.not_before;
            if let Ok(wait) = from.duration_since(now)
                && !wait.is_zero()
            {
                return Err(problem(Fault::NotYetValid { from, wait }));
            }
        }
        let since = before.map_or(now, |before| before.since);
        let source = self.chain.path().map(Into::into);
        let mut stored = StoredKey::new(number, key, facts, source, since);
        if let Some(path) = &self.ocsp {
            let ocsp = |fault| CertStoreProblem::new(Some(path), number, fault);
            let response = file::read(path).map_err(|error| ocsp(Fault::Read(error)))?;
            match ocsp::valid_until(&response, &stored.key.cert[0], x509::now()) {
                Ok(until) => stored.staple(response, until, path.clone()),
                Err(ocsp::StapleFault::Malformed) => return Err(ocsp(Fault::Staple)),
                Err(fault) => {
                    tracing::warn!(file = ?path, "the OCSP response is not sent: {fault}")
                }
            }
        }
        Ok(stored)
    }
}

/// A number for each file, which changes with its contents.
pub(super) type Fingerprints = BTreeMap<PathBuf, u64>;

pub(super) fn fingerprints<'a>(paths: impl Iterator<Item = &'a Path>) -> Fingerprints {
    let one = |path: &Path| {
        let mut hasher = DefaultHasher::new();
        file::read(path).ok().hash(&mut hasher);
        (path.to_owned(), hasher.finish())
    };
    paths.map(one).collect()
}
