//! Negotiated TLS parameters, without types of a TLS library.

use super::CertificateFacts;
use std::fmt;
use tokio::time::Instant;

/// The parameters that a TLS handshake negotiated.
///
/// Versions and suites have rustls' names, for example `TLSv1_3` and `TLS13_AES_256_GCM_SHA384`. IANA's name
/// of that suite is `TLS_AES_256_GCM_SHA384`; the suites of TLS 1.2 have the same name in both. SNI and
/// certificates contain the peer's bytes, so escape them in logs.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsInfo {
    /// Protocol version.
    pub version: Option<&'static str>,
    /// Cipher suite.
    pub cipher_suite: Option<&'static str>,
    /// The negotiated application protocol (ALPN, RFC 7301).
    pub alpn: Option<Vec<u8>>,
    /// The host name that the client requested (SNI, RFC 6066), without a trailing dot.
    pub server_name: Option<String>,
    /// The peer's verified certificates in DER, its own first; empty if it presented none.
    pub peer_certificates: Vec<Vec<u8>>,
    /// The facts of the first of them, such as its names; `None` if it is damaged.
    pub peer_certificate: Option<Box<CertificateFacts>>,
    /// Whether the handshake resumed an earlier session.
    pub resumed: bool,
    /// The end of the handshake.
    pub completed_at: Option<Instant>,
    #[cfg(feature = "tonic")]
    pub(crate) tonic: Option<super::TonicTls>,
}

impl TlsInfo {
    /// Creates an empty value.
    pub fn new() -> Self {
        Self::default()
    }

    /// The application protocol, if it is UTF-8.
    pub fn alpn_str(&self) -> Option<&str> {
        std::str::from_utf8(self.alpn.as_deref()?).ok()
    }
}

#[cfg(feature = "tls")]
impl TlsInfo {
    /// `name` as it is compared and logged, without a trailing dot. SNI has none (RFC 6066, section 3), and
    /// clients that send one mean the same host.
    pub(crate) fn host_name(name: &str) -> String {
        name.strip_suffix('.').unwrap_or(name).to_owned()
    }
}

impl fmt::Debug for TlsInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alpn = self.alpn.as_deref().map(String::from_utf8_lossy);
        f.debug_struct("TlsInfo")
            .field("version", &self.version)
            .field("cipher_suite", &self.cipher_suite)
            .field("alpn", &alpn)
            .field("server_name", &self.server_name)
            .field("peer_certificates", &self.peer_certificates.len())
            .field("peer_certificate", &self.peer_certificate)
            .field("resumed", &self.resumed)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_application_protocol_is_printed_as_text() {
        let mut info = TlsInfo::new();
        info.alpn = Some(b"h2\n\xff".to_vec());
        info.peer_certificates = vec![vec![7; 1000]];
        let text = format!("{info:?}");
        assert!(text.contains("alpn: Some(\"h2\\n\u{fffd}\")"), "{text}");
        assert!(text.contains("peer_certificates: 1"), "{text}");
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_host_name_has_no_dot_at_its_end() {
        assert_eq!(TlsInfo::host_name("example.org."), "example.org");
        assert_eq!(TlsInfo::host_name("example.org"), "example.org");
    }
}
