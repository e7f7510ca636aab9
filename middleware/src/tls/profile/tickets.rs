//! Session tickets whose keys are shared by several processes or rotated by this one (RFC 5077; RFC 8446,
//! section 4.6.1).

use crate::{
    file,
    tls::{
        rustls::{
            self, CipherSuite, ContentType, ProtocolVersion, SupportedCipherSuite,
            crypto::{
                CryptoProvider,
                cipher::{InboundOpaqueMessage, Iv, OutboundPlainMessage, Tls13AeadAlgorithm},
            },
            server::ProducesTickets,
            time_provider::TimeProvider,
        },
        store::{CertStoreProblem, Fault},
    },
};
use std::{
    fmt, mem,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Keys that seal session tickets, with AES-256-GCM of the crypto provider in use.
///
/// A key decrypts and forges sessions, so keep it as secret as a private key. A ticket whose key
/// is unknown leads to a full handshake.
#[derive(Clone)]
pub struct TicketKeys(KeySource);

#[derive(Clone)]
enum KeySource {
    File(PathBuf),
    Random(Arc<Mutex<Rotation>>),
}

impl TicketKeys {
    /// Keys of this process only, replaced when they are used after 6 h. Tickets are accepted for 6 h, also across
    /// reloads.
    ///
    /// Clones share the keys.
    pub fn random() -> Self {
        Self(KeySource::Random(Arc::default()))
    }

    /// Keys in a file, which several processes can share.
    ///
    /// The file consists of keys of 48 bytes: 16 for the name of the key, 32 for the key itself, as `openssl rand
    /// 48` writes them. The first key seals tickets, and all keys open them. To rotate keys, put a new one at the
    /// front and remove the last. A reload of the [`CertStore`](crate::tls::CertStore) reads the file again.
    /// Tickets are accepted for 6 h, by the clocks of these processes, while the file contains their key.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(KeySource::File(path.into()))
    }

    pub(super) fn path(&self) -> Option<&Path> {
        match &self.0 {
            KeySource::File(path) => Some(path),
            KeySource::Random(_) => None,
        }
    }

    /// Reads the keys.
    pub(in crate::tls) fn ticketer(
        &self,
        provider: &Arc<CryptoProvider>,
        time: &Arc<dyn TimeProvider>,
    ) -> Result<Arc<dyn ProducesTickets>, CertStoreProblem> {
        let problem = |fault| CertStoreProblem::new(self.path(), 0, fault);
        let aead = aes_256_gcm(provider).ok_or_else(|| {
            let error = "the crypto provider lacks AES-256-GCM, which seals tickets";
            problem(Fault::Rustls(rustls::Error::General(error.to_owned())))
        })?;
        let keys = match &self.0 {
            KeySource::Random(rotation) => Keys::Random(rotation.clone()),
            KeySource::File(path) => {
                let bytes = file::read(path).map_err(|error| problem(Fault::Read(error)))?;
                let keys = TicketKey::parse(&bytes);
                Keys::Shared(keys.map_err(|reason| problem(Fault::Tickets(reason)))?)
            }
        };
        Ok(Arc::new(Ticketer {
            keys,
            aead,
            provider: provider.clone(),
            time: time.clone(),
        }))
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without keys.
        f.debug_struct("TicketKeys")
            .field("file", &self.path())
            .finish()
    }
}

fn aes_256_gcm(provider: &CryptoProvider) -> Option<&'static dyn Tls13AeadAlgorithm> {
    provider.cipher_suites.iter().find_map(|suite| match suite {
        SupportedCipherSuite::Tls13(suite)
            if suite.common.suite == CipherSuite::TLS13_AES_256_GCM_SHA384 =>
        {
            Some(suite.aead_alg)
        }
        _ => None,
    })
}

/// Without `Debug`, so that no log contains it.
#[derive(Clone)]
struct TicketKey {
    name: [u8; NAME],
    secret: [u8; SECRET],
}

impl TicketKey {
    fn parse(bytes: &[u8]) -> Result<Vec<Self>, &'static str> {
        let (keys, rest) = bytes.as_chunks::<{ NAME + SECRET }>();
        if keys.is_empty() {
            return Err("it has fewer than 48 bytes");
        }
        if !rest.is_empty() {
            return Err("its length is not a multiple of 48 bytes");
        }
        let mut parsed: Vec<Self> = Vec::with_capacity(keys.len());
        for key in keys {
            let (mut name, mut secret) = ([0; NAME], [0; SECRET]);
            name.copy_from_slice(&key[..NAME]);
            secret.copy_from_slice(&key[NAME..]);
            // Of a file that was allocated and never written.
            if secret.iter().all(|byte| *byte == 0) {
                return Err("a key consists of zeros");
            }
            if parsed.iter().any(|other| other.name == name) {
                return Err("two keys have the same name");
            }
            parsed.push(Self { name, secret });
        }
        Ok(parsed)
    }

    fn random(provider: &CryptoProvider) -> Option<Self> {
        let (mut name, mut secret) = ([0; NAME], [0; SECRET]);
        provider.secure_random.fill(&mut name).ok()?;
        provider.secure_random.fill(&mut secret).ok()?;
        Some(Self { name, secret })
    }
}

/// The key that seals, and the one before it.
#[derive(Default)]
struct Rotation {
    current: Option<(TicketKey, Instant)>,
    previous: Option<TicketKey>,
}

impl Rotation {
    /// Replaces keys that are too old.
    fn rotate(&mut self, provider: &CryptoProvider) {
        let age = self.current.as_ref().map(|(_, since)| since.elapsed());
        if age.is_some_and(|age| age < ROTATION) {
            return;
        }
        let fresh = TicketKey::random(provider).map(|key| (key, Instant::now()));
        let old = mem::replace(&mut self.current, fresh);
        self.previous = old
            .filter(|(_, since)| since.elapsed() < 2 * ROTATION)
            .map(|(key, _)| key);
    }
}

enum Keys {
    Shared(Vec<TicketKey>),
    Random(Arc<Mutex<Rotation>>),
}

/// Seals sessions as `name of the key · nonce · ciphertext`. The ciphertext contains the time of issue, because
/// the lifetime in a ticket message only binds honest clients.
struct Ticketer {
    keys: Keys,
    aead: &'static dyn Tls13AeadAlgorithm,
    provider: Arc<CryptoProvider>,
    time: Arc<dyn TimeProvider>,
}

impl Ticketer {
    fn sealing_key(&self) -> Option<TicketKey> {
        match &self.keys {
            Keys::Shared(keys) => keys.first().cloned(),
            Keys::Random(rotation) => {
                let rotation = self.rotated(rotation);
                rotation.current.as_ref().map(|(key, _)| key.clone())
            }
        }
    }

    fn key(&self, name: &[u8]) -> Option<TicketKey> {
        let is_named = |key: &&TicketKey| key.name == name;
        match &self.keys {
            Keys::Shared(keys) => keys.iter().find(is_named).cloned(),
            Keys::Random(rotation) => {
                let rotation = self.rotated(rotation);
                let current = rotation.current.as_ref().map(|(key, _)| key);
                let mut keys = current.into_iter().chain(&rotation.previous);
                keys.find(is_named).cloned()
            }
        }
    }

    fn rotated<'a>(&self, rotation: &'a Mutex<Rotation>) -> MutexGuard<'a, Rotation> {
        let mut rotation = rotation.lock().unwrap_or_else(PoisonError::into_inner);
        rotation.rotate(&self.provider);
        rotation
    }

    /// In Unix seconds.
    fn now(&self) -> Option<u64> {
        Some(self.time.current_time()?.as_secs())
    }
}

/// Messages of TLS carry the tickets through the provider's AES-256-GCM, which has no other public interface.
/// Each has a random nonce and the sequence number zero.
impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        if plain.len() > MAX_PLAIN {
            return None;
        }
        let plain = [&self.now()?.to_be_bytes(), plain].concat();
        let key = self.sealing_key()?;
        let mut nonce = [0; NONCE];
        self.provider.secure_random.fill(&mut nonce).ok()?;
        let message = OutboundPlainMessage {
            typ: ContentType::ApplicationData,
            version: ProtocolVersion::TLSv1_2,
            payload: plain[..].into(),
        };
        let mut encrypter = self.aead.encrypter(key.secret.into(), Iv::from(nonce));
        let sealed = encrypter.encrypt(message, 0).ok()?;
        Some([&key.name, &nonce[..], sealed.payload.as_ref()].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>()?;
        let key = self.key(name)?;
        let mut sealed = sealed.to_vec();
        let (typ, version) = (ContentType::ApplicationData, ProtocolVersion::TLSv1_2);
        let message = InboundOpaqueMessage::new(typ, version, &mut sealed);
        let mut decrypter = self.aead.decrypter(key.secret.into(), Iv::from(*nonce));
        let opened = decrypter.decrypt(message, 0).ok()?;
        let (issued, plain) = opened.payload.split_first_chunk()?;
        // The clocks of two processes may differ, so it may be in the future.
        let age = self.now()?.abs_diff(u64::from_be_bytes(*issued));
        (age <= LIFETIME).then(|| plain.to_vec())
    }
}

impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without keys.
        f.debug_struct("Ticketer").finish_non_exhaustive()
    }
}

const NAME: usize = 16;
const SECRET: usize = 32;
const NONCE: usize = 12;
/// A message of TLS holds no more besides the time. A session is larger only with an unusual chain of the client.
const MAX_PLAIN: usize = 16 * 1024 - size_of::<u64>();
/// In seconds.
const LIFETIME: u64 = 6 * 60 * 60;
const ROTATION: Duration = Duration::from_secs(LIFETIME);
