//! Lists the certificates of a store.

use super::{
    CertStore, CertStoreError,
    source::{Input, Source},
};
use std::{fmt, path::PathBuf, sync::Arc};

/// Lists certificates for a [`CertStore`].
#[derive(Clone, Default)]
pub struct CertStoreBuilder {
    sources: Vec<Source>,
    default: Option<usize>,
    used_by: Option<Arc<str>>,
}

impl CertStoreBuilder {
    /// Adds a certificate chain, starting with the server's own certificate, and its key in PEM files.
    #[must_use]
    pub fn pem_files(self, cert_chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.source(Input::File(cert_chain.into()), Input::File(key.into()))
    }

    /// Adds a certificate chain and its key in PEM, which a reload cannot change.
    #[must_use]
    pub fn pem(self, cert_chain: &[u8], key: &[u8]) -> Self {
        self.source(Input::Bytes(cert_chain.into()), Input::Bytes(key.into()))
    }

    fn source(mut self, chain: Input, key: Input) -> Self {
        self.sources.push(Source::new(chain, key));
        self
    }

    /// Makes the certificate that was added last the default, for clients that request no name or another
    /// name.
    ///
    /// By default there is none, and such clients are rejected.
    ///
    /// # Panics
    ///
    /// If no certificate was added before.
    #[must_use]
    pub fn as_default(mut self) -> Self {
        self.last();
        self.default = Some(self.sources.len() - 1);
        self
    }

    /// Names the certificate that was added last in messages of the [watch](CertStore::watch).
    ///
    /// # Panics
    ///
    /// If no certificate was added before.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.last().name = Some(name.into());
        self
    }

    /// Names what uses the store, such as a listener, in messages of the [watch](CertStore::watch).
    #[must_use]
    pub fn used_by(mut self, name: &str) -> Self {
        self.used_by = Some(name.into());
        self
    }

    /// Sends the OCSP response in this file, in DER, with the certificate that was added last (RFC 6066,
    /// section 8).
    ///
    /// A response that is out of date, for another certificate or other than "good" is not sent, and a
    /// warning is logged when it is read. One that goes out of date later is no longer sent, which is logged once. `openssl
    /// ocsp -respout` writes such files.
    ///
    /// # Panics
    ///
    /// If no certificate was added before.
    #[must_use]
    pub fn ocsp(mut self, response: impl Into<PathBuf>) -> Self {
        self.last().ocsp = Some(response.into());
        self
    }

    fn last(&mut self) -> &mut Source {
        let last = self.sources.last_mut();
        last.expect("add a certificate first: this setting is for the last one")
    }

    /// Reads all files once, with blocking I/O.
    ///
    /// # Errors
    ///
    /// [`CertStoreError`] with all problems, among them expired certificates.
    pub fn build(self) -> Result<CertStore, CertStoreError> {
        CertStore::load(self.sources, self.default, self.used_by)
    }
}

impl fmt::Debug for CertStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without keys.
        f.debug_struct("CertStoreBuilder")
            .field("certificates", &self.sources.len())
            .finish_non_exhaustive()
    }
}
