//! TLS to servers, of connections and of health checks.

use super::tls;
use crate::config::{Backend, BackendTls, Certificate, Place, Prelude, Problems, chain};
use portcullis::{
    middleware::{
        internal::read_file,
        tls::{CertStore, TlsConnector, store::Watch},
    },
    upstream::{ServerPrelude, ServerTls},
};

/// TLS as the file describes it.
pub(super) struct TlsToServers {
    connector: TlsConnector,
    /// The certificate that is shown.
    certificate: Option<CertStore>,
    name: Option<String>,
    prelude: Option<ServerPrelude>,
}

impl TlsToServers {
    /// `None` if a file cannot be used, which is reported at its place.
    pub(super) fn new(
        backend: &Backend,
        tls: &BackendTls,
        certificates: &[Certificate],
        problems: &mut Problems,
    ) -> Option<Self> {
        let connector = match connector(tls) {
            Ok(connector) => connector,
            Err((reason, place)) => {
                let message = format!("backend \"{}\": {reason}", backend.name.value);
                problems.error(place.clone(), message);
                return None;
            }
        };
        let certificate = match &tls.certificate {
            Some(name) => {
                let mut certificates = certificates.iter();
                // An unknown name was reported with the references.
                let certificate = certificates.find(|it| it.name.value == name.value)?;
                let default = Some(&*name.value);
                let used_by = format!("backend \"{}\"", backend.name.value);
                let certificates = [certificate];
                let store = tls::store(&used_by, &certificates, default, &name.place, problems)?;
                Some(store)
            }
            None => None,
        };
        let prelude = tls.prelude.as_ref().map(|prelude| match prelude.value {
            Prelude::Postgres => ServerPrelude::Postgres,
            Prelude::Smtp => ServerPrelude::Smtp,
            Prelude::Imap => ServerPrelude::Imap,
            Prelude::Pop3 => ServerPrelude::Pop3,
            Prelude::Xmpp => ServerPrelude::Xmpp,
        });
        Some(Self {
            connector: connector.with_alpn(tls.alpn.iter().cloned()).unbuffered(),
            certificate,
            name: tls.name.as_ref().map(|name| name.value.clone()),
            prelude,
        })
    }

    pub(super) const fn certificate(&self) -> Option<&CertStore> {
        self.certificate.as_ref()
    }

    pub(super) fn unwatched(&self) -> ServerTls {
        self.with(|_| None)
    }

    /// With the files of the certificate watched for as long as the result is used.
    pub(super) fn watched(&self) -> ServerTls {
        self.with(|store| Some(store.watch()))
    }

    fn with(&self, watch: impl Fn(&CertStore) -> Option<Watch>) -> ServerTls {
        let mut connector = self.connector.clone();
        if let Some(store) = &self.certificate {
            connector = connector.with_client_certificate(store, watch(store));
        }
        let tls = ServerTls::new(connector).with_prelude(self.prelude);
        match &self.name {
            Some(name) => tls.with_name(name),
            None => tls,
        }
    }
}

/// The connector with the roots of the file, or what is wrong and where.
fn connector(tls: &BackendTls) -> Result<TlsConnector, (String, &Place)> {
    let Some(roots) = &tls.roots else {
        let connector = TlsConnector::with_native_roots();
        return connector.map_err(|error| (chain(&error), &tls.place));
    };
    let pem = read_file(&roots.value).map_err(|error| {
        let path = roots.value.display();
        (format!("{path} cannot be read: {error}"), &roots.place)
    })?;
    TlsConnector::with_roots_pem(&pem).map_err(|error| (chain(&error), &roots.place))
}
