//! Handshake messages that a client sends after the handshake.

use super::*;
use crate::tls::{TlsIo, handshake::handshake};
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Tls13CipherSuite,
    crypto::cipher::{
        AeadKey, Iv, MessageDecrypter, MessageEncrypter, OutboundOpaqueMessage,
        OutboundPlainMessage, Tls13AeadAlgorithm, UnsupportedOperationError,
    },
    version::TLS13,
};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_test::{assert_pending, assert_ready, task};

/// A cipher of a client that sends plaintext as handshake messages while it is set.
struct Forging(&'static dyn Tls13AeadAlgorithm, &'static AtomicBool);

impl Tls13AeadAlgorithm for Forging {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(ForgingEncrypter(self.0.encrypter(key, iv), self.1))
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.0.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.0.key_len()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv)
    }
}

struct ForgingEncrypter(Box<dyn MessageEncrypter>, &'static AtomicBool);

impl MessageEncrypter for ForgingEncrypter {
    fn encrypt(
        &mut self,
        mut message: OutboundPlainMessage<'_>,
        seq: u64,
    ) -> Result<OutboundOpaqueMessage, rustls::Error> {
        if self.1.load(Ordering::Relaxed) && message.typ == ContentType::ApplicationData {
            message.typ = ContentType::Handshake;
        }
        self.0.encrypt(message, seq)
    }

    fn encrypted_payload_len(&self, length: usize) -> usize {
        self.0.encrypted_payload_len(length)
    }
}

type Server = Connection<TlsIo<Socket<DuplexStream>>>;

/// Both ends of a connection whose client sends the beginning of a handshake message.
async fn with_unfinished_message(length: usize) -> (Server, TlsStream<DuplexStream>) {
    let forges: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
    let mut provider = (*provider()).clone();
    provider.cipher_suites.retain_mut(|suite| {
        let Some(tls13) = suite.tls13() else {
            return false;
        };
        let aead_alg = Box::leak(Box::new(Forging(tls13.aead_alg, forges)));
        let forging = Tls13CipherSuite {
            common: rustls::crypto::CipherSuiteCommon { ..tls13.common },
            hkdf_provider: tls13.hkdf_provider,
            aead_alg,
            quic: None,
        };
        *suite = rustls::SupportedCipherSuite::Tls13(Box::leak(Box::new(forging)));
        true
    });
    let (connection, io) = crate::testing::in_memory(1_000_000);
    let client = connect(client_config(Arc::new(provider), &[&TLS13]), io);
    let (server, client) = tokio::join!(handshake(tls_layer(), connection), client);
    let (server, mut client) = (server.unwrap(), client.unwrap());
    forges.store(true, Ordering::Relaxed);
    let mut message = vec![7; length];
    // A key update of 65,535 bytes.
    message[..4].copy_from_slice(&[24, 0, 0xff, 0xff]);
    for record in message.chunks(1_000) {
        client.write_all(record).await.unwrap();
        client.flush().await.unwrap();
    }
    forges.store(false, Ordering::Relaxed);
    (server, client)
}

#[tokio::test]
async fn a_long_handshake_message_ends_an_established_session() {
    if !is_unbuffered() {
        return;
    }
    let (mut server, mut client) = with_unfinished_message(65_000).await;
    for _ in 0..2 {
        let error = server.read(&mut [0; 10]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("TooLarge"), "{error}");
        assert_eq!(server.get_ref().held_bytes(), Some(0));
    }
    let error = server.write(b"answer").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let error = read_all(&mut client).await.1.unwrap_err();
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    assert!(
        matches!(
            cause,
            Some(rustls::Error::AlertReceived(
                AlertDescription::DecodeError | AlertDescription::BadRecordMac
            ))
        ),
        "{cause:?}"
    );
}

#[tokio::test]
async fn a_session_keeps_an_unfinished_handshake_message_within_a_bound() {
    if !is_unbuffered() {
        return;
    }
    for (length, is_kept) in [(4, true), (23_000, true), (25_000, false)] {
        let (mut server, _client) = with_unfinished_message(length).await;
        let mut buffer = [0; 10];
        let mut reading = task::spawn(server.read(&mut buffer));
        match is_kept {
            true => assert_pending!(reading.poll()),
            false => assert!(assert_ready!(reading.poll()).is_err()),
        }
        drop(reading);
        let held = server.get_ref().held_bytes().unwrap();
        assert_eq!(held >= length, is_kept, "{length}: {held}");
        assert!(held <= 24 * 1024, "{length}: {held}");
    }
}
