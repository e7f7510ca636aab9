//! Whom a client trusts.

use super::TlsConnector;
use crate::tls::{
    provider,
    rustls::{
        self, ClientConfig, RootCertStore,
        pki_types::{CertificateDer, pem, pem::PemObject},
    },
};
use std::{error::Error, fmt, sync::Arc};

impl TlsConnector {
    /// Trusts servers whose certificate comes from one of these roots, in PEM, and no others.
    ///
    /// TLS 1.2 and 1.3 with the crypto provider that [`provider`] names, no client certificate.
    ///
    /// # Errors
    ///
    /// [`RootsError`] when there is no certificate, or one of them cannot be used.
    pub fn with_roots_pem(roots: &[u8]) -> Result<Self, RootsError> {
        let mut store = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(roots) {
            // The parser's error quotes its input, which may be more than certificates.
            let root = root.map_err(|_: pem::Error| Problem::Malformed)?;
            store.add(root).map_err(Problem::Rejected)?;
        }
        if store.is_empty() {
            return Err(Problem::Missing.into());
        }
        Ok(Self::trusting(store))
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
    /// [`RootsError`] when there is no root at all that can be used.
    #[cfg(feature = "native-roots")]
    pub fn with_native_roots() -> Result<Self, RootsError> {
        let found = rustls_native_certs::load_native_certs();
        Self::with_found(found.certs, found.errors.first().map(ToString::to_string))
    }

    #[cfg(feature = "native-roots")]
    pub(super) fn with_found(
        roots: Vec<CertificateDer<'static>>,
        error: Option<String>,
    ) -> Result<Self, RootsError> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots);
        if store.is_empty() {
            return Err(Problem::NoNative(error).into());
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

/// There are no roots that a client could trust.
#[derive(Debug)]
pub struct RootsError(Problem);

#[derive(Debug)]
enum Problem {
    Missing,
    Malformed,
    Rejected(rustls::Error),
    #[cfg(feature = "native-roots")]
    NoNative(Option<String>),
}

impl From<Problem> for RootsError {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl fmt::Display for RootsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Problem::Missing => f.write_str(
                "there is no root certificate: PEM with a section BEGIN CERTIFICATE is needed",
            ),
            Problem::Malformed => f.write_str(
                "root certificates are not valid PEM: check that the BEGIN and END lines stand on \
                 lines of their own and that nothing between them is missing",
            ),
            Problem::Rejected(_) => f.write_str(
                "a root certificate is not usable: a well-formed X.509 certificate is needed",
            ),
            #[cfg(feature = "native-roots")]
            Problem::NoNative(error) => {
                f.write_str("this system has no root certificate that can be used")?;
                if let Some(error) = error {
                    write!(f, ": {}", error.escape_debug())?;
                }
                f.write_str(
                    "; install its CA certificates (often the package ca-certificates), or set \
                     SSL_CERT_FILE",
                )
            }
        }
    }
}

impl Error for RootsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            Problem::Rejected(error) => Some(error),
            _ => None,
        }
    }
}
