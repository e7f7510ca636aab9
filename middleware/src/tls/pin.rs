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
    inner: Arc<V>,
}

impl<V: ?Sized> Pinning<V> {
    pub(super) const fn new(roots: Arc<[CertificateDer<'static>]>, inner: Arc<V>) -> Self {
        Self { roots, inner }
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
        let verified = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
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
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

impl ClientCertVerifier for Pinning<dyn ClientCertVerifier> {
    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self
            .inner
            .verify_client_cert(end_entity, intermediates, now);
        verified.or_else(|rejected| {
            self.check(end_entity, now, rejected)?;
            Ok(ClientCertVerified::assertion())
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
