//! Which client certificates are accepted.

use crate::tls::{
    error::Part,
    load,
    rustls::{
        RootCertStore,
        crypto::CryptoProvider,
        server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    },
    store::{CertStoreProblem, Fault, Input},
};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Whether clients present a certificate.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum ClientAuth {
    /// Clients are not asked for a certificate.
    #[default]
    Off,
    /// Clients may present a certificate. One that is not trusted is rejected.
    Optional(Trust),
    /// Clients must present a trusted certificate.
    Required(Trust),
}

impl ClientAuth {
    pub(super) const fn trust(&self) -> Option<&Trust> {
        match self {
            Self::Off => None,
            Self::Optional(trust) | Self::Required(trust) => Some(trust),
        }
    }

    /// Reads the trusted roots; `None` without client certificates.
    pub(super) fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, Vec<CertStoreProblem>> {
        let Some(trust) = self.trust() else {
            return Ok(None);
        };
        let is_optional = matches!(self, Self::Optional(_));
        trust.verifier(provider, is_optional).map(Some)
    }
}

/// The authorities that issue certificates for clients, and the certificates that they have revoked.
///
/// A reload of the [`CertStore`](crate::tls::CertStore) reads the files again. If there is a revocation list,
/// each authority in a client's chain needs one, because otherwise the state of its certificates is unknown.
/// Lists remain in use after the date of their next update.
#[derive(Clone)]
pub struct Trust {
    roots: Vec<Input>,
    crls: Vec<Input>,
}

impl Trust {
    /// Trusts the authorities in a PEM file.
    pub fn pem_file(roots: impl Into<PathBuf>) -> Self {
        Self::of(Input::File(roots.into()))
    }

    /// Trusts the authorities in PEM, which a reload cannot change.
    pub fn pem(roots: &[u8]) -> Self {
        Self::of(Input::Bytes(roots.into()))
    }

    fn of(roots: Input) -> Self {
        Self {
            roots: vec![roots],
            crls: Vec::new(),
        }
    }

    /// Rejects the certificates that the revocation lists in a PEM file contain. Call it once for each file.
    #[must_use]
    pub fn with_crl_file(mut self, crls: impl Into<PathBuf>) -> Self {
        self.crls.push(Input::File(crls.into()));
        self
    }

    /// Rejects the certificates that the revocation lists in PEM contain.
    #[must_use]
    pub fn with_crl_pem(mut self, crls: &[u8]) -> Self {
        self.crls.push(Input::Bytes(crls.into()));
        self
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.roots.iter().chain(&self.crls).filter_map(Input::path)
    }

    fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
        is_optional: bool,
    ) -> Result<Arc<dyn ClientCertVerifier>, Vec<CertStoreProblem>> {
        let mut problems = Vec::new();
        let mut roots = RootCertStore::empty();
        for input in &self.roots {
            let read = input.read(Part::Roots);
            match read.and_then(|pem| load::roots(&pem).map_err(|e| input.name(e))) {
                Ok(more) => roots.roots.extend(more.roots),
                Err(error) => problems.push(CertStoreProblem::new(input.path(), 0, error.into())),
            }
        }
        let mut crls = Vec::new();
        for input in &self.crls {
            let read = input.read(Part::Crls);
            match read.and_then(|pem| load::crls(&pem).map_err(|e| input.name(e))) {
                Ok(more) => crls.extend(more),
                Err(error) => problems.push(CertStoreProblem::new(input.path(), 0, error.into())),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .with_crls(crls);
        if is_optional {
            builder = builder.allow_unauthenticated();
        }
        let verifier = builder.build().map_err(|error| {
            let path = self.paths().last();
            vec![CertStoreProblem::new(path, 0, Fault::Verifier(error))]
        })?;
        Ok(verifier)
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<_> = self.paths().collect();
        f.debug_struct("Trust").field("files", &paths).finish()
    }
}
