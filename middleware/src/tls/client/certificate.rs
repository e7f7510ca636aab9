//! The certificate that a client presents, replaced while the client is in use.

use super::TlsConnector;
use crate::tls::{
    CertStore,
    rustls::{ClientConfig, SignatureScheme, client::ResolvesClientCert, sign::CertifiedKey},
    store::{Snapshot, StoredCertificate, Watch},
};
use arc_swap::ArcSwap;
use std::{fmt, sync::Arc};

impl TlsConnector {
    /// Presents a certificate of `store` to servers that request one.
    ///
    /// It is the [default](crate::tls::store::CertStoreBuilder::as_default) of the store, or else its first one. A
    /// certificate without DNS names has to be the default. After a [reload](CertStore::reload) of the store, the next
    /// handshake presents the new certificate, and resumes no session of the previous one. It replaces the client
    /// certificate of the configuration that was passed to [`new`](Self::new).
    ///
    /// The connector and its clones keep `watch`, which [reloads](CertStore::watch) the store when its files change.
    ///
    /// ```no_run
    /// use portcullis_middleware::tls::{CertStore, TlsConnector};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), portcullis_middleware::BoxError> {
    /// let store = CertStore::builder().pem_files("gate.pem", "gate.key").as_default().build()?;
    /// let tls = TlsConnector::with_roots_pem(&std::fs::read("ca.pem")?)?;
    /// let tls = tls.with_client_certificate(&store, store.watch());
    /// # drop(tls);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_client_certificate(
        mut self,
        store: &CertStore,
        watch: impl Into<Option<Watch>>,
    ) -> Self {
        let watch = watch.into().map(Arc::new);
        let certificate = ClientCertificate::new(store.clone(), watch, &self.config);
        self.certificate = Some(Arc::new(certificate));
        self
    }

    /// The certificate of the store that is presented now; `None` without a store.
    pub fn client_certificate(&self) -> Option<StoredCertificate> {
        let snapshot = self.certificate.as_ref()?.store.snapshot();
        snapshot.client_certificate()
    }
}

/// The certificate of a client. Each version of it has a configuration of its own, which resumes only its sessions.
pub(super) struct ClientCertificate {
    store: CertStore,
    watch: Option<Arc<Watch>>,
    current: ArcSwap<Current>,
}

struct Current {
    snapshot: Arc<Snapshot>,
    config: Arc<ClientConfig>,
}

impl ClientCertificate {
    fn new(store: CertStore, watch: Option<Arc<Watch>>, config: &ClientConfig) -> Self {
        let current = Current::new(store.snapshot(), config);
        Self {
            current: ArcSwap::from_pointee(current),
            watch,
            store,
        }
    }

    /// The same certificate in another configuration.
    pub(super) fn in_config(&self, config: &ClientConfig) -> Self {
        Self::new(self.store.clone(), self.watch.clone(), config)
    }

    /// Whether both present what the same files contain, as long as they are watched, or share a store that is not.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (&self.watch, &other.watch) {
            (Some(_), Some(_)) => self.store.has_sources_of(&other.store),
            (None, None) => self.store.is_same(&other.store),
            _ => false,
        }
    }

    /// The configuration with the certificate that the store has now.
    pub(super) fn config(&self) -> Arc<ClientConfig> {
        let current = self.current.load();
        let snapshot = self.store.snapshot();
        if Arc::ptr_eq(&current.snapshot, &snapshot) {
            return current.config.clone();
        }
        let renewed = Current::new(snapshot, &current.config);
        let config = renewed.config.clone();
        self.current.store(Arc::new(renewed));
        config
    }
}

impl Current {
    fn new(snapshot: Arc<Snapshot>, config: &ClientConfig) -> Self {
        let mut config = config.clone();
        // rustls resumes a session only with the same resolver.
        config.client_auth_cert_resolver = Arc::new(Presented(snapshot.client_key()));
        Self {
            snapshot,
            config: Arc::new(config),
        }
    }
}

/// The certificate, whatever authorities the server names.
struct Presented(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Presented {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the key.
        f.debug_struct("Presented").finish_non_exhaustive()
    }
}
