//! How a connection ended. Each connection has exactly one outcome.

use crate::{
    connection::{ConnectionInfo, ForcedClose, Phase},
    error::{
        Elapsed, HandshakeError, Panicked, Refused, TimeoutPhase, Unreachable, WithOutcome, find,
        in_words,
    },
};
use std::{error::Error, fmt, io};

/// How a connection ended, in one word; see [`Outcome::of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The service finished.
    Completed,
    /// The service finished, and another task owns the connection (an upgrade, a hand-off).
    HandedOff,
    /// An operation timed out.
    TimedOut(TimeoutPhase),
    /// A layer rejected it, a connection limit for example.
    Refused,
    /// A trusted proxy did not send a valid PROXY header.
    ProxyHeaderFailed,
    /// The TLS handshake failed.
    HandshakeFailed,
    /// No backend could be connected to.
    Unreachable,
    /// The service failed after the TLS peer had closed without `close_notify`, so data may be missing.
    Truncated,
    /// The peer disconnected, by a reset or an unexpected end for example.
    Disconnected,
    /// It was force-closed, by a handle or at the deadline of a drain.
    Forced,
    /// The service failed in another way.
    Failed,
    /// The service panicked.
    Panicked,
    /// The service was dropped before it finished.
    Cancelled,
}

impl Outcome {
    /// Number of [indexes](Self::index). It grows with the variants.
    pub const COUNT: usize = Index::Count as usize;

    /// The outcomes by their [index](Self::index); `None` at the one that all timeouts share.
    pub const EACH: [Option<Self>; Self::COUNT] = [
        Some(Self::Completed),
        Some(Self::HandedOff),
        None,
        Some(Self::Refused),
        Some(Self::ProxyHeaderFailed),
        Some(Self::HandshakeFailed),
        Some(Self::Unreachable),
        Some(Self::Truncated),
        Some(Self::Disconnected),
        Some(Self::Forced),
        Some(Self::Failed),
        Some(Self::Panicked),
        Some(Self::Cancelled),
    ];

    /// A number below [`COUNT`](Self::COUNT), for an array of counters. All timeouts share one.
    pub const fn index(self) -> usize {
        let index = match self {
            Self::Completed => Index::Completed,
            Self::HandedOff => Index::HandedOff,
            Self::TimedOut(_) => Index::TimedOut,
            Self::Refused => Index::Refused,
            Self::ProxyHeaderFailed => Index::ProxyHeaderFailed,
            Self::HandshakeFailed => Index::HandshakeFailed,
            Self::Unreachable => Index::Unreachable,
            Self::Truncated => Index::Truncated,
            Self::Disconnected => Index::Disconnected,
            Self::Forced => Index::Forced,
            Self::Failed => Index::Failed,
            Self::Panicked => Index::Panicked,
            Self::Cancelled => Index::Cancelled,
        };
        index as usize
    }

    /// The outcome of a connection whose service ended, with `error` if it failed.
    pub fn of(info: &ConnectionInfo, error: Option<&(dyn Error + 'static)>) -> Self {
        match error {
            Some(error) => Self::of_error(info, error),
            None if info.is_forced() => Self::Forced,
            // A detached stream stays open too, outside of portcullis.
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
        // Before `Forced`, because a layer may reject by a reset.
        if find::<Refused>(error).is_some() {
            return Self::Refused;
        }
        if info.is_forced() || find::<ForcedClose>(error).is_some() {
            return Self::Forced;
        }
        // Before the others, because it may wrap one of them.
        if let Some(error) = find::<WithOutcome>(error) {
            return error.outcome();
        }
        // Before the others, because it wraps the failures of the attempts.
        if find::<Unreachable>(error).is_some() {
            return Self::Unreachable;
        }
        if let Some(elapsed) = find::<Elapsed>(error) {
            return Self::TimedOut(elapsed.phase());
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
                // Reported by the network (TCP keepalive, a router). Timeouts of layers are `Elapsed`.
                | io::ErrorKind::TimedOut
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::NetworkDown,
            ) => Self::Disconnected,
            _ => Self::Failed,
        }
    }

    /// The name for metrics and log fields, in snake case. All timeouts share one name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::HandedOff => "handed_off",
            Self::TimedOut(_) => "timed_out",
            Self::Refused => "refused",
            Self::ProxyHeaderFailed => "proxy_header_failed",
            Self::HandshakeFailed => "handshake_failed",
            Self::Unreachable => "unreachable",
            Self::Truncated => "truncated",
            Self::Disconnected => "disconnected",
            Self::Forced => "forced",
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The variants without their data. A new one without an entry in [`Outcome::EACH`] does not compile.
enum Index {
    Completed,
    HandedOff,
    TimedOut,
    Refused,
    ProxyHeaderFailed,
    HandshakeFailed,
    Unreachable,
    Truncated,
    Disconnected,
    Forced,
    Failed,
    Panicked,
    Cancelled,
    /// Last.
    Count,
}

/// Checks the order of [`Outcome::EACH`] when this is compiled.
const _: () = {
    let mut index = 0;
    while index < Outcome::COUNT {
        if let Some(outcome) = Outcome::EACH[index] {
            assert!(outcome.index() == index);
        }
        index += 1;
    }
};

/// Writes the name with spaces, for use in a sentence.
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
    use crate::{BoxError, testing::info};
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
        let elapsed = Elapsed::new(TimeoutPhase::WRITE, Duration::from_secs(1));
        let timed_out = Outcome::TimedOut(TimeoutPhase::WRITE);
        assert_eq!(outcome(&info, elapsed), timed_out);
        assert_eq!(outcome(&info, io::Error::from(elapsed)), timed_out);
        assert_eq!(timed_out.to_string(), "timed out (write)");
        let refused = Refused::new("connection_limit", "limit reached");
        assert_eq!(outcome(&info, refused), Outcome::Refused);
        let garbage = HandshakeError::new(io::ErrorKind::InvalidData.into());
        assert_eq!(outcome(&info, garbage), Outcome::HandshakeFailed);
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(outcome(&info, reset), Outcome::Disconnected);
        let down = Unreachable::new().with_source(io::Error::from(elapsed));
        assert_eq!(outcome(&info, down), Outcome::Unreachable);
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
                Outcome::TimedOut(TimeoutPhase::new("first_byte")),
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
            (Outcome::Unreachable, "unreachable", "unreachable"),
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
    fn an_error_may_name_its_outcome() {
        let info = info();
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        let named = WithOutcome::new(Outcome::ProxyHeaderFailed, reset);
        assert_eq!(
            outcome(&info, io::Error::other(named)),
            Outcome::ProxyHeaderFailed
        );
    }

    #[test]
    fn each_outcome_has_an_index_of_its_own_and_timeouts_share_one() {
        let known = Outcome::EACH.into_iter().flatten().map(Outcome::index);
        let timed_out = [TimeoutPhase::READ, TimeoutPhase::WRITE].map(Outcome::TimedOut);
        assert_eq!(timed_out[0].index(), timed_out[1].index());
        let mut indexes: Vec<_> = known.chain([timed_out[0].index()]).collect();
        indexes.sort_unstable();
        assert!(indexes.into_iter().eq(0..Outcome::COUNT));
    }

    #[test]
    fn an_error_may_be_given_another_outcome_but_not_that_of_a_panic_a_refusal_or_a_forced_close() {
        let info = info();
        let completed = |error: BoxError| WithOutcome::new(Outcome::Completed, error);
        let elapsed = io::Error::from(Elapsed::new(TimeoutPhase::READ, Duration::from_secs(1)));
        let idle = completed(elapsed.into());
        assert_eq!(outcome(&info, idle), Outcome::Completed);
        let garbage = HandshakeError::new(io::ErrorKind::InvalidData.into());
        assert_eq!(
            outcome(&info, completed(garbage.into())),
            Outcome::Completed
        );
        let panicked = Panicked::catch(|| panic!("boom")).unwrap_err();
        assert_eq!(
            outcome(&info, completed(panicked.into())),
            Outcome::Panicked
        );
        let refused = Refused::new("connection_limit", "limit reached");
        assert_eq!(outcome(&info, completed(refused.into())), Outcome::Refused);
        info.force_close();
        assert_eq!(outcome(&info, completed("closed".into())), Outcome::Forced);
    }

    #[test]
    fn a_refusal_by_reset_is_a_refusal() {
        let info = info();
        info.force_reset();
        let refused = Refused::new("connection_limit", "limit reached");
        assert_eq!(outcome(&info, refused), Outcome::Refused);
    }
}
