//! Parses the ClientHello of TLS without a TLS library.

mod error;
mod fields;
mod records;
mod server_name;
#[cfg(test)]
pub(crate) mod tests;

pub use self::error::ClientHelloError;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub(in crate::peek) use self::fields::{ALPN, SERVER_NAME};
pub(crate) use self::server_name::check_host_name;

use self::{
    fields::{Fields, Reader},
    records::Records,
};
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
use super::ja4::ja4;
use crate::connection::Hello;
use std::{borrow::Cow, fmt};

/// Parses a ClientHello from the first bytes of a connection, however they are split.
///
/// It performs no I/O. One parser serves one connection.
///
/// ```
/// use portcullis_middleware::peek::ClientHelloParser;
///
/// let error = ClientHelloParser::new().parse(b"GET / HTTP/1.1").unwrap_err();
/// assert!(error.is_not_client_hello());
/// ```
#[derive(Clone, Debug)]
pub struct ClientHelloParser {
    records: Records,
    max_len: usize,
}

impl ClientHelloParser {
    pub(in crate::peek) const MAX_LEN: usize = 64 << 10;

    /// Accepts up to 16 KiB, which is BoringSSL's limit.
    pub fn new() -> Self {
        Self {
            records: Records::default(),
            max_len: DEFAULT_MAX_LEN,
        }
    }

    /// Limits the size, in bytes on the wire; 16 KiB by default.
    ///
    /// # Panics
    ///
    /// If `max_len` exceeds 64 KiB.
    #[must_use]
    pub const fn with_max_len(mut self, max_len: usize) -> Self {
        assert!(max_len <= Self::MAX_LEN, "a ClientHello has 64 KiB at most");
        self.max_len = max_len;
        self
    }

    /// Continues with `bytes`, all bytes received so far; `None` until the ClientHello is complete.
    ///
    /// The result borrows from `bytes`. Only a ClientHello that spans several records is copied. Each call must
    /// contain the bytes of the previous one.
    ///
    /// # Errors
    ///
    /// If the bytes cannot become a valid ClientHello, or exceed the limit. More bytes do not change an error.
    pub fn parse<'a>(
        &mut self,
        bytes: &'a [u8],
    ) -> Result<Option<ClientHello<'a>>, ClientHelloError> {
        if !self.records.advance(bytes, self.max_len)? {
            return Ok(None);
        }
        let body = self.records.body(bytes);
        let fields = Fields::find(&body)?;
        Ok(Some(ClientHello { body, fields }))
    }
}

impl Default for ClientHelloParser {
    fn default() -> Self {
        Self::new()
    }
}

/// The first message of a TLS client (RFC 8446, section 4.1.2).
///
/// All values are chosen by the client and not yet authenticated.
#[derive(Clone)]
pub struct ClientHello<'a> {
    body: Cow<'a, [u8]>,
    fields: Fields,
}

impl ClientHello<'_> {
    /// The requested host name (SNI) as the client wrote it, without a trailing dot.
    ///
    /// Host names ignore case. `None` if it is absent, and for an IP address, which TLS does not allow here.
    pub fn server_name(&self) -> Option<&str> {
        // It was checked to be ASCII.
        str::from_utf8(&self.body[self.fields.server_name.clone()?]).ok()
    }

    /// The fingerprint JA4 of the client, such as `t13d1516h2_8daaf6152771_e5627efa2ab1`.
    ///
    /// It is specified by FoxIO (`technical_details/JA4.md` of FoxIO-LLC/ja4, licence BSD 3-Clause). It
    /// identifies a TLS library and its settings, and a client can imitate another one. It contains hashes, which
    /// the crypto provider computes; without the feature `aws-lc-rs` or `ring` it does not exist.
    #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
    pub fn ja4(&self) -> String {
        ja4(self)
    }

    /// The parts for [`ConnectionInfo::hello`](crate::ConnectionInfo::hello), for a custom
    /// [`Detector`](super::Detector); without the fingerprint JA4.
    pub fn to_hello(&self) -> Hello {
        self.hello_with(None)
    }

    /// Like [`to_hello`](Self::to_hello), with the [fingerprint](Self::ja4).
    #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
    pub fn to_hello_with_ja4(&self) -> Hello {
        self.hello_with(Some(self.ja4()))
    }

    fn hello_with(&self, ja4: Option<String>) -> Hello {
        let alpn = &self.body[self.fields.alpn.clone()];
        Hello::new(self.server_name(), alpn, ja4)
    }

    /// Whether the extension `server_name` is present, with whatever value.
    pub const fn has_server_name(&self) -> bool {
        self.fields.has_server_name
    }

    /// The application protocols that the client offers (ALPN, RFC 7301), its preferred one first.
    pub fn alpn(&self) -> impl Iterator<Item = &[u8]> {
        let mut names = Reader::new(&self.body, self.fields.alpn.clone());
        std::iter::from_fn(move || names.block(1)).map(|name| &self.body[name])
    }

    /// The version field of the message, which is 0x0303 (TLS 1.2) also in TLS 1.3.
    pub const fn legacy_version(&self) -> u16 {
        self.fields.version
    }

    /// The versions that the client offers in the extension `supported_versions`, such as 0x0304 for TLS 1.3.
    pub fn supported_versions(&self) -> impl Iterator<Item = u16> {
        numbers(&self.body[self.fields.supported_versions.clone()])
    }

    /// The signature algorithms that the client accepts, in its order of preference.
    pub fn signature_algorithms(&self) -> impl Iterator<Item = u16> {
        numbers(&self.body[self.fields.signature_algorithms.clone()])
    }

    /// The cipher suites that the client offers, in its order of preference.
    pub fn cipher_suites(&self) -> impl Iterator<Item = u16> {
        numbers(&self.body[self.fields.cipher_suites.clone()])
    }

    /// All extensions in order, each with its type and value.
    pub fn extensions(&self) -> impl Iterator<Item = (u16, &[u8])> {
        let mut extensions = Reader::new(&self.body, self.fields.extensions.clone());
        std::iter::from_fn(move || extensions.extension())
            .map(|(kind, value)| (kind, &self.body[value]))
    }
}

/// Without the random values and the tickets.
impl fmt::Debug for ClientHello<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHello")
            .field("server_name", &self.server_name())
            .field("len", &self.body.len())
            .finish_non_exhaustive()
    }
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = u16> {
    let pairs = bytes.chunks_exact(2);
    pairs.map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
}

const DEFAULT_MAX_LEN: usize = 16 << 10;
