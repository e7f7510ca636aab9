//! How a connection ended: each ends in exactly one outcome.

use crate::{
    connection::{ConnectionInfo, ForcedClose, Phase},
    error::{Elapsed, HandshakeError, Panicked, Refused, TimeoutPhase, find, in_words},
};
use std::{error::Error, fmt, io};

/// How a connection ended, in one word; see [`Outcome::of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The service finished it.
    Completed,
    /// The service finished, and another task has the connection now (an upgrade, a hand-off).
    HandedOff,
    /// A bound in time was reached.
    TimedOut(TimeoutPhase),
    /// It was rejected, by a limit for example.
    Refused,
    /// A trusted proxy sent no valid PROXY header.
    ProxyHeaderFailed,
    /// TLS could not be agreed on.
    HandshakeFailed,
    /// The service failed after the TLS peer had closed without `close_notify`: data may be missing.
    Truncated,
    /// The peer went away: a reset, a broken pipe, an end in the middle of something.
    Disconnected,
    /// It was closed from outside: by a handle, or at the deadline of a drain.
    Forced,
    /// The service failed in another way.
    Failed,
    /// The service panicked.
    Panicked,
    /// The service was dropped before it finished.
    Cancelled,
}

impl Outcome {
    /// The outcome of a connection whose service ended, with `error` if it failed.
    pub fn of(info: &ConnectionInfo, error: Option<&(dyn Error + 'static)>) -> Self {
        match error {
            Some(error) => Self::of_error(info, error),
            None if info.is_forced() => Self::Forced,
            // A detached stream lives on too, outside of portcullis.
            None if info.phase() != Phase::Closed => Self::HandedOff,
            None => Self::Completed,
        }
    }

    /// The outcome of a connection whose service was dropped before it finished.
    pub fn of_unfinished(info: &ConnectionInfo) -> Self {
        if info.is_forced() {
            Self::Forced
        } else {
            Self::Cancelled
        }
    }

    fn of_error(info: &ConnectionInfo, error: &(dyn Error + 'static)) -> Self {
        if find::<Panicked>(error).is_some() {
            return Self::Panicked;
        }
        // Before `Forced`: a refusal may be a reset.
        if find::<Refused>(error).is_some() {
            return Self::Refused;
        }
        if info.is_forced() || find::<ForcedClose>(error).is_some() {
            return Self::Forced;
        }
        if let Some(elapsed) = find::<Elapsed>(error) {
            return Self::TimedOut(elapsed.phase());
        }
        #[cfg(feature = "proxy-protocol")]
        if find::<crate::proxy_protocol::ProxyHeaderError>(error)
            .is_some_and(|error| error.io_error().is_none())
        {
            return Self::ProxyHeaderFailed;
        }
        if find::<HandshakeError>(error).is_some() {
            return Self::HandshakeFailed;
        }
        if info.is_truncated() {
            return Self::Truncated;
        }
        match find::<io::Error>(error).map(io::Error::kind) {
            Some(
                io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::NotConnected
                | io::ErrorKind::UnexpectedEof
                // Of the network: keepalive found nobody, a router said so. Ours are `Elapsed`.
                | io::ErrorKind::TimedOut
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::NetworkDown,
            ) => Self::Disconnected,
            _ => Self::Failed,
        }
    }

    /// The name for metrics and fields of logs: one word in snake case. Bounds in time have one together.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::HandedOff => "handed_off",
            Self::TimedOut(_) => "timed_out",
            Self::Refused => "refused",
            Self::ProxyHeaderFailed => "proxy_header_failed",
            Self::HandshakeFailed => "handshake_failed",
            Self::Truncated => "truncated",
            Self::Disconnected => "disconnected",
            Self::Forced => "forced",
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::Cancelled => "cancelled",
        }
    }
}

/// As in a sentence: with spaces.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        in_words(self.as_str(), f)?;
        match self {
            Self::TimedOut(phase) => write!(f, " ({phase})"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BoxError, error::RefusedReason, testing::info};
    use std::time::Duration;

    fn outcome(info: &ConnectionInfo, error: impl Into<BoxError>) -> Outcome {
        Outcome::of(info, Some(&*error.into()))
    }

    #[test]
    fn success_depends_on_what_became_of_the_socket() {
        let info = info();
        assert_eq!(Outcome::of(&info, None), Outcome::HandedOff);
        info.set_phase(Phase::Closed);
        assert_eq!(Outcome::of(&info, None), Outcome::Completed);
        // What the service made of it counts.
        info.set_truncated();
        assert_eq!(Outcome::of(&info, None), Outcome::Completed);
        info.force_close();
        assert_eq!(Outcome::of(&info, None), Outcome::Forced);
    }

    #[test]
    fn a_stream_that_was_given_away_was_handed_off() {
        let info = info();
        info.set_phase(Phase::Detached);
        assert_eq!(Outcome::of(&info, None), Outcome::HandedOff);
    }

    #[test]
    fn a_service_that_did_not_finish_was_cancelled_unless_forced() {
        let info = info();
        assert_eq!(Outcome::of_unfinished(&info), Outcome::Cancelled);
        info.force_close();
        assert_eq!(Outcome::of_unfinished(&info), Outcome::Forced);
    }

    #[test]
    fn errors_are_told_apart_by_their_type() {
        let info = info();
        let elapsed = Elapsed::new(TimeoutPhase::Write, Duration::from_secs(1));
        let timed_out = Outcome::TimedOut(TimeoutPhase::Write);
        assert_eq!(outcome(&info, elapsed), timed_out);
        assert_eq!(outcome(&info, io::Error::from(elapsed)), timed_out);
        assert_eq!(timed_out.to_string(), "timed out (write)");
        let refused = Refused::new(RefusedReason::Full);
        assert_eq!(outcome(&info, refused), Outcome::Refused);
        let garbage = HandshakeError::new(io::ErrorKind::InvalidData.into());
        assert_eq!(outcome(&info, garbage), Outcome::HandshakeFailed);
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(outcome(&info, reset), Outcome::Disconnected);
        assert_eq!(outcome(&info, "anything else"), Outcome::Failed);
        assert_eq!(
            outcome(&info, Panicked::catch(|| panic!("boom")).unwrap_err()),
            Outcome::Panicked
        );
    }

    #[test]
    fn what_was_forced_from_outside_is_not_blamed_on_the_peer() {
        let info = info();
        info.force_reset();
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(outcome(&info, reset), Outcome::Forced);
    }

    #[test]
    fn names_are_single_words_for_metrics_and_plain_words_in_sentences() {
        let names = [
            (Outcome::Completed, "completed", "completed"),
            (Outcome::HandedOff, "handed_off", "handed off"),
            (
                Outcome::TimedOut(TimeoutPhase::FirstByte),
                "timed_out",
                "timed out (first byte)",
            ),
            (Outcome::Refused, "refused", "refused"),
            (
                Outcome::ProxyHeaderFailed,
                "proxy_header_failed",
                "proxy header failed",
            ),
            (
                Outcome::HandshakeFailed,
                "handshake_failed",
                "handshake failed",
            ),
            (Outcome::Truncated, "truncated", "truncated"),
            (Outcome::Disconnected, "disconnected", "disconnected"),
            (Outcome::Forced, "forced", "forced"),
            (Outcome::Failed, "failed", "failed"),
            (Outcome::Panicked, "panicked", "panicked"),
            (Outcome::Cancelled, "cancelled", "cancelled"),
        ];
        for (outcome, name, words) in names {
            assert_eq!(outcome.as_str(), name);
            assert_eq!(outcome.to_string(), words);
        }
    }

    #[test]
    fn a_refusal_by_reset_is_a_refusal() {
        let info = info();
        info.force_reset();
        let refused = Refused::new(RefusedReason::Full);
        assert_eq!(outcome(&info, refused), Outcome::Refused);
    }
}
