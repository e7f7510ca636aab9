//! Facts of a certificate, without types of a TLS library.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

/// What an X.509 certificate says about its owner and itself.
///
/// Text in a certificate was chosen by the client that requested it, as far as the authority allows. Escape it in
/// logs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateFacts {
    /// The common name in the subject; `None` if there is none, or more than one, because programs differ in
    /// which one counts.
    pub subject: Option<String>,
    /// The alternative names of the subject, in their order.
    pub names: Vec<CertificateName>,
    /// The common name of the issuer, or its organization if it has none.
    pub issuer: Option<String>,
    /// The serial number, in lower-case hexadecimal without leading zeros; unique for each issuer.
    pub serial: String,
    /// The first second of its validity.
    pub not_before: SystemTime,
    /// The last second of its validity.
    pub not_after: SystemTime,
    /// SHA-256 of the public key with its algorithm (SubjectPublicKeyInfo in DER), as in RFC 7469; `None` if
    /// the crypto provider lacks SHA-256. It stays the same if the certificate is renewed with the same key.
    pub spki_sha256: Option<[u8; 32]>,
}

impl CertificateFacts {
    /// Creates a value with the period of validity and without names.
    pub const fn new(not_before: SystemTime, not_after: SystemTime) -> Self {
        Self {
            subject: None,
            names: Vec::new(),
            issuer: None,
            serial: String::new(),
            not_before,
            not_after,
            spki_sha256: None,
        }
    }

    /// How long it is still valid, if it expires soon: within 14 days, or within a third of its validity if that is
    /// shorter.
    pub(crate) fn expires_soon(&self, now: SystemTime) -> Option<Duration> {
        let validity = self.not_after.duration_since(self.not_before);
        let soon = validity.unwrap_or_default().div_f32(3.0).min(SOON);
        let left = self.not_after.duration_since(now).unwrap_or_default();
        (left < soon).then_some(left)
    }

    /// The DNS names, which may begin with a wildcard (`*.example.org`).
    pub fn dns_names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().filter_map(|name| match name {
            CertificateName::Dns(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The URIs, where SPIFFE puts its identities.
    pub fn uris(&self) -> impl Iterator<Item = &str> {
        self.names.iter().filter_map(|name| match name {
            CertificateName::Uri(uri) => Some(uri.as_str()),
            _ => None,
        })
    }
}

const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// An alternative name of a certificate's subject (RFC 5280, section 4.2.1.6).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CertificateName {
    /// A host name, which may begin with a wildcard.
    Dns(String),
    /// A URI.
    Uri(String),
    /// An IP address.
    Ip(IpAddr),
    /// A mail address.
    Mail(String),
}
