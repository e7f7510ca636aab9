//! Layers from certificates, with a crypto provider of ours.

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
use std::{fs, path::Path, sync::Arc};

impl TlsLayer {
    /// Reads a certificate chain, the server's own certificate first, and its key from PEM files.
    ///
    /// TLS 1.2 and 1.3 with the crypto provider that [`provider`] names, no client certificates, and one
    /// ticket for each connection of TLS 1.3, because of [what they cost](crate::tls#what-it-costs).
    /// The files are read once, blocking; an encrypted key is not supported. All certificates of the file
    /// are served, or none: see [`load`] for what is refused. A certificate that has
    /// expired, or does not fit into the chain, is logged at level WARN and served.
    ///
    /// # Errors
    ///
    /// [`TlsConfigError`] when a file cannot be read, holds no certificate or key, is damaged, or when
    /// the key is not that of the certificate.
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

    /// Like [`from_pem`](Self::from_pem), with what PEM encodes.
    ///
    /// # Errors
    ///
    /// [`TlsConfigError`] when the chain is empty, one of its certificates cannot be parsed, the key is
    /// of an unknown kind, or it is not that of the certificate.
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
        // rustls' default is two: a second costs every connection a fortieth of its handshake, and takes
        // a second place in the cache.
        config.send_tls13_tickets = 1;
        Ok(Self::new(Arc::new(config)))
    }
}

/// The crypto provider that [`TlsLayer`] uses: aws-lc-rs where it is compiled in, else ring.
///
/// It depends on this crate's features alone. rustls' own default for the process is left alone: it
/// panics if both providers are compiled in and none was chosen.
pub fn provider() -> Arc<CryptoProvider> {
    #[cfg(feature = "aws-lc-rs")]
    use super::rustls::crypto::aws_lc_rs as chosen;
    #[cfg(not(feature = "aws-lc-rs"))]
    use super::rustls::crypto::ring as chosen;
    Arc::new(chosen::default_provider())
}

fn read(part: Part, path: &Path) -> Result<Vec<u8>, TlsConfigError> {
    fs::read(path)
        .map_err(|error| TlsConfigError::new(part, ConfigProblem::Read(error)).in_file(path))
}
