//! PostgreSQL.

use super::{Prelude, PreludeStep};

/// PostgreSQL: TLS after an `SSLRequest`, or immediately (`sslnegotiation=direct`, since version 17).
///
/// GSS encryption is declined, after which clients continue with an `SSLRequest`. Clients that begin without TLS
/// get an error and are rejected. Requests to cancel a query without TLS, which clients with libpq before version 17
/// send, are closed without a reply.
///
/// For direct TLS, clients require the ALPN name `postgresql`; set it with `TlsLayer::with_alpn`.
///
/// Source: "Message Flow" and "SSL Session Encryption" in PostgreSQL's documentation.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Postgres;

impl Postgres {
    /// The reason of a [`Refused`](crate::error::Refused) whose client begins without TLS.
    pub const NO_TLS: &'static str = "the client does not use TLS";
    /// The reason of a [`Refused`](crate::error::Refused) whose first packet is invalid.
    pub const INVALID: &'static str = "its first packet is invalid";

    /// Speaks for the server until TLS begins.
    pub const fn new() -> Self {
        Self
    }
}

impl Prelude for Postgres {
    fn advance(&mut self, bytes: &[u8]) -> PreludeStep {
        // Packets have less than 16 MiB, so that their first byte is zero.
        match bytes[0] {
            TLS_HANDSHAKE => return PreludeStep::Tls,
            0 => {}
            _ => return PreludeStep::refuse(b"", Self::INVALID),
        }
        let Some((&[a, b, c, d, e, f, g, h], _)) = bytes.split_first_chunk() else {
            return PreludeStep::Need;
        };
        let length = u32::from_be_bytes([a, b, c, d]);
        match (u32::from_be_bytes([e, f, g, h]), length) {
            (SSL, 8) => PreludeStep::start_tls(8, b"S"),
            (GSS_ENCRYPTION, 8) => PreludeStep::reply(8, b"N"),
            // The server sends no response to a request to cancel.
            (CANCEL, 16..=MAX_CANCEL) => PreludeStep::refuse(b"", Self::NO_TLS),
            (code, 8..=MAX_STARTUP) if code >> 16 == 3 => {
                PreludeStep::refuse(REQUIRED, Self::NO_TLS)
            }
            _ => PreludeStep::refuse(b"", Self::INVALID),
        }
    }
}

const TLS_HANDSHAKE: u8 = 22;
const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS_ENCRYPTION: u32 = 80_877_104;
/// With the longest key (version 3.2 of the protocol).
const MAX_CANCEL: u32 = 12 + 256;
const MAX_STARTUP: u32 = 10_000;
/// `ErrorResponse`, with the code of the server for connections without the required encryption.
const REQUIRED: &[u8] = b"E\0\0\0\x30SFATAL\0VFATAL\0C28000\0MTLS is required here\0\0";
