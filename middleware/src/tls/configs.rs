//! Configurations: a fixed one, or one that is chosen by the ClientHello.

use super::{
    resumption::Sessions,
    rustls::{
        self, ServerConfig,
        pki_types::CertificateDer,
        server::{ClientHello, danger::ClientCertVerifier},
    },
};
use crate::connection::TlsInfo;
use std::{error, fmt, sync::Arc};

/// Chooses the configuration of each handshake by its ClientHello.
///
/// Use it with [`TlsLayer::choosing`](super::TlsLayer::choosing), for example to serve several host names
/// with different client certificates, or to replace a configuration at run time.
///
/// It is called once per handshake, while the handshake [computes](super::TlsLayer::with_max_computing), so it
/// must not block.
pub trait Configs: Send + Sync + 'static {
    /// Returns the configuration for the client that sent `hello`.
    ///
    /// # Errors
    ///
    /// [`UnrecognizedName`] if no configuration fits. The client then receives the alert `unrecognized_name`
    /// (RFC 6066, section 3), and the handshake fails.
    fn choose(&self, hello: &ClientHello<'_>) -> Result<HandshakeConfig, UnrecognizedName>;

    /// Returns the configuration whose verifier checks the clients of established connections again; `None` by
    /// default. See [`TlsLayer::verify_again`](super::TlsLayer::verify_again).
    fn current(&self) -> Option<HandshakeConfig> {
        None
    }
}

/// A rustls configuration for a server, prepared for [`TlsLayer`](super::TlsLayer). Clones are cheap.
///
/// Prepare it once and not for each handshake, because the preparation clones the configuration. Two settings
/// are overridden:
///
/// - Clients that present a certificate cannot resume a session unless
///   [`with_client_verifier`](Self::with_client_verifier) is called.
/// - Early data (0-RTT) is rejected, because an attacker can replay it (RFC 8446, section 8). Clients send it
///   again after the handshake. If `max_early_data_size` is set, a warning is logged.
#[derive(Clone)]
pub struct HandshakeConfig {
    config: Arc<ServerConfig>,
    sessions: Sessions,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl HandshakeConfig {
    /// Prepares `config`.
    pub fn new(mut config: Arc<ServerConfig>) -> Self {
        let sessions = Sessions::of(&config);
        let own = Arc::make_mut(&mut config);
        sessions.guard(own, None);
        if own.max_early_data_size > 0 {
            tracing::warn!(
                "TLS early data (max_early_data_size) is not supported and was disabled"
            );
            own.max_early_data_size = 0;
        }
        Self {
            config,
            sessions,
            verifier: None,
        }
    }

    /// Lets clients with certificates resume sessions, and verifies their certificates again each time; see
    /// [`TlsLayer::with_client_verifier`](super::TlsLayer::with_client_verifier).
    #[must_use]
    pub fn with_client_verifier(mut self, verifier: Arc<dyn ClientCertVerifier>) -> Self {
        let config = Arc::make_mut(&mut self.config);
        self.sessions.guard(config, Some(verifier.clone()));
        self.verifier = Some(verifier);
        self
    }

    /// Verifies the client's certificates of an established connection again; see
    /// [`TlsLayer::verify_again`](super::TlsLayer::verify_again).
    pub(super) fn verify_again(&self, tls: &TlsInfo) -> Result<(), rustls::Error> {
        let Some(verifier) = &self.verifier else {
            return without_verifier(tls);
        };
        let chain = tls.peer_certificates.iter();
        let chain: Vec<_> = chain.map(|der| CertificateDer::from(&**der)).collect();
        let Some((own, issuers)) = chain.split_first() else {
            return match verifier.client_auth_mandatory() {
                true => Err(rustls::Error::NoCertificatesPresented),
                false => Ok(()),
            };
        };
        let now = self.config.time_provider.current_time();
        let now = now.ok_or(rustls::Error::FailedToGetCurrentTime)?;
        let verified = verifier.verify_client_cert(own, issuers, now);
        verified.map(|_| ())
    }

    pub(super) fn with_alpn(mut self, protocols: Vec<Vec<u8>>) -> Self {
        Arc::make_mut(&mut self.config).alpn_protocols = protocols;
        self
    }

    /// The configuration as it is used.
    pub const fn get(&self) -> &Arc<ServerConfig> {
        &self.config
    }
}

/// Certificates that nothing can check again count as wrong, so that a forgotten verifier is noticed.
pub(super) fn without_verifier(tls: &TlsInfo) -> Result<(), rustls::Error> {
    if tls.peer_certificates.is_empty() {
        return Ok(());
    }
    let reason = "no verifier is known that could check the client's certificates again";
    Err(rustls::Error::General(reason.into()))
}

impl fmt::Debug for HandshakeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the configuration, because it holds the key and its `Debug` output is up to the provider.
        f.debug_struct("HandshakeConfig").finish_non_exhaustive()
    }
}

/// Where a layer takes the configuration of a handshake from.
#[derive(Clone)]
pub(super) enum ConfigSource {
    Fixed(HandshakeConfig),
    Chosen(Arc<dyn Configs>),
}

/// No certificate serves the name that a client requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnrecognizedName(pub(super) Option<Box<str>>);

impl UnrecognizedName {
    /// The fatal alert `unrecognized_name` in its own record, in answer to a ClientHello (RFC 8446, sections 5.1 and
    /// 6.2; RFC 6066, section 3). A client that gets it knows that its name is not served.
    pub const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

    /// Reports that the name of `hello` is not served.
    pub fn of(hello: &ClientHello<'_>) -> Self {
        Self(hello.server_name().map(Into::into))
    }

    /// The requested name; `None` if the client requested none, as clients do that connect to an IP address.
    pub fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl fmt::Display for UnrecognizedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(
                f,
                "no certificate for the requested name \"{}\"",
                name.escape_debug()
            ),
            None => {
                f.write_str("the client requested no name, and there is no default certificate")
            }
        }
    }
}

impl error::Error for UnrecognizedName {}
