//! Reads certificates, keys, roots and revocation lists from PEM, completely or not at all.
//!
//! [`TlsLayer::from_pem`](super::TlsLayer::from_pem) and
//! [`TlsConnector::with_roots_pem`](super::TlsConnector::with_roots_pem) read with these functions. Use
//! them for a [`ServerConfig`](super::rustls::ServerConfig) of your own: certificates that are replaced
//! at run time, client certificates, several host names.
//!
//! No section of a PEM file (RFC 7468) is skipped silently. A file with a damaged section, such as an
//! indented BEGIN line or two files joined without a line end between them, is refused, and the error has
//! the line. Each certificate must parse; the server's own, and roots, must also be ones that rustls
//! supports. Text between sections, a byte-order mark at the start of the file and sections for another
//! purpose (a key beside its chain) are allowed.
//!
//! # Example
//!
//! Clients must present a certificate, and may resume sessions:
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
        Error, RootCertStore,
        pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject},
        server::ParsedCertificate,
        sign::CertifiedKey,
    },
    x509,
};

/// A certificate chain, the server's own certificate first, and its private key.
///
/// For `ResolvesServerCert` and `SingleCertAndKey` of rustls. A certificate that has expired or is not
/// valid yet, and one that did not issue the certificate before it, is logged at level WARN.
///
/// # Errors
///
/// [`TlsConfigError`] when `chain` or `key` cannot be used, or do not belong together.
pub fn certified_key(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, TlsConfigError> {
    let mut number = 0;
    let chain = certificates(Part::Chain, chain, |der| {
        number += 1;
        check(number, der)
    })?;
    certify(chain, private_key(key)?)
}

/// Certificates to trust, for a verifier of certificates.
///
/// # Errors
///
/// [`TlsConfigError`] when there is none, or one of them cannot be used.
pub fn roots(pem: &[u8]) -> Result<RootCertStore, TlsConfigError> {
    let mut roots = RootCertStore::empty();
    certificates(Part::Roots, pem, |der| roots.add(der.clone()))?;
    Ok(roots)
}

/// Certificate revocation lists, for a verifier of certificates, which parses them.
///
/// # Errors
///
/// [`TlsConfigError`] when there is none.
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

/// `chain` and `key`, once both are known to be what they should be.
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

/// Checks a certificate of a chain by its number, from one.
fn check(number: usize, der: &CertificateDer<'_>) -> Result<(), Error> {
    match ParsedCertificate::try_from(der) {
        // A server only sends the issuers, so they may have what rustls cannot verify: critical constraints
        // on policies (RFC 5280, section 4.2.1.11), or version 1.
        Err(_) if number > 1 && x509::is_certificate(der) => Ok(()),
        parsed => parsed.map(drop),
    }
}

/// The certificates of `pem`, each of which `check` accepts.
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

/// What stands beside certificates in files in use.
fn is_for_another_purpose(label: &str) -> bool {
    ["PRIVATE KEY", "PUBLIC KEY", "PARAMETERS", "X509 CRL"]
        .iter()
        .any(|end| label.ends_with(end))
}

/// The private key; with two of them it would be left to chance which one is used.
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
    // No text begins with a SEQUENCE whose length takes more than one byte; short keys have a shorter one.
    if matches!(pem, [0x30, 0x81..=0x84, ..]) || x509::is_sequence(pem) {
        return Err(TlsConfigError::new(part, ConfigProblem::Binary));
    }
    let malformed =
        |(place, fault)| TlsConfigError::new(part, ConfigProblem::Malformed(fault)).at_place(place);
    sections(pem).map_err(malformed)
}

/// What `section` encodes; `label` is what the parser calls it.
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
