//! One certificate, protocol version, cipher suite and key exchange for all servers and clients.

use harness::BoxError;
use std::{fs, path::Path, sync::Arc};
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{Ticketer, cipher_suite::TLS13_AES_256_GCM_SHA384, default_provider, kx_group},
    },
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::TLS13,
};

/// Makes a self-signed certificate of P-256: `cert.pem`, `key.pem`, and both in `both.pem`.
pub(crate) fn write_certificate(folder: &Path) -> Result<(), BoxError> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    fs::write(folder.join("cert.pem"), &cert)?;
    fs::write(folder.join("key.pem"), &key)?;
    fs::write(folder.join("both.pem"), format!("{key}{cert}"))?;
    Ok(())
}

/// For every server that uses rustls, with stateless tickets like the C servers.
pub(crate) fn server_config(folder: &Path) -> Result<Arc<ServerConfig>, BoxError> {
    let mut config = config(folder, provider())?;
    config.ticketer = Ticketer::new()?;
    Ok(Arc::new(config))
}

/// The same with the sessions and tickets that rustls chooses.
pub(crate) fn config(folder: &Path, provider: CryptoProvider) -> Result<ServerConfig, BoxError> {
    let chain =
        CertificateDer::pem_file_iter(folder.join("cert.pem"))?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem"))?;
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(config)
}

/// For the clients, which offer one cipher suite and one key exchange.
pub(crate) fn client_config(folder: &Path) -> Result<Arc<ClientConfig>, BoxError> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("cert.pem"))?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

pub(crate) fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![TLS13_AES_256_GCM_SHA384],
        kx_groups: vec![kx_group::X25519],
        ..default_provider()
    }
}

/// The name in the certificate.
pub(crate) const NAME: &str = "localhost";
