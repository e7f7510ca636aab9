//! Which client certificates are accepted.

use super::StoredCrl;
use crate::tls::{
    error::{Part, TlsConfigError},
    load,
    pin::{Pinning, PinningClients},
    rustls::{
        crypto::CryptoProvider,
        pki_types::{CertificateDer, CertificateRevocationListDer},
        server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
    },
    store::{CertStoreProblem, Fault, Input},
    x509::crl_facts,
};
use std::{
    cmp::Reverse,
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
/// A client's certificate may also be listed itself, such as a self-signed one, unless there is a revocation list. Its
/// owner cannot issue others, unless it is one for authorities (`CA:TRUE`, as `openssl req -x509` makes it): each of
/// those can issue certificates for any name, so list only what is trusted to do so.
///
/// A reload of the [`CertStore`](crate::tls::CertStore) reads the files again. If there is a revocation list,
/// each authority in a client's chain needs one, because otherwise the state of its certificates is unknown. Of several
/// lists of one authority, the one that was issued last counts.
/// While the list of an authority is out of date, its clients are rejected, because certificates may have been revoked
/// since; [`with_outdated_crls`](Self::with_outdated_crls) accepts them.
#[derive(Clone)]
pub struct Trust {
    roots: Vec<Input>,
    crls: Vec<Input>,
    accepts_outdated: bool,
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
            accepts_outdated: false,
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

    /// Whether revocation lists stay in use after the time of their next update; by default they do not, and all
    /// clients of their authorities are rejected until there is a new list.
    ///
    /// A list that is out of date is logged as a warning: when it is read, and daily by
    /// [`CertStore::watch`](crate::tls::CertStore::watch).
    #[must_use]
    pub const fn with_outdated_crls(mut self, accept: bool) -> Self {
        self.accepts_outdated = accept;
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
        let verifier = |crls: &_| {
            let settings = (is_optional, self.accepts_outdated);
            verifier(provider, settings, &roots, crls)
        };
        let (crls, verifier) = match verifier(&crls) {
            Ok(verifier) => (crls, verifier),
            Err(error) => {
                let (inputs, fault) = match error {
                    VerifierBuilderError::NoRootAnchors => (&self.roots, Fault::NoAuthority),
                    error => (&self.crls, Fault::Verifier(error)),
                };
                let path = inputs.last().and_then(Input::path);
                problems.push(CertStoreProblem::new(path, 0, fault));
                // A revocation list may be the reason.
                let crls = before?.crls.clone();
                let verifier = verifier(&crls).ok()?;
                (crls, verifier)
            }
        };
        Some(Trusted {
            stored: self.stored(&crls),
            roots,
            crls,
            verifier,
        })
    }

    /// The lists that count: of each authority the newest one, and newer ones that are only for some certificates.
    fn stored(&self, crls: &[Lists]) -> Vec<StoredCrl> {
        let files = self.crls.iter().zip(crls);
        let each = files.flat_map(|(input, lists)| lists.iter().map(move |list| (input, list)));
        let mut each: Vec<_> = each
            .filter_map(|(input, list)| Some((input, crl_facts(list)?)))
            .collect();
        each.sort_by_key(|(_, facts)| Reverse(facts.this_update));
        let mut covered = Vec::new();
        each.retain(|(_, facts)| {
            let counts = !covered.contains(&facts.issuer);
            if counts && !facts.is_partial {
                covered.push(facts.issuer);
            }
            counts
        });
        let stored = each.into_iter().map(|(input, facts)| StoredCrl {
            source: input.path().map(Into::into),
            issuer: facts.issuer_name,
            next_update: facts.next_update,
            is_enforced: !self.accepts_outdated,
        });
        stored.collect()
    }
}

/// What the files of a [`Trust`] contain.
pub(super) struct Trusted {
    /// By file, as the lists.
    roots: Vec<Arc<[CertificateDer<'static>]>>,
    crls: Vec<Lists>,
    pub(super) stored: Vec<StoredCrl>,
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
}

/// The revocation lists in one file.
type Lists = Arc<[CertificateRevocationListDer<'static>]>;

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

/// All lists. Of those of one authority, rustls takes the first.
fn newest_first(crls: &[Lists]) -> Vec<CertificateRevocationListDer<'static>> {
    let mut all: Vec<_> = crls.iter().flat_map(|it| it.iter().cloned()).collect();
    all.sort_by_cached_key(|list| Reverse(crl_facts(list).map(|facts| facts.this_update)));
    all
}

fn verifier(
    provider: &Arc<CryptoProvider>,
    (is_optional, accepts_outdated): (bool, bool),
    roots: &[Arc<[CertificateDer<'static>]>],
    crls: &[Lists],
) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
    let roots: Vec<_> = roots.iter().flat_map(|it| it.iter().cloned()).collect();
    let authorities = load::authorities(&roots);
    let hints = load::issuers_of_others(&roots);
    let pinning = |issued| {
        Arc::new(PinningClients {
            pinning: Pinning::new(roots.clone().into(), issued, provider),
            hints: hints.clone(),
            is_optional,
        })
    };
    if authorities.is_empty() && crls.is_empty() {
        return Ok(pinning(None));
    }
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(authorities.into(), provider.clone())
            .with_crls(newest_first(crls));
    if is_optional {
        builder = builder.allow_unauthenticated();
    }
    if !accepts_outdated {
        builder = builder.enforce_revocation_expiration();
    }
    // With lists, the state of a certificate that no authority issued is unknown.
    Ok(match crls {
        [] => pinning(Some(builder.add_root_hint_subjects(hints.clone()).build()?)),
        _ => builder.build()?,
    })
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<_> = self.paths().collect();
        f.debug_struct("Trust").field("files", &paths).finish()
    }
}
