//! Code that the server side and the client side share.

use super::{
    rustls::{self, CommonState, HandshakeKind, crypto::CryptoProvider},
    x509,
};
use crate::connection::{Linger, TlsInfo};
use std::{io, time::Duration};

/// The default timeout of a handshake. It is ample on slow networks, and too short to hold connections idle.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Converts the names of application protocols (ALPN, RFC 7301).
///
/// # Panics
///
/// When a name is empty or longer than 255 bytes, which TLS cannot express.
pub(super) fn alpn_names<P: Into<Vec<u8>>>(protocols: impl IntoIterator<Item = P>) -> Vec<Vec<u8>> {
    let names: Vec<Vec<u8>> = protocols.into_iter().map(Into::into).collect();
    for name in &names {
        assert!(
            (1..=255).contains(&name.len()),
            "the name of an application protocol has 1 to 255 bytes, not {}",
            name.len()
        );
    }
    names
}

/// The names of application protocols, escaped for `Debug` output.
pub(super) fn escaped_alpn(names: &[Vec<u8>]) -> Vec<String> {
    let names = names.iter();
    names.map(|name| name.escape_ascii().to_string()).collect()
}

/// The parameters that `session` has negotiated. `server_name` comes from the caller, because rustls exposes
/// it on the server side only; `provider` is that of its configuration.
pub(super) fn tls_info(
    session: &CommonState,
    server_name: Option<String>,
    provider: &CryptoProvider,
) -> TlsInfo {
    let mut info = TlsInfo::new();
    info.version = session.protocol_version().and_then(|v| v.as_str());
    info.cipher_suite = session
        .negotiated_cipher_suite()
        .and_then(|suite| suite.suite().as_str());
    info.alpn = session.alpn_protocol().map(<[u8]>::to_vec);
    info.server_name = server_name;
    let certificates = session.peer_certificates().unwrap_or_default();
    info.peer_certificates = certificates.iter().map(|c| c.to_vec()).collect();
    if let Some(own) = certificates.first() {
        info.peer_certificate = x509::facts(own, x509::sha256(provider)).map(Box::new);
    }
    info.resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    info
}

/// A failure of the protocol, or of the peer in it.
pub(super) fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Limits of the close after a failed handshake.
///
/// The peer has a second to receive the alert. Dropping a connection with unread input sends a reset, which
/// would discard the alert.
pub(super) fn linger_for_alert() -> Linger {
    Linger::new().with_timeout(Duration::from_secs(1))
}
