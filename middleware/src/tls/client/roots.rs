//! Whom a client trusts.

use super::TlsConnector;
use crate::tls::{
    TlsConfigError, load, provider,
    rustls::{ClientConfig, RootCertStore},
};
#[cfg(feature = "native-roots")]
use crate::tls::{
    error::{ConfigProblem, Part},
    rustls::pki_types::CertificateDer,
};
use std::sync::Arc;

impl TlsConnector {
    /// Trusts servers whose certificate comes from one of these roots, in PEM, and no others.
    ///
    /// TLS 1.2 and 1.3 with the crypto provider that [`provider`] names, no client certificate.
    ///
    /// # Errors
    ///
    /// [`TlsConfigError`] when there is no certificate, one of them cannot be used, or the text is
    /// damaged: all roots that it shows are trusted, or none; see [`load`].
    pub fn with_roots_pem(roots: &[u8]) -> Result<Self, TlsConfigError> {
        Ok(Self::trusting(load::roots(roots)?))
    }

    /// Trusts servers whose certificate comes from a root that this system trusts.
    ///
    /// On Linux and the BSDs that is OpenSSL's bundle (`SSL_CERT_FILE` and `SSL_CERT_DIR` name
    /// another), on macOS the keychain, on Windows the certificate store. It is read now, blocking,
    /// and not watched: one connector is for the whole program. Roots that cannot be used are passed
    /// over, since old ones are found in many systems.
    ///
    /// # Errors
    ///
    /// [`TlsConfigError`] when there is no root at all that can be used.
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
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots);
        if store.is_empty() {
            return Err(TlsConfigError::new(
                Part::Roots,
                ConfigProblem::NoNative(error),
            ));
        }
        Ok(Self::trusting(store))
    }

    fn trusting(roots: RootCertStore) -> Self {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider is rustls' own, which has suites for both versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self::new(Arc::new(config))
    }
}
