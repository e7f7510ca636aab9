//! Which client certificates are accepted.

use crate::tls::{
    error::{Part, TlsConfigError},
    load,
    pin::Pinning,
    rustls::{
        crypto::CryptoProvider,
        pki_types::{CertificateDer, CertificateRevocationListDer},
        server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
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

    pub(super) const fn is_optional(&self) -> bool {
        matches!(self, Self::Optional(_))
    }
}

/// The authorities that issue certificates for clients, and the certificates that they have revoked.
///
/// A client's certificate may also be listed itself, such as a self-signed one, unless there is a revocation list.
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

    /// Reads the files. Of a file that cannot be used, what it contained `before` stays in use.
    ///
    /// `None` if nothing can be used in its place.
    pub(super) fn read(
        &self,
        provider: &Arc<CryptoProvider>,
        is_optional: bool,
        before: Option<&Trusted>,
        problems: &mut Vec<CertStoreProblem>,
    ) -> Option<Trusted> {
        let old_roots = before.map(|before| &*before.roots);
        let roots = read_each(
            &self.roots,
            Part::Roots,
            load::root_certificates,
            old_roots,
            problems,
        );
        let old_crls = before.map(|before| &*before.crls);
        let crls = read_each(&self.crls, Part::Crls, load::crls, old_crls, problems);
        let (roots, crls) = (roots?, crls?);
        let error = match verifier(provider, is_optional, &roots, &crls) {
            Ok(verifier) => {
                return Some(Trusted {
                    roots,
                    crls,
                    verifier,
                });
            }
            Err(error) => Fault::Verifier(error),
        };
        problems.push(CertStoreProblem::new(self.paths().last(), 0, error));
        // Only a revocation list can be the reason.
        let crls = before?.crls.clone();
        let verifier = verifier(provider, is_optional, &roots, &crls).ok()?;
        Some(Trusted {
            roots,
            crls,
            verifier,
        })
    }
}

/// What the files of a [`Trust`] contain.
pub(super) struct Trusted {
    /// By file, as the lists.
    roots: Vec<Arc<[CertificateDer<'static>]>>,
    crls: Vec<Arc<[CertificateRevocationListDer<'static>]>>,
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
}

/// Reads all `inputs`, so that each problem is found.
fn read_each<T>(
    inputs: &[Input],
    part: Part,
    parse: impl Fn(&[u8]) -> Result<Vec<T>, TlsConfigError>,
    before: Option<&[Arc<[T]>]>,
    problems: &mut Vec<CertStoreProblem>,
) -> Option<Vec<Arc<[T]>>> {
    let read = inputs.iter().enumerate().map(|(number, input)| {
        let pem = input.read(part);
        match pem.and_then(|pem| parse(&pem).map_err(|error| input.name(error))) {
            Ok(read) => Some(read.into()),
            Err(error) => {
                problems.push(CertStoreProblem::new(input.path(), 0, error.into()));
                before.map(|before| before[number].clone())
            }
        }
    });
    let read: Vec<_> = read.collect();
    read.into_iter().collect()
}

fn verifier(
    provider: &Arc<CryptoProvider>,
    is_optional: bool,
    roots: &[Arc<[CertificateDer<'static>]>],
    crls: &[Arc<[CertificateRevocationListDer<'static>]>],
) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
    let roots: Vec<_> = roots.iter().flat_map(|it| it.iter().cloned()).collect();
    let anchors = Arc::new(load::anchors(&roots));
    let mut builder = WebPkiClientVerifier::builder_with_provider(anchors, provider.clone())
        .with_crls(crls.iter().flat_map(|it| it.iter().cloned()));
    if is_optional {
        builder = builder.allow_unauthenticated();
    }
    let verifier = builder.build()?;
    // With lists, the state of a certificate that no authority issued is unknown.
    Ok(match crls {
        [] => Arc::new(Pinning::new(roots.into(), verifier)),
        _ => verifier,
    })
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<_> = self.paths().collect();
        f.debug_struct("Trust").field("files", &paths).finish()
    }
}
