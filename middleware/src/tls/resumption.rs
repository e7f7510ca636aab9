//! Verifies client certificates again before a session is resumed.
//!
//! rustls verifies client certificates in full handshakes only. A session stores them, and each resumed
//! handshake renews the session, so a client would be served long after its certificate has expired (RFC
//! 8446, section 4.6.1). The store and the ticketer are therefore wrapped. A session whose certificates are
//! rejected is reported to rustls as missing. The handshake becomes a full one, so the client gets the
//! verifier's alert or can present another certificate.

use super::rustls::{
    ServerConfig,
    pki_types::CertificateDer,
    server::{ProducesTickets, StoresServerSessions, danger::ClientCertVerifier},
    time_provider::TimeProvider,
};
use std::{fmt, sync::Arc};

/// Where a configuration stores its sessions, which is its store or encrypted tickets.
#[derive(Clone)]
pub(super) struct Sessions {
    store: Arc<dyn StoresServerSessions>,
    ticketer: Arc<dyn ProducesTickets>,
}

impl Sessions {
    pub(super) fn of(config: &ServerConfig) -> Self {
        Self {
            store: config.session_storage.clone(),
            ticketer: config.ticketer.clone(),
        }
    }

    /// Makes `config` resume only sessions that `verifier` accepts. Without a verifier, only anonymous ones.
    pub(super) fn guard(
        &self,
        config: &mut ServerConfig,
        verifier: Option<Arc<dyn ClientCertVerifier>>,
    ) {
        let time = config.time_provider.clone();
        let policy = ResumptionPolicy { verifier, time };
        config.session_storage = Arc::new(Guarded {
            inner: self.store.clone(),
            policy: policy.clone(),
        });
        config.ticketer = Arc::new(Guarded {
            inner: self.ticketer.clone(),
            policy,
        });
    }
}

#[derive(Clone, Debug)]
struct ResumptionPolicy {
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    time: Arc<dyn TimeProvider>,
}

impl ResumptionPolicy {
    /// Whether to store `session`, which was just negotiated.
    fn may_keep(&self, session: &[u8]) -> bool {
        let chain = client_chain(session);
        chain.is_some_and(|chain| chain.is_empty() || self.verifier.is_some())
    }

    fn may_resume(&self, session: &[u8]) -> bool {
        let Some(chain) = client_chain(session) else {
            return false;
        };
        match (&self.verifier, chain.split_first()) {
            (None, None) => true,
            (None, Some(_)) => false,
            // From another configuration with the same store or ticketer that requests no certificate.
            (Some(verifier), None) => !verifier.client_auth_mandatory(),
            (Some(verifier), Some((own, issuers))) => self.time.current_time().is_some_and(|now| {
                let verified = verifier.verify_client_cert(own, issuers, now);
                verified.is_ok()
            }),
        }
    }
}

/// A store or a ticketer that hides sessions which must not be resumed.
struct Guarded<T: ?Sized> {
    policy: ResumptionPolicy,
    inner: Arc<T>,
}

impl StoresServerSessions for Guarded<dyn StoresServerSessions> {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.policy.may_keep(&value) && self.inner.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let found = self.inner.get(key);
        found.filter(|session| self.policy.may_resume(session))
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let found = self.inner.take(key);
        found.filter(|session| self.policy.may_resume(session))
    }

    fn can_cache(&self) -> bool {
        self.inner.can_cache()
    }
}

impl ProducesTickets for Guarded<dyn ProducesTickets> {
    fn enabled(&self) -> bool {
        self.inner.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.inner.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let may_keep = self.policy.may_keep(plain);
        may_keep.then(|| self.inner.encrypt(plain)).flatten()
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let session = self.inner.decrypt(cipher)?;
        self.policy.may_resume(&session).then_some(session)
    }
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for Guarded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// The client's certificates in a session as rustls 0.23 encodes it; `None` for another format.
///
/// The format is internal to rustls. If it changes, this fails and every handshake becomes a full one. That
/// is safe, and the tests of resumption detect it.
fn client_chain(session: &[u8]) -> Option<Vec<CertificateDer<'_>>> {
    let mut session = Reader(session);
    if session.flag()? {
        session.prefixed(1)?; // server name
    }
    session.take(4)?; // version, cipher suite
    session.prefixed(1)?; // secret
    session.flag()?; // extended master secret
    let mut chain = Vec::new();
    if session.flag()? {
        let mut certificates = Reader(session.prefixed(3)?);
        while !certificates.0.is_empty() {
            chain.push(CertificateDer::from(certificates.prefixed(3)?));
        }
    }
    if session.flag()? {
        session.prefixed(1)?; // application protocol
    }
    session.prefixed(2)?; // the application's data
    session.take(8 + 4)?; // time of creation, offset of the age
    session.0.is_empty().then_some(chain)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// Reads a length of `size` bytes, then that many bytes.
    fn prefixed(&mut self, size: usize) -> Option<&'a [u8]> {
        let push = |length, byte: &u8| length << 8 | usize::from(*byte);
        let length = self.take(size)?.iter().fold(0, push);
        self.take(length)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.take(1)? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"\x01\x01a\x03\x04\x13\x01\x02kk\x01";
    const TAIL: &[u8] = b"\x01\x02h2\x00\x03abctttttttttttt";

    fn session(chain: &[u8]) -> Vec<u8> {
        [HEAD, chain, TAIL].concat()
    }

    #[test]
    fn the_certificates_of_a_session_are_found() {
        let two = session(b"\x01\x00\x00\x09\x00\x00\x01x\x00\x00\x02yz");
        let chain = client_chain(&two).unwrap();
        assert_eq!(
            chain.iter().map(|c| &c[..]).collect::<Vec<_>>(),
            [&b"x"[..], b"yz"]
        );
        assert!(client_chain(&session(b"\x00")).unwrap().is_empty());
        let bare = b"\x00\x03\x03\xc0\x2b\x01k\x00\x00\x00\x00\x00tttttttttttt";
        assert!(client_chain(bare).unwrap().is_empty());
    }

    #[test]
    fn a_session_in_another_format_is_none() {
        let whole = session(b"\x01\x00\x00\x04\x00\x00\x01x");
        for length in 0..whole.len() {
            assert!(client_chain(&whole[..length]).is_none(), "{length}");
        }
        let longer = [&whole[..], b"x"].concat();
        assert!(client_chain(&longer).is_none());
        for damaged in [
            &b"\x02"[..],
            b"\x01\x00\x00\x04\x00\x00\x02x",
            b"\x01\xff\xff\xff\x00",
        ] {
            assert!(client_chain(&session(damaged)).is_none(), "{damaged:?}");
        }
    }
}
