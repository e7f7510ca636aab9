//! What TLS agreed on, without a type of any TLS library.

use std::fmt;

/// What a TLS handshake agreed on.
///
/// Names of versions and suites are those of the registries (RFC 8446, appendix B; IANA's TLS
/// parameters), for example `TLSv1_3` and `TLS13_AES_256_GCM_SHA384`. What the peer chose (SNI,
/// certificates) is as it sent it: escape it in logs.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsInfo {
    /// Protocol version.
    pub version: Option<&'static str>,
    /// Cipher suite.
    pub cipher_suite: Option<&'static str>,
    /// Application protocol (ALPN, RFC 7301) that both sides agreed on.
    pub alpn: Option<Vec<u8>>,
    /// Host name that the client asked for (SNI, RFC 6066).
    pub server_name: Option<String>,
    /// The peer's certificates in DER, its own first, as verified; empty when it showed none.
    pub peer_certificates: Vec<Vec<u8>>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
    #[cfg(feature = "tonic")]
    pub(crate) tonic: Option<super::TonicTls>,
}

impl TlsInfo {
    /// Nothing known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The application protocol as text, where it is text.
    pub fn alpn_str(&self) -> Option<&str> {
        std::str::from_utf8(self.alpn.as_deref()?).ok()
    }
}

impl fmt::Debug for TlsInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsInfo")
            .field("version", &self.version)
            .field("cipher_suite", &self.cipher_suite)
            .field(
                "alpn",
                &self
                    .alpn
                    .as_deref()
                    .map(<[u8]>::escape_ascii)
                    .map(|a| a.to_string()),
            )
            .field("server_name", &self.server_name)
            .field("peer_certificates", &self.peer_certificates.len())
            .field("resumed", &self.resumed)
            .finish()
    }
}
