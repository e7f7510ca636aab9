//! What was forwarded, and why it ended.

use portcullis_middleware::{
    connection::{EndedBy, ForcedClose},
    error::{Elapsed, find},
};
use std::{error, fmt, io, time::Duration};

/// What was forwarded on a connection, and which side ended it.
///
/// Bytes are those of the streams, so under TLS those of the plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Forwarded {
    /// Bytes that were written to the backend.
    pub to_backend: u64,
    /// Bytes that were written to the client.
    pub to_client: u64,
    /// The side that ended the connection first.
    pub ended_by: EndedBy,
    /// When the client's first byte was read, from the accept; `None` if it sent none.
    ///
    /// While the connection is open, [`ConnectionInfo::reached`] has this time.
    ///
    /// [`ConnectionInfo::reached`]: portcullis_middleware::ConnectionInfo::reached
    pub first_byte_of_client: Option<Duration>,
    /// When the backend's first byte was read, from the accept of the client; `None` if it sent none.
    pub first_byte_of_backend: Option<Duration>,
}

/// One of the two connections of a forwarder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a forwarder has two sides")]
pub enum Side {
    /// The connection that was accepted.
    Client,
    /// The connection that was made.
    Backend,
}

impl Side {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }

    /// The cause of `error` on this side, which is the forwarder if it closed the side or did not wait longer.
    pub(super) fn or_gate(self, error: &io::Error) -> EndedBy {
        match find::<ForcedClose>(error).is_some() || find::<Elapsed>(error).is_some() {
            true => EndedBy::Gate,
            false => self.into(),
        }
    }
}

impl From<Side> for EndedBy {
    fn from(side: Side) -> Self {
        match side {
            Side::Client => Self::Client,
            Side::Backend => Self::Backend,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Backend => "backend",
        })
    }
}

/// What the forwarder did when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ForwardStep {
    /// Reading from a side.
    Read(Side),
    /// Writing to a side, including flushing and ending its write side.
    Write(Side),
    /// Waiting for either side.
    Wait,
}

impl fmt::Display for ForwardStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(side) => write!(f, "reading from the {side}"),
            Self::Write(side) => write!(f, "writing to the {side}"),
            Self::Wait => f.write_str("waiting for either side"),
        }
    }
}

/// Forwarding failed after the backend was connected to.
///
/// Its source is the I/O error of the side, or the timeout.
#[derive(Debug)]
pub struct ForwardError {
    pub(super) step: ForwardStep,
    pub(super) forwarded: Forwarded,
    pub(super) source: io::Error,
}

impl ForwardError {
    /// What the forwarder did.
    pub const fn step(&self) -> ForwardStep {
        self.step
    }

    /// What was forwarded before.
    pub const fn forwarded(&self) -> Forwarded {
        self.forwarded
    }

    /// The cause.
    pub const fn io_error(&self) -> &io::Error {
        &self.source
    }
}

impl fmt::Display for ForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Forwarded {
            to_backend,
            to_client,
            ..
        } = self.forwarded;
        let step = self.step;
        write!(
            f,
            "{step} failed after {to_backend} bytes to the backend and {to_client} bytes to the client"
        )
    }
}

impl error::Error for ForwardError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A failed step.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) step: ForwardStep,
    pub(super) error: io::Error,
}

impl Failure {
    pub(super) fn ended_by(&self) -> EndedBy {
        match self.step {
            ForwardStep::Read(side) | ForwardStep::Write(side) => side.or_gate(&self.error),
            ForwardStep::Wait => EndedBy::Gate,
        }
    }

    /// Whether a TLS peer closed without `close_notify`.
    pub(super) fn is_truncated(&self) -> bool {
        self.error.kind() == io::ErrorKind::UnexpectedEof
    }

    /// Whether it was a write, and the peer had received everything that it wanted before (it has closed).
    pub(super) fn is_closed(&self) -> bool {
        self.error.kind() == io::ErrorKind::BrokenPipe
    }
}
