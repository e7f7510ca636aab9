//! What can be wrong with a header.

use crate::connection::Address;
use std::{error, fmt, io};

/// A trusted source sent no valid PROXY header.
///
/// The text names the source, what is wrong, and the first bytes that came, escaped.
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

/// Which rule of the protocol, or which bound, a header breaks.
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

    /// The other end of the socket.
    pub const fn peer(&self) -> &Address {
        &self.peer
    }

    /// Whether something else came instead of a header.
    pub const fn is_absent(&self) -> bool {
        matches!(self.failure, HeaderFailure::Absent)
    }

    /// Whether a header came that breaks the protocol or the bound on its size.
    pub const fn is_invalid(&self) -> bool {
        matches!(self.failure, HeaderFailure::Invalid(_))
    }

    /// Why the header could not be read; [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) where the
    /// connection ended before the header did.
    pub const fn io_error(&self) -> Option<&io::Error> {
        match &self.failure {
            HeaderFailure::Io(error) => Some(error),
            HeaderFailure::Absent | HeaderFailure::Invalid(_) => None,
        }
    }

    /// The first bytes that came, 32 at most.
    pub fn began(&self) -> &[u8] {
        &self.began
    }
}

impl fmt::Display for ProxyHeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = &self.peer;
        match &self.failure {
            HeaderFailure::Absent => write!(f, "no PROXY header from {peer}, which must send one")?,
            HeaderFailure::Invalid(problem) => {
                write!(f, "invalid PROXY header from {peer}: {problem}")?
            }
            HeaderFailure::Io(_) => write!(f, "no complete PROXY header from {peer}")?,
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
            Self::LineTooLong => f.write_str("no line of version 1 ends within 107 bytes"),
            Self::Command => f.write_str("neither LOCAL nor PROXY of version 2"),
            Self::Family => f.write_str("unknown address family or protocol"),
            Self::TooShort => f.write_str("shorter than its addresses"),
            Self::TooLong(length) => write!(f, "its {length} bytes are more than allowed"),
            Self::Field => f.write_str("a field is malformed"),
            Self::Checksum => f.write_str("the checksum is wrong"),
        }
    }
}

/// Enough to recognise a protocol.
const SHOWN: usize = 32;
