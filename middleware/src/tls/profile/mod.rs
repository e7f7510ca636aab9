//! What a server negotiates with the certificates of a store.

mod crl;
mod tickets;
mod trust;

pub use self::{
    crl::StoredCrl,
    tickets::TicketKeys,
    trust::{ClientAuth, Trust},
};

use self::trust::Trusted;
use super::{
    CertStore, CertStoreError, TlsLayer,
    common::alpn_names,
    configs::{Configs, HandshakeConfig, UnrecognizedName},
    provider,
    rustls::{
        self, ALL_VERSIONS, KeyLogFile, ServerConfig,
        crypto::CryptoProvider,
        server::{
            ClientHello, ProducesTickets, ServerSessionMemoryCache, StoresServerSessions,
            WebPkiClientVerifier,
        },
        time_provider::{DefaultTimeProvider, TimeProvider},
        version::TLS13,
    },
    store::{CertStoreProblem, Fault, Snapshot},
};
use arc_swap::ArcSwapOption;
use std::{fmt, path::Path, sync::Arc, time::SystemTime};

/// A [`TlsLayer`] for the certificates of a [`CertStore`], built without rustls' types.
///
/// The layer takes part in the reloads of the store: the next handshake uses the new certificates, trusted
/// roots, revocation lists and ticket keys. Sessions are resumed across reloads, and client certificates are
/// verified again by the current roots and lists each time.
///
/// The defaults are TLS 1.2 and 1.3, the crypto provider of [`provider`], no client certificates, no ALPN, and a
/// cache of 256 sessions with one ticket per TLS 1.3 connection.
///
/// See [`store`](super::store) for an example.
#[derive(Clone)]
pub struct TlsProfile {
    store: CertStore,
    settings: Settings,
}

#[derive(Clone)]
struct Settings {
    client_auth: ClientAuth,
    alpn: Vec<Vec<u8>>,
    is_tls13_only: bool,
    logs_keys: bool,
    tickets: Option<TicketKeys>,
    provider: Arc<CryptoProvider>,
    time: Arc<dyn TimeProvider>,
}

impl TlsProfile {
    /// Serves the certificates of `store`.
    pub fn new(store: &CertStore) -> Self {
        Self {
            store: store.clone(),
            settings: Settings {
                client_auth: ClientAuth::Off,
                alpn: Vec::new(),
                is_tls13_only: false,
                logs_keys: false,
                tickets: None,
                provider: provider(),
                time: Arc::new(DefaultTimeProvider),
            },
        }
    }

    /// Whether clients present a certificate, and which ones are accepted; off by default.
    ///
    /// The facts of a client's certificate are in
    /// [`ConnectionInfo::peer_certificate`](crate::ConnectionInfo::peer_certificate).
    #[must_use]
    pub fn with_client_auth(mut self, client_auth: ClientAuth) -> Self {
        self.settings.client_auth = client_auth;
        self
    }

    /// Offers application protocols; see [`TlsLayer::with_alpn`].
    ///
    /// # Panics
    ///
    /// If a name is empty or longer than 255 bytes, which TLS cannot express.
    #[must_use]
    pub fn with_alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.settings.alpn = alpn_names(protocols);
        self
    }

    /// Rejects clients without TLS 1.3. By default TLS 1.2 is accepted too.
    #[must_use]
    pub fn with_tls13_only(mut self) -> Self {
        self.settings.is_tls13_only = true;
        self
    }

    /// Resumes sessions by tickets sealed with `keys`, without a cache.
    ///
    /// Tickets pay off if more than 256 clients return, or if several processes share a key file.
    #[must_use]
    pub fn with_tickets(mut self, keys: TicketKeys) -> Self {
        self.settings.tickets = Some(keys);
        self
    }

    /// Appends the secrets of all sessions to the file in the environment variable `SSLKEYLOGFILE`, if it is
    /// set, so that Wireshark can decrypt them. For debugging only; a warning is logged.
    #[must_use]
    pub fn with_key_log(mut self) -> Self {
        self.settings.logs_keys = true;
        self
    }

    /// Uses another crypto provider.
    #[must_use]
    pub fn with_provider(mut self, provider: Arc<CryptoProvider>) -> Self {
        self.settings.provider = provider;
        self
    }

    #[cfg(test)]
    pub(super) fn with_time(mut self, time: Arc<dyn TimeProvider>) -> Self {
        self.settings.time = time;
        self
    }

    /// Reads the files of the settings once, with blocking I/O.
    ///
    /// # Errors
    ///
    /// [`CertStoreError`] with all problems of the roots, revocation lists and ticket keys.
    pub fn build(self) -> Result<TlsLayer, CertStoreError> {
        if self.settings.logs_keys {
            tracing::warn!("secrets of TLS sessions are written to the file in SSLKEYLOGFILE");
        }
        let profile = Arc::new(Profile {
            settings: self.settings,
            sessions: ServerSessionMemoryCache::new(SESSIONS),
            current: ArcSwapOption::empty(),
        });
        self.store.attach(&profile)?;
        Ok(TlsLayer::choosing(Serving {
            profile,
            _store: self.store,
        }))
    }
}

impl fmt::Debug for TlsProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsProfile")
            .field("client_auth", &self.settings.client_auth)
            .field("tls13_only", &self.settings.is_tls13_only)
            .finish_non_exhaustive()
    }
}

/// A profile in use.
pub(super) struct Profile {
    settings: Settings,
    sessions: Arc<dyn StoresServerSessions>,
    /// Set before the profile is used.
    current: ArcSwapOption<ProfileState>,
}

/// The certificates of a store, and a configuration that serves them.
pub(super) struct ProfileState {
    snapshot: Arc<Snapshot>,
    parts: Parts,
    config: HandshakeConfig,
    /// Why files could not be read again.
    problems: Vec<Arc<str>>,
}

/// What the files of a profile contain.
struct Parts {
    /// `None` without client certificates.
    trusted: Option<Arc<Trusted>>,
    /// `None` if sessions are in the cache.
    ticketer: Option<Arc<dyn ProducesTickets>>,
}

impl Parts {
    fn crls(&self) -> &[StoredCrl] {
        self.trusted.as_ref().map_or(&[], |it| &it.stored)
    }
}

impl Profile {
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        let tickets = self.settings.tickets.as_ref().and_then(TicketKeys::path);
        let trust = self.settings.client_auth.trust();
        trust.into_iter().flat_map(Trust::paths).chain(tickets)
    }

    /// Reads everything and builds a configuration that serves `snapshot`.
    pub(super) fn prepare(
        &self,
        snapshot: &Arc<Snapshot>,
    ) -> (Option<ProfileState>, Vec<CertStoreProblem>) {
        self.load(snapshot, None)
    }

    /// As [`prepare`](Self::prepare). Of a file that cannot be used, what it contained before stays in use.
    pub(super) fn renew(
        &self,
        snapshot: &Arc<Snapshot>,
    ) -> (Option<ProfileState>, Vec<CertStoreProblem>) {
        let current = self.current.load();
        self.load(snapshot, current.as_ref().map(|current| &current.parts))
    }

    fn load(
        &self,
        snapshot: &Arc<Snapshot>,
        before: Option<&Parts>,
    ) -> (Option<ProfileState>, Vec<CertStoreProblem>) {
        let mut problems = Vec::new();
        let parts = self.settings.read(before, &mut problems);
        let state = parts.and_then(|parts| {
            let config = self.config(snapshot, &parts);
            let config = config
                .map_err(|error| {
                    problems.push(CertStoreProblem::new(None, 0, Fault::Rustls(error)))
                })
                .ok()?;
            Some(ProfileState {
                snapshot: snapshot.clone(),
                parts,
                config,
                problems: problems.iter().map(CertStoreProblem::text).collect(),
            })
        });
        (state, problems)
    }

    fn config(
        &self,
        snapshot: &Arc<Snapshot>,
        parts: &Parts,
    ) -> Result<HandshakeConfig, rustls::Error> {
        let settings = &self.settings;
        let versions = if settings.is_tls13_only {
            &[&TLS13][..]
        } else {
            ALL_VERSIONS
        };
        let verifier = parts.trusted.as_ref().map(|it| it.verifier.clone());
        let (provider, time) = (settings.provider.clone(), settings.time.clone());
        let mut config = ServerConfig::builder_with_details(provider, time)
            .with_protocol_versions(versions)?
            .with_client_cert_verifier(match &verifier {
                Some(verifier) => verifier.clone(),
                None => WebPkiClientVerifier::no_client_auth(),
            })
            .with_cert_resolver(snapshot.clone());
        config.alpn_protocols.clone_from(&settings.alpn);
        config.send_tls13_tickets = 1;
        config.session_storage = self.sessions.clone();
        if let Some(ticketer) = &parts.ticketer {
            config.ticketer = ticketer.clone();
        }
        if settings.logs_keys {
            config.key_log = Arc::new(KeyLogFile::new());
        }
        let config = HandshakeConfig::new(Arc::new(config));
        Ok(match verifier {
            Some(verifier) => config.with_client_verifier(verifier),
            None => config,
        })
    }

    /// Uses `state` from the next handshake on. Without one, nothing changes.
    pub(super) fn install(&self, state: Option<ProfileState>) {
        if let Some(state) = state {
            let now = SystemTime::now();
            state.parts.crls().iter().for_each(|crl| crl.warn(now));
            self.current.store(Some(Arc::new(state)));
        }
    }

    /// The revocation lists in use.
    pub(super) fn crls(&self) -> Vec<StoredCrl> {
        let current = self.current.load();
        current
            .as_ref()
            .map_or_else(Vec::new, |state| state.parts.crls().to_vec())
    }

    /// Why files could not be read again.
    pub(super) fn problems(&self) -> Vec<Arc<str>> {
        let current = self.current.load();
        current
            .as_ref()
            .map_or_else(Vec::new, |state| state.problems.clone())
    }
}

impl Settings {
    /// Reads all files, so that each problem is found; `None` if one can be replaced by nothing of `before`.
    fn read(&self, before: Option<&Parts>, problems: &mut Vec<CertStoreProblem>) -> Option<Parts> {
        let trusted = self.client_auth.trust().map(|trust| {
            let before = before.and_then(|before| before.trusted.as_deref());
            let is_optional = self.client_auth.is_optional();
            trust.read(&self.provider, is_optional, before, problems)
        });
        let ticketer = self.tickets.as_ref().map(|keys| {
            let read = keys.ticketer(&self.provider, &self.time);
            read.map_err(|problem| problems.push(problem))
                .ok()
                .or_else(|| before?.ticketer.clone())
        });
        // `Some(None)` is unusable, and `None` is not wanted.
        let trusted = match trusted {
            Some(trusted) => Some(Arc::new(trusted?)),
            None => None,
        };
        let ticketer = match ticketer {
            Some(ticketer) => Some(ticketer?),
            None => None,
        };
        Some(Parts { trusted, ticketer })
    }
}

/// What a layer holds: the profile, and the store, which reloads as long as a layer uses it.
struct Serving {
    profile: Arc<Profile>,
    _store: CertStore,
}

impl Configs for Serving {
    fn choose(&self, hello: &ClientHello<'_>) -> Result<HandshakeConfig, UnrecognizedName> {
        let current = self.profile.current.load();
        let serving = current.as_ref();
        let serving = serving.filter(|state| state.snapshot.serves(hello.server_name()));
        let state = serving.ok_or_else(|| UnrecognizedName::of(hello))?;
        Ok(state.config.clone())
    }

    fn current(&self) -> Option<HandshakeConfig> {
        let current = self.profile.current.load();
        Some(current.as_ref()?.config.clone())
    }
}

const SESSIONS: usize = 256;
