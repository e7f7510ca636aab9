//! Recognizes protocols.

use super::{ClientHelloParser, Detect, Detector};
use crate::connection::Hello;

/// The protocol of a connection, by the client's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// TLS, with a complete ClientHello; see [`ConnectionInfo::hello`](crate::ConnectionInfo::hello).
    Tls,
    /// HTTP/1.0 or HTTP/1.1, by one of the methods of RFC 9110, section 9, or PATCH (RFC 5789).
    Http1,
    /// HTTP/2 without TLS, by its preface (RFC 9113, section 3.4).
    Http2,
    /// SSH (RFC 4253, section 4.2).
    Ssh,
    /// PostgreSQL without direct TLS, by its startup or request packet.
    Postgres,
    /// A PROXY header of version 1 or 2.
    Proxy,
    /// Anything else.
    Unknown,
}

/// Detects a [`Protocol`] by the client's first bytes.
///
/// HTTP, SSH and TLS are recognized by at most five bytes, PROXY headers by twelve. TLS then takes the whole
/// ClientHello, and an invalid one is rejected.
///
/// Clients of other protocols that wait for the server's first bytes send nothing, and reach the timeout of the
/// layer.
#[derive(Clone, Debug, Default)]
pub struct ProtocolDetector {
    parser: Option<ClientHelloParser>,
    hello: Option<Hello>,
    #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
    ja4: bool,
}

impl ProtocolDetector {
    /// Without JA4.
    pub fn new() -> Self {
        Self::default()
    }

    /// Computes the fingerprint [JA4](super::ClientHello::ja4) of TLS clients; off by default. Needs the feature
    /// `aws-lc-rs` or `ring`.
    #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
    #[must_use]
    pub const fn with_ja4(mut self, ja4: bool) -> Self {
        self.ja4 = ja4;
        self
    }

    /// The layer limits the length, so the parser has the largest limit.
    fn tls(&mut self, bytes: &[u8]) -> Detect<Protocol> {
        let new = || ClientHelloParser::new().with_max_len(ClientHelloParser::MAX_LEN);
        match self.parser.get_or_insert_with(new).parse(bytes) {
            Ok(None) => Detect::Need,
            Ok(Some(hello)) => {
                #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
                let facts = match self.ja4 {
                    true => hello.to_hello_with_ja4(),
                    false => hello.to_hello(),
                };
                #[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
                let facts = hello.to_hello();
                self.hello = Some(facts);
                Detect::Found(Protocol::Tls)
            }
            Err(error) => Detect::Invalid(error.into()),
        }
    }
}

impl Detector for ProtocolDetector {
    type Found = Protocol;

    fn detect(&mut self, bytes: &[u8]) -> Detect<Protocol> {
        let mut undecided = false;
        for (signature, protocol) in SIGNATURES {
            let common = bytes.len().min(signature.len());
            if bytes[..common] == signature[..common] {
                if common == signature.len() {
                    return match protocol {
                        Protocol::Tls => self.tls(bytes),
                        protocol => Detect::Found(*protocol),
                    };
                }
                undecided = true;
            }
        }
        match postgres(bytes) {
            _ if undecided => Detect::Need,
            None => Detect::Need,
            Some(true) => Detect::Found(Protocol::Postgres),
            Some(false) => Detect::Found(Protocol::Unknown),
        }
    }

    fn into_hello(self) -> Option<Hello> {
        self.hello
    }
}

/// Whether a packet of PostgreSQL begins; `None` for too few bytes ("Message Formats" in its documentation).
///
/// It has a length and a code, which is a version of the protocol or that of a request.
fn postgres(bytes: &[u8]) -> Option<bool> {
    let Some((&[a, b, c, d, e, f, g, h], _)) = bytes.split_first_chunk() else {
        // The largest length takes two bytes.
        let begins = bytes.iter().take(2).all(|byte| *byte == 0);
        return if begins { None } else { Some(false) };
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    let code = u32::from_be_bytes([e, f, g, h]);
    Some(match code {
        CANCEL | SSL | GSS_ENCRYPTION => (8..=MAX_REQUEST).contains(&length),
        _ => code >> 16 == 3 && (8..=MAX_STARTUP).contains(&length),
    })
}

/// Prefixes that decide. A record of TLS begins with its type and major version.
const SIGNATURES: &[(&[u8], Protocol)] = &[
    (&[22, 3], Protocol::Tls),
    (b"SSH-", Protocol::Ssh),
    (b"PRI *", Protocol::Http2),
    (b"GET ", Protocol::Http1),
    (b"HEAD ", Protocol::Http1),
    (b"POST ", Protocol::Http1),
    (b"PUT ", Protocol::Http1),
    (b"DELET", Protocol::Http1),
    (b"CONNE", Protocol::Http1),
    (b"OPTIO", Protocol::Http1),
    (b"TRACE", Protocol::Http1),
    (b"PATCH", Protocol::Http1),
    (b"PROXY ", Protocol::Proxy),
    (b"\r\n\r\n\0\r\nQUIT\n", Protocol::Proxy),
];
const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS_ENCRYPTION: u32 = 80_877_104;
/// The limit of the server for a startup packet.
const MAX_STARTUP: u32 = 10_000;
const MAX_REQUEST: u32 = 1024;
