//! Errors of a header.

use crate::connection::Address;
use std::{error, fmt, io};

/// A trusted source sent no valid PROXY header.
///
/// The text names the source and the problem, and quotes the first bytes received, escaped.
#[derive(Debug)]
pub struct ProxyHeaderError {
    peer: Address,
    failure: HeaderFailure,
    began: Vec<u8>,
}

#[derive(Debug)]
pub(super) enum HeaderFailure {
    Absent,
    Invalid(HeaderProblem),
    Io(io::Error),
}

/// The rule of the protocol, or the limit, that a header violates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderProblem {
    Line,
    LineTooLong,
    Command,
    Family,
    TooShort,
    TooLong(usize),
    Field,
    Checksum,
}

impl ProxyHeaderError {
    pub(super) fn new(peer: &Address, failure: HeaderFailure, received: &[u8]) -> Self {
        Self {
            peer: peer.clone(),
            failure,
            began: received[..received.len().min(SHOWN)].to_vec(),
        }
    }

    /// The peer of the socket.
    pub const fn peer(&self) -> &Address {
        &self.peer
    }

    /// Whether the connection began with something else.
    pub const fn is_absent(&self) -> bool {
        matches!(self.failure, HeaderFailure::Absent)
    }

    /// Whether the header violates the protocol or the size limit.
    pub const fn is_invalid(&self) -> bool {
        matches!(self.failure, HeaderFailure::Invalid(_))
    }

    /// The I/O error that interrupted the header; [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if the
    /// connection ended early.
    pub const fn io_error(&self) -> Option<&io::Error> {
        match &self.failure {
            HeaderFailure::Io(error) => Some(error),
            HeaderFailure::Absent | HeaderFailure::Invalid(_) => None,
        }
    }

    /// The first bytes received, at most 32.
    pub fn began(&self) -> &[u8] {
        &self.began
    }
}

impl fmt::Display for ProxyHeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = &self.peer;
        match &self.failure {
            HeaderFailure::Absent => {
                write!(f, "missing PROXY header from {peer}, which must send one")?
            }
            HeaderFailure::Invalid(problem) => {
                write!(f, "invalid PROXY header from {peer}: {problem}")?
            }
            HeaderFailure::Io(_) => write!(f, "incomplete PROXY header from {peer}")?,
        }
        match self.began.is_empty() {
            true => Ok(()),
            false => write!(f, ", it began with \"{}\"", self.began.escape_ascii()),
        }
    }
}

impl error::Error for ProxyHeaderError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.io_error().map(|error| error as _)
    }
}

impl fmt::Display for HeaderProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line => f.write_str("the line of version 1 is malformed"),
            Self::LineTooLong => f.write_str("the line of version 1 exceeds 107 bytes"),
            Self::Command => f.write_str("the command of version 2 is unknown"),
            Self::Family => f.write_str("unknown address family or protocol"),
            Self::TooShort => f.write_str("shorter than its addresses"),
            Self::TooLong(length) => write!(f, "its length of {length} bytes exceeds the limit"),
            Self::Field => f.write_str("a field is malformed"),
            Self::Checksum => f.write_str("the checksum is wrong"),
        }
    }
}

/// Enough to recognise a protocol.
const SHOWN: usize = 32;
