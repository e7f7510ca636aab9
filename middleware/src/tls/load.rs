//! Reads certificates, keys, roots and revocation lists from PEM, completely or not at all.
//!
//! [`TlsLayer::from_pem`](super::TlsLayer::from_pem) and
//! [`TlsConnector::with_roots_pem`](super::TlsConnector::with_roots_pem) use these functions. Use them for a
//! custom [`ServerConfig`](super::rustls::ServerConfig), for example with certificates that are replaced at
//! run time, client certificates or several host names.
//!
//! Every section of a PEM file (RFC 7468) is checked. A file with a damaged section, such as an indented
//! BEGIN line or two files joined without a line end between them, is rejected with the number of the line.
//! Each certificate must parse. rustls must also support the server's own certificate and the roots. Text
//! between sections, a byte-order mark at the start of the file and sections for another purpose (a key
//! beside its chain) are allowed.
//!
//! # Example
//!
//! This server requires client certificates and lets clients resume sessions:
//!
//! ```
//! use portcullis_middleware::tls::{TlsLayer, load, provider, rustls};
//! use rustls::{ServerConfig, server::WebPkiClientVerifier, sign::SingleCertAndKey};
//! use std::sync::Arc;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! # let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
//! # let (chain, key, roots) = (own.cert.pem(), own.signing_key.serialize_pem(), own.cert.pem());
//! let roots = Arc::new(load::roots(roots.as_bytes())?);
//! let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build()?;
//! let key = load::certified_key(chain.as_bytes(), key.as_bytes())?;
//!
//! let config = ServerConfig::builder_with_provider(provider())
//!     .with_safe_default_protocol_versions()?
//!     .with_client_cert_verifier(verifier.clone())
//!     .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
//! let tls = TlsLayer::new(Arc::new(config)).with_client_verifier(verifier);
//! # let _ = tls;
//! # Ok(())
//! # }
//! ```

use super::{
    error::{ConfigProblem, Part, TlsConfigError},
    pem::{Section, sections},
    provider,
    rustls::{
        DistinguishedName, Error, RootCertStore,
        pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject},
        server::ParsedCertificate,
        sign::CertifiedKey,
    },
    x509,
};

/// A certificate chain, starting with the server's own certificate, and its private key.
///
/// The result fits rustls' `ResolvesServerCert` and `SingleCertAndKey`. A certificate outside of its validity
/// period, or one that did not issue the certificate before it, is logged at level WARN.
///
/// # Errors
///
/// [`TlsConfigError`] if `chain` or `key` is unusable, or if they do not belong together.
pub fn certified_key(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, TlsConfigError> {
    let mut number = 0;
    let chain = certificates(Part::Chain, chain, |der| {
        number += 1;
        check(number, der)
    })?;
    certify(chain, private_key(key)?)
}

/// Root certificates for a certificate verifier.
///
/// rustls takes each of them for an authority, which can issue certificates for any name, even if it is a certificate
/// that may not issue others (`CA:FALSE`). List only those of authorities.
///
/// # Errors
///
/// [`TlsConfigError`] if the text is empty, or if a root is unusable.
pub fn roots(pem: &[u8]) -> Result<RootCertStore, TlsConfigError> {
    Ok(anchors(&root_certificates(pem)?))
}

/// The certificates themselves, each of which can be a root.
pub(super) fn root_certificates(
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let check = |der: &CertificateDer<'static>| RootCertStore::empty().add(der.clone());
    certificates(Part::Roots, pem, check)
}

/// The roots among [`root_certificates`] that may issue others. rustls does not check that: the owner of any listed
/// certificate could issue certificates for all names.
pub(super) fn authorities(roots: &[CertificateDer<'static>]) -> RootCertStore {
    let may_issue = |root: &&CertificateDer<'static>| x509::can_issue(root);
    let roots: Vec<_> = roots.iter().filter(may_issue).cloned().collect();
    anchors(&roots)
}

/// The issuers of the roots that are no authorities.
pub(super) fn issuers_of_others(roots: &[CertificateDer<'static>]) -> Vec<DistinguishedName> {
    let others = roots.iter().filter(|root| !x509::can_issue(root));
    let issuers = others.filter_map(|root| x509::issuer(root));
    issuers.map(DistinguishedName::in_sequence).collect()
}

/// All roots, as rustls' verifiers take them.
pub(super) fn anchors(roots: &[CertificateDer<'static>]) -> RootCertStore {
    let mut anchors = RootCertStore::empty();
    anchors.add_parsable_certificates(roots.iter().cloned());
    anchors
}

/// Certificate revocation lists for a certificate verifier, which parses them.
///
/// # Errors
///
/// [`TlsConfigError`] if the text contains none.
pub fn crls(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsConfigError> {
    let mut crls = Vec::new();
    for section in all_sections(Part::Crls, pem)? {
        if section.label != "X509 CRL" {
            continue;
        }
        let crl: CertificateRevocationListDer<'_> = decode(Part::Crls, &section, section.label)?;
        if !x509::is_sequence(&crl) {
            return Err(at(Part::Crls, &section, ConfigProblem::Rejected(None)));
        }
        crls.push(crl);
    }
    not_empty(Part::Crls, crls)
}

/// Checks `chain` and `key`, and that they belong together.
pub(super) fn certify(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, TlsConfigError> {
    let chain = not_empty(Part::Chain, chain)?;
    for (index, certificate) in chain.iter().enumerate() {
        if let Err(error) = check(index + 1, certificate) {
            let error = TlsConfigError::new(Part::Chain, ConfigProblem::Rejected(Some(error)));
            return Err(error.of_certificate(index + 1));
        }
    }
    let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        Error::InconsistentKeys(_) => TlsConfigError::new(Part::Key, ConfigProblem::Mismatch),
        error => TlsConfigError::new(Part::Key, ConfigProblem::Rejected(Some(error))),
    })?;
    x509::warn_about(&key.cert);
    Ok(key)
}

/// Checks certificate `number` of a chain, counted from one.
fn check(number: usize, der: &CertificateDer<'_>) -> Result<(), Error> {
    match ParsedCertificate::try_from(der) {
        // A server only sends the issuers, so they may contain what rustls cannot verify, such as critical
        // constraints on policies (RFC 5280, section 4.2.1.11) or version 1.
        Err(_) if number > 1 && x509::is_certificate(der) => Ok(()),
        parsed => parsed.map(drop),
    }
}

/// The certificates of `pem`; each must pass `check`.
fn certificates(
    part: Part,
    pem: &[u8],
    mut check: impl FnMut(&CertificateDer<'static>) -> Result<(), Error>,
) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let mut found = Vec::new();
    for section in all_sections(part, pem)? {
        let problem = match section.label {
            "CERTIFICATE" | "X509 CERTIFICATE" => {
                let certificate = decode(part, &section, "CERTIFICATE")?;
                match check(&certificate) {
                    Ok(()) => {
                        found.push(certificate);
                        continue;
                    }
                    Err(error) => ConfigProblem::Rejected(Some(error)),
                }
            }
            "TRUSTED CERTIFICATE" => ConfigProblem::Trusted,
            label if is_for_another_purpose(label) => continue,
            label => ConfigProblem::OtherKind(label.to_owned()),
        };
        return Err(at(part, &section, problem));
    }
    not_empty(part, found)
}

/// Sections that real files contain besides certificates.
fn is_for_another_purpose(label: &str) -> bool {
    ["PRIVATE KEY", "PUBLIC KEY", "PARAMETERS", "X509 CRL"]
        .iter()
        .any(|end| label.ends_with(end))
}

/// The private key. Two keys are rejected because the choice would be arbitrary.
fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsConfigError> {
    let mut found = None;
    for section in all_sections(Part::Key, pem)? {
        let problem = match section.label {
            label if !label.ends_with("PRIVATE KEY") => continue,
            _ if section.is_encrypted => ConfigProblem::Encrypted,
            "ENCRYPTED PRIVATE KEY" => ConfigProblem::Encrypted,
            "OPENSSH PRIVATE KEY" => ConfigProblem::OpenSsh,
            "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY" if found.is_none() => {
                found = Some(decode(Part::Key, &section, section.label)?);
                continue;
            }
            "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY" => ConfigProblem::Several,
            label => ConfigProblem::OtherKind(label.to_owned()),
        };
        return Err(at(Part::Key, &section, problem));
    }
    found.ok_or_else(|| TlsConfigError::new(Part::Key, ConfigProblem::Missing))
}

fn all_sections(part: Part, pem: &[u8]) -> Result<Vec<Section<'_>>, TlsConfigError> {
    // Text cannot begin with a SEQUENCE whose length takes more than one byte. Short keys have a shorter
    // length.
    if matches!(pem, [0x30, 0x81..=0x84, ..]) || x509::is_sequence(pem) {
        return Err(TlsConfigError::new(part, ConfigProblem::Binary));
    }
    let malformed =
        |(place, fault)| TlsConfigError::new(part, ConfigProblem::Malformed(fault)).at_place(place);
    sections(pem).map_err(malformed)
}

/// Decodes `section`; `label` is the parser's name for it.
fn decode<T: PemObject>(
    part: Part,
    section: &Section<'_>,
    label: &str,
) -> Result<T, TlsConfigError> {
    let malformed = |fault| at(part, section, ConfigProblem::Malformed(fault));
    let (kind, der) = section.decode(label).map_err(malformed)?;
    T::from_pem(kind, der).ok_or_else(|| at(part, section, ConfigProblem::Rejected(None)))
}

fn at(part: Part, section: &Section<'_>, problem: ConfigProblem) -> TlsConfigError {
    TlsConfigError::new(part, problem).at_place(section.place)
}

fn not_empty<T>(part: Part, found: Vec<T>) -> Result<Vec<T>, TlsConfigError> {
    if found.is_empty() {
        return Err(TlsConfigError::new(part, ConfigProblem::Missing));
    }
    Ok(found)
}
