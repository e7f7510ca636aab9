//! Layers from certificates, with a crypto provider of ours.

use super::{
    TlsLayer,
    error::{Part, Problem, TlsConfigError},
    rustls::{
        Error, ServerConfig,
        crypto::CryptoProvider,
        pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    },
};
use std::{fs, path::Path, sync::Arc};

impl TlsLayer {
    /// Reads a certificate chain, the server's own certificate first, and its key from PEM files.
    ///
    /// TLS 1.2 and 1.3 with the crypto provider that [`provider`] names, no client certificates, and one
    /// ticket for each connection of TLS 1.3, because of [what they cost](crate::tls#what-it-costs).
    /// The files are read once, blocking; an encrypted key is not supported.
    ///
    /// # Errors
    ///
    /// [`TlsConfigError`] when a file cannot be read, holds no certificate or key, or when the key
    /// is not that of the certificate.
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
        let chain = CertificateDer::pem_slice_iter(cert_chain).collect::<Result<_, _>>();
        let chain = not_empty(chain.map_err(|error| pem_error(Part::Chain, &error))?)?;
        let key = PrivateKeyDer::from_pem_slice(key);
        let key = key.map_err(|error| pem_error(Part::Key, &error))?;
        Self::from_der(chain, key)
    }

    /// Like [`from_pem`](Self::from_pem), with what PEM encodes.
    ///
    /// # Errors
    ///
    /// [`TlsConfigError`] when the chain is empty, the key is of an unknown kind, or it is not that
    /// of the certificate.
    pub fn from_der(
        cert_chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsConfigError> {
        let chain = not_empty(cert_chain)?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .and_then(|b| b.with_no_client_auth().with_single_cert(chain, key))
            .map_err(rustls_error)?;
        // rustls' default is two: a second costs every connection a fortieth of its handshake, and takes
        // a second place in the cache.
        config.send_tls13_tickets = 1;
        Ok(Self::new(Arc::new(config)))
    }
}

/// The crypto provider that [`TlsLayer`] uses: aws-lc-rs where it is compiled in, else ring.
///
/// It depends on this crate's features alone. rustls' own default for the process is left alone: it
/// panics where both providers are compiled in and nobody chose one.
pub fn provider() -> Arc<CryptoProvider> {
    #[cfg(feature = "aws-lc-rs")]
    use super::rustls::crypto::aws_lc_rs as chosen;
    #[cfg(not(feature = "aws-lc-rs"))]
    use super::rustls::crypto::ring as chosen;
    Arc::new(chosen::default_provider())
}

fn read(part: Part, path: &Path) -> Result<Vec<u8>, TlsConfigError> {
    fs::read(path).map_err(|error| TlsConfigError::new(part, Problem::Read(error)).in_file(path))
}

fn not_empty(
    chain: Vec<CertificateDer<'static>>,
) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    if chain.is_empty() {
        return Err(TlsConfigError::new(Part::Chain, Problem::Missing));
    }
    Ok(chain)
}

/// The error of the parser quotes its input, which may be the key: it goes no further than this.
fn pem_error(part: Part, error: &pem::Error) -> TlsConfigError {
    let problem = match error {
        pem::Error::NoItemsFound => Problem::Missing,
        _ => Problem::Malformed,
    };
    TlsConfigError::new(part, problem)
}

fn rustls_error(error: Error) -> TlsConfigError {
    match error {
        Error::InconsistentKeys(_) => TlsConfigError::new(Part::Key, Problem::Mismatch),
        Error::InvalidCertificate(_) => TlsConfigError::new(Part::Chain, Problem::Rejected(error)),
        _ => TlsConfigError::new(Part::Key, Problem::Rejected(error)),
    }
}
