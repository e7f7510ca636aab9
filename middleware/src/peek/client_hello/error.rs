//! Errors of the parser.

use std::{error, fmt};

/// The first bytes of a connection are an invalid ClientHello, or one that is too long.
///
/// The text names the rule and the values that violate it; bytes of the client are not quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHelloError(pub(super) HelloProblem);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HelloProblem {
    RecordType(u8),
    RecordVersion(u8),
    RecordLength(usize),
    MessageType(u8),
    /// The claimed or received length, and the limit.
    TooLong(usize, usize),
    /// The field that is incomplete, too long or inconsistent.
    Malformed(&'static str),
    TrailingBytes(usize),
    Duplicate(u16),
    ServerName,
}

impl ClientHelloError {
    /// Whether the client sent something other than a TLS record with a ClientHello.
    pub const fn is_not_client_hello(&self) -> bool {
        matches!(
            self.0,
            HelloProblem::RecordType(_)
                | HelloProblem::RecordVersion(_)
                | HelloProblem::MessageType(_)
        )
    }

    /// Whether it exceeds the limit of the parser.
    pub const fn is_too_long(&self) -> bool {
        matches!(self.0, HelloProblem::TooLong(..))
    }
}

impl From<HelloProblem> for ClientHelloError {
    fn from(problem: HelloProblem) -> Self {
        Self(problem)
    }
}

impl fmt::Display for ClientHelloError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid ClientHello: ")?;
        match self.0 {
            HelloProblem::RecordType(kind) => {
                write!(f, "record of type {kind}, expected 22 (handshake)")
            }
            HelloProblem::RecordVersion(major) => {
                write!(f, "record of major version {major}, expected 3")
            }
            HelloProblem::RecordLength(length) => {
                write!(f, "record of {length} bytes, expected 1 to {MAX_FRAGMENT}")
            }
            HelloProblem::MessageType(kind) => {
                write!(f, "handshake message of type {kind}, expected 1")
            }
            HelloProblem::TooLong(length, limit) => {
                write!(f, "{length} bytes exceed the limit of {limit} bytes")
            }
            HelloProblem::Malformed(field) => write!(f, "malformed {field}"),
            HelloProblem::TrailingBytes(count) => write!(f, "{count} bytes follow the message"),
            HelloProblem::Duplicate(kind) => write!(f, "extension {kind} appears twice"),
            HelloProblem::ServerName => f.write_str("the server name is not a host name"),
        }
    }
}

impl error::Error for ClientHelloError {}

/// The longest fragment of a record (RFC 8446, section 5.1).
pub(super) const MAX_FRAGMENT: usize = 1 << 14;
