//! Why the TLS handshake of a client failed, in plain words and with the key of the file that decides it.

use portcullis::middleware::{
    error::find,
    tls::{
        TlsConnectError,
        rustls::{self, CertificateError, PeerIncompatible},
    },
};
use std::error::Error;

/// `None` for errors of another kind, and for those whose own text says it.
pub(crate) fn words(error: &(dyn Error + 'static)) -> Option<&'static str> {
    // That of a server, whose text is for the client's side.
    if find::<TlsConnectError>(error).is_some() {
        return None;
    }
    Some(match find::<rustls::Error>(error)? {
        rustls::Error::PeerIncompatible(incompatible) => disagreement(incompatible)?,
        rustls::Error::InvalidCertificate(problem) => rejection(problem)?,
        rustls::Error::NoCertificatesPresented => {
            "the client presents no certificate, and one is required (`tls.client.auth`)"
        }
        _ => return None,
    })
}

fn disagreement(incompatible: &PeerIncompatible) -> Option<&'static str> {
    Some(match incompatible {
        PeerIncompatible::Tls12NotOffered => {
            "the client speaks TLS 1.1 or older, which is not supported (`tls.min-version`)"
        }
        PeerIncompatible::SignatureAlgorithmsExtensionRequired => {
            "the client names no signature algorithms, as clients of TLS 1.1 and older, which is not supported \
             (`tls.min-version`)"
        }
        PeerIncompatible::SupportedVersionsExtensionRequired => {
            "the client speaks TLS 1.2 or older, and TLS 1.3 is required (`tls.min-version`)"
        }
        PeerIncompatible::Tls12NotOfferedOrEnabled => {
            "the client offers no version of TLS that is accepted (`tls.min-version`)"
        }
        PeerIncompatible::NoCipherSuitesInCommon => {
            "the client offers no cipher suite that is supported and fits the key of the certificate: ECDHE with \
             AES-GCM or ChaCha20-Poly1305 (`tls.certificates`)"
        }
        PeerIncompatible::NoKxGroupsInCommon | PeerIncompatible::NamedGroupsExtensionRequired => {
            "the client offers no key exchange that is supported: ECDHE with X25519, P-256 or P-384, and none with \
             static RSA"
        }
        PeerIncompatible::NoSignatureSchemesInCommon => {
            "the client supports no signature of the certificate's key, RSA or ECDSA (`tls.certificates`)"
        }
        _ => return None,
    })
}

fn rejection(problem: &CertificateError) -> Option<&'static str> {
    Some(match problem {
        CertificateError::UnknownIssuer => {
            "no authority that is trusted has issued the client's certificate (`tls.client.roots`)"
        }
        CertificateError::Revoked => "the client's certificate was revoked (`tls.client.crl`)",
        CertificateError::UnknownRevocationStatus => {
            "no revocation list is from an authority of the client's certificate (`tls.client.crl`)"
        }
        CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => {
            "the revocation list for the client's certificate is out of date (`tls.client.crl`, \
             `tls.client.crl-outdated`)"
        }
        _ => return None,
    })
}
