//! Layers built from certificates, with the default crypto provider.

use super::{
    TlsLayer,
    error::{ConfigProblem, Part, TlsConfigError},
    load,
    rustls::{
        ServerConfig,
        crypto::CryptoProvider,
        pki_types::{CertificateDer, PrivateKeyDer},
        sign::{CertifiedKey, SingleCertAndKey},
    },
};
use crate::file;
use std::{path::Path, sync::Arc};

impl TlsLayer {
    /// Reads a certificate chain, starting with the server's own certificate, and its key from PEM files.
    ///
    /// The layer supports TLS 1.2 and 1.3 with the crypto provider of [`provider`], without client
    /// certificates. It issues one ticket per TLS 1.3 connection; see [performance](crate::tls#performance).
    ///
    /// The files are read once, with blocking I/O; they have to be regular ones of at most 64 MiB. Encrypted keys
    /// are not supported. Either all certificates of the file are used or the call fails; [`load`] lists what is
    /// rejected. A certificate that has expired, or does not fit into the chain, is logged at level WARN and used.
    ///
    /// # Errors
    ///
    /// [`TlsConfigError`] if a file is unreadable, damaged or lacks a certificate or key, or if the key does
    /// not match the certificate.
    pub fn from_pem_files(
        cert_chain: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, TlsConfigError> {
        let (chain_path, key_path) = (cert_chain.as_ref(), key.as_ref());
        let chain = read(Part::Chain, chain_path)?;
        let key = read(Part::Key, key_path)?;
        Self::from_pem(&chain, &key).map_err(|error| error.in_files(chain_path, key_path))
    }

    /// Like [`from_pem_files`](Self::from_pem_files), with the contents of the files.
    ///
    /// # Errors
    ///
    /// As [`from_pem_files`](Self::from_pem_files).
    pub fn from_pem(cert_chain: &[u8], key: &[u8]) -> Result<Self, TlsConfigError> {
        Self::certified(load::certified_key(cert_chain, key)?)
    }

    /// Like [`from_pem`](Self::from_pem), with DER input.
    ///
    /// # Errors
    ///
    /// [`TlsConfigError`] if the chain is empty, a certificate cannot be parsed, the kind of key is unknown,
    /// or the key does not match the certificate.
    pub fn from_der(
        cert_chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsConfigError> {
        Self::certified(load::certify(cert_chain, key)?)
    }

    fn certified(key: CertifiedKey) -> Result<Self, TlsConfigError> {
        let resolver = Arc::new(SingleCertAndKey::from(key));
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| {
                TlsConfigError::new(Part::Key, ConfigProblem::Rejected(Some(error)))
            })?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        // rustls' default is two. A second ticket adds a fortieth to the cost of each handshake and takes
        // another entry in the cache.
        config.send_tls13_tickets = 1;
        Ok(Self::new(Arc::new(config)))
    }
}

/// The default crypto provider: aws-lc-rs if it is compiled in, otherwise ring.
///
/// It depends on this crate's features only. rustls' process-wide default panics if both providers are
/// compiled in and neither was installed, so it is not used.
pub fn provider() -> Arc<CryptoProvider> {
    #[cfg(feature = "aws-lc-rs")]
    use super::rustls::crypto::aws_lc_rs as chosen;
    #[cfg(not(feature = "aws-lc-rs"))]
    use super::rustls::crypto::ring as chosen;
    Arc::new(chosen::default_provider())
}

fn read(part: Part, path: &Path) -> Result<Vec<u8>, TlsConfigError> {
    file::read(path)
        .map_err(|error| TlsConfigError::new(part, ConfigProblem::Read(error)).in_file(path))
}
