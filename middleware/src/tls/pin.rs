//! Accepts certificates that are listed among the roots themselves, such as self-signed ones.
//!
//! webpki takes roots only for issuers, and rejects a certificate for authorities (`CA:TRUE`, as `openssl req -x509`
//! makes it) that a peer presents as its own. A certificate that is a root, byte for byte, is a pin: it names this
//! peer. The owner of its key can issue others only if it is the certificate of an authority
//! ([`load::authorities`](super::load::authorities)).
//!
//! The period of validity, and the name of a server, are checked as for others.

use super::{
    rustls::{
        self, CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme,
        client::{
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
            verify_server_name,
        },
        crypto::{
            CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature,
            verify_tls13_signature,
        },
        pki_types::{CertificateDer, ServerName, UnixTime},
        server::{
            ParsedCertificate,
            danger::{ClientCertVerified, ClientCertVerifier},
        },
    },
    x509::Outline,
};
use std::{sync::Arc, time::Duration};

/// A verifier that also accepts the certificates that are roots.
#[derive(Debug)]
pub(super) struct Pinning<V: ?Sized> {
    roots: Arc<[CertificateDer<'static>]>,
    /// For what the roots that are authorities have issued. `None` if none of them is, because rustls' verifiers cannot
    /// be built then.
    issued: Option<Arc<V>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl<V: ?Sized> Pinning<V> {
    pub(super) fn new(
        roots: Arc<[CertificateDer<'static>]>,
        issued: Option<Arc<V>>,
        provider: &CryptoProvider,
    ) -> Self {
        Self {
            roots,
            issued,
            algorithms: provider.signature_verification_algorithms,
        }
    }

    /// What `verify` says, without authorities a rejection.
    fn verify_issued<T>(
        &self,
        verify: impl FnOnce(&V) -> Result<T, rustls::Error>,
    ) -> Result<T, rustls::Error> {
        let issued = self.issued.as_deref();
        issued.map_or(Err(CertificateError::UnknownIssuer.into()), verify)
    }

    /// `rejected`, unless the certificate is a root and valid at this time.
    fn check<'a>(
        &self,
        own: &'a CertificateDer<'_>,
        now: UnixTime,
        rejected: rustls::Error,
    ) -> Result<ParsedCertificate<'a>, rustls::Error> {
        if !self.roots.contains(own) {
            return Err(rejected);
        }
        let outline = Outline::read(own).ok_or(CertificateError::BadEncoding)?;
        let at = |seconds: i64| {
            UnixTime::since_unix_epoch(Duration::from_secs(seconds.try_into().unwrap_or_default()))
        };
        let (not_before, not_after) = (at(outline.not_before), at(outline.not_after));
        if now < not_before {
            return Err(CertificateError::NotValidYetContext {
                time: now,
                not_before,
            }
            .into());
        }
        if now > not_after {
            return Err(CertificateError::ExpiredContext {
                time: now,
                not_after,
            }
            .into());
        }
        ParsedCertificate::try_from(own)
    }
}

impl ServerCertVerifier for Pinning<dyn ServerCertVerifier> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.verify_issued(|by| {
            by.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        });
        verified.or_else(|rejected| {
            let pinned = self.check(end_entity, now, rejected)?;
            verify_server_name(&pinned, server_name)?;
            Ok(ServerCertVerified::assertion())
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The same for certificates of clients.
#[derive(Debug)]
pub(super) struct PinningClients {
    pub(super) pinning: Pinning<dyn ClientCertVerifier>,
    /// The names of issuers that requests for certificates contain, if there are no authorities.
    pub(super) hints: Vec<DistinguishedName>,
    pub(super) is_optional: bool,
}

impl ClientCertVerifier for PinningClients {
    fn client_auth_mandatory(&self) -> bool {
        !self.is_optional
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        let issued = self.pinning.issued.as_deref();
        issued.map_or(&self.hints, ClientCertVerifier::root_hint_subjects)
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self
            .pinning
            .verify_issued(|by| by.verify_client_cert(end_entity, intermediates, now));
        verified.or_else(|rejected| {
            self.pinning.check(end_entity, now, rejected)?;
            Ok(ClientCertVerified::assertion())
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.pinning.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.pinning.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.pinning.algorithms.supported_schemes()
    }
}
