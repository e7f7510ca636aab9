//! Phases of a connection's life.

use std::fmt;

/// The phase of a connection's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u8)]
pub enum Phase {
    /// Accepted, but not in a stack yet.
    Accepted,
    /// Waits for a permit of a limit, or for a service that is not ready.
    Waiting,
    /// Performs the TLS handshake.
    Handshake,
    /// Being served.
    Serving,
    /// Closes gracefully; see [`Connection::close`](super::Connection::close).
    Closing,
    /// The socket is closed.
    Closed,
    /// The raw stream was detached and lives on outside portcullis.
    Detached,
}

impl Phase {
    const ALL: [Self; 7] = [
        Self::Accepted,
        Self::Waiting,
        Self::Handshake,
        Self::Serving,
        Self::Closing,
        Self::Closed,
        Self::Detached,
    ];

    pub(super) fn from_u8(phase: u8) -> Self {
        Self::ALL[usize::from(phase)]
    }

    /// Whether portcullis is done with the connection.
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Closed | Self::Detached)
    }

    /// The name in lower case, as used in log lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Waiting => "waiting",
            Self::Handshake => "handshake",
            Self::Serving => "serving",
            Self::Closing => "closing",
            Self::Closed => "closed",
            Self::Detached => "detached",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_survives_the_way_through_its_number() {
        for phase in Phase::ALL {
            assert_eq!(Phase::from_u8(phase as u8), phase);
        }
    }
}
