//! The root certificates that a client trusts.

use super::TlsConnector;
#[cfg(feature = "native-roots")]
use crate::tls::error::{ConfigProblem, Part};
use crate::tls::{
    TlsConfigError, load,
    pin::Pinning,
    provider,
    rustls::{
        ClientConfig, RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier},
        pki_types::CertificateDer,
    },
};
use std::sync::Arc;

impl TlsConnector {
    /// Trusts only servers whose certificate was issued by one of these roots, in PEM, or is one of them.
    ///
    /// A certificate that is listed itself, such as a self-signed one, needs a name of the server, and has to be valid,
    /// like any other. Its owner cannot issue others, unless it is one for authorities (`CA:TRUE`, as
    /// `openssl req -x509` makes it): those can issue certificates for any name.
    ///
    /// The connector supports TLS 1.2 and 1.3 with the crypto provider of [`provider`], without a client
    /// certificate.
    ///
    /// # Errors
    ///
    /// [`TlsConfigError`] if the text is damaged, lacks a certificate, or contains one that cannot be used.
    /// Either all roots are trusted or the call fails; see [`load`].
    pub fn with_roots_pem(roots: &[u8]) -> Result<Self, TlsConfigError> {
        let roots: Arc<[_]> = load::root_certificates(roots)?.into();
        let authorities = load::authorities(&roots);
        let mut connector = Self::trusting(roots.clone(), authorities.clone());
        let provider = provider();
        let issued = (!authorities.is_empty()).then(|| -> Arc<dyn ServerCertVerifier> {
            WebPkiServerVerifier::builder_with_provider(authorities.into(), provider.clone())
                .build()
                .expect("there is a root, and no list")
        });
        let pinning = Pinning::new(roots, issued, &provider);
        let config = Arc::make_mut(&mut connector.config);
        config
            .dangerous()
            .set_certificate_verifier(Arc::new(pinning));
        Ok(connector)
    }

    /// Trusts servers whose certificate was issued by a root that the operating system trusts.
    ///
    /// On Linux and the BSDs these are the roots in OpenSSL's bundle (`SSL_CERT_FILE` and `SSL_CERT_DIR`
    /// override it), on macOS in the keychain, on Windows in the certificate store. They are read once, with
    /// blocking I/O, so create one connector and share it. Unusable roots are skipped, because many systems
    /// contain outdated ones.
    ///
    /// # Errors
    ///
    /// [`TlsConfigError`] if the system lacks a usable root.
    #[cfg(feature = "native-roots")]
    pub fn with_native_roots() -> Result<Self, TlsConfigError> {
        let found = rustls_native_certs::load_native_certs();
        Self::with_found(found.certs, found.errors.first().map(ToString::to_string))
    }

    #[cfg(feature = "native-roots")]
    pub(super) fn with_found(
        roots: Vec<CertificateDer<'static>>,
        error: Option<String>,
    ) -> Result<Self, TlsConfigError> {
        let store = load::anchors(&roots);
        if store.is_empty() {
            return Err(TlsConfigError::new(
                Part::Roots,
                ConfigProblem::NoNative(error),
            ));
        }
        Ok(Self::trusting(roots.into(), store))
    }

    fn trusting(roots: Arc<[CertificateDer<'static>]>, anchors: RootCertStore) -> Self {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("rustls' own provider has suites for both versions")
            .with_root_certificates(anchors)
            .with_no_client_auth();
        let mut connector = Self::new(Arc::new(config));
        connector.roots = Some(roots);
        connector
    }
}
