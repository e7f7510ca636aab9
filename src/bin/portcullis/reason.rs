//! Why a connection ended, in words, for the admin interface and the access line.

use crate::{
    build::{NOT_LISTED, not_listed},
    handshake, view,
};
use portcullis::{
    ConnectionInfo,
    connection::EndedBy,
    middleware::{
        access::{AclLayer, Denied},
        error::{Refused, TimeoutPhase, find},
        outcome::Outcome,
        tls::UnrecognizedName,
    },
    upstream::NoBackend,
};
use std::{
    error::Error,
    fmt::{self, Write},
};

/// The error of a connection, which is not kept itself.
#[derive(Clone)]
pub(crate) enum Failure {
    Refused(Rejection),
    /// No certificate serves the name that the client requested.
    Unrecognized {
        name: Option<Box<str>>,
        error: Box<str>,
    },
    /// The client's certificate has no listed name.
    NotListed,
    Other(Box<str>),
}

/// Why a guard rejected a connection.
#[derive(Clone)]
pub(crate) struct Rejection {
    by: &'static str,
    reason: Option<&'static str>,
    cause: Option<Box<str>>,
}

impl Failure {
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        let is_not_listed = |denied: &Denied| denied.rule() == NOT_LISTED;
        if find::<Denied>(error).is_some_and(is_not_listed) {
            return Self::NotListed;
        }
        if let Some(words) = handshake::words(error) {
            return Self::Other(format!("TLS handshake failed: {words}").into());
        }
        match find::<Refused>(error) {
            Some(refused) => Self::Refused(Rejection {
                by: refused.by(),
                // That of an access list says no more than that it was rejected.
                reason: Some(refused.reason()).filter(|reason| *reason != AclLayer::DENIED),
                cause: refused.source().map(text_of),
            }),
            None => match find::<UnrecognizedName>(error) {
                Some(unrecognized) => Self::Unrecognized {
                    name: unrecognized.name().map(Into::into),
                    error: text_of(error),
                },
                None => match find::<NoBackend>(error) {
                    Some(none) if !none.full().is_empty() => {
                        let text = text_of(error);
                        Self::Other(format!("{text} (`backend.server.max-connections`)").into())
                    }
                    _ => Self::Other(text_of(error)),
                },
            },
        }
    }

    /// The name that the client requested, where the connection does not know it.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Unrecognized { name, .. } => name.as_deref(),
            _ => None,
        }
    }
}

/// The reason of an end, with the key that a timeout has in the file. It may quote the peer.
pub(crate) fn reason(info: &ConnectionInfo, outcome: Outcome, failure: Option<&Failure>) -> String {
    let text = words(info, outcome, failure);
    let key = match outcome {
        Outcome::TimedOut(phase) => key_of_timeout(phase),
        _ => None,
    };
    match key {
        Some(key) => format!("{text} (`{key}`)"),
        None => text,
    }
}

fn words(info: &ConnectionInfo, outcome: Outcome, failure: Option<&Failure>) -> String {
    match (failure, outcome) {
        (_, Outcome::Forced) => view::why_forced(info),
        (Some(Failure::Refused(rejection)), _) => rejection.to_string(),
        (Some(Failure::NotListed), _) => {
            let reason = not_listed(info.peer_certificate());
            format!("rejected by {CERTIFICATE_ACL}: {reason} (`{ALLOW}`)")
        }
        (Some(Failure::Other(error)), Outcome::Refused) => format!("rejected: {error}"),
        (Some(Failure::Other(error) | Failure::Unrecognized { error, .. }), _) => error.to_string(),
        (None, Outcome::Completed) if is_drained(info, outcome) => {
            "it was idle during the shutdown".into()
        }
        (None, Outcome::Completed) => "both sides have finished".into(),
        (None, Outcome::Cancelled) => "dropped before it had finished".into(),
        (None, outcome) => outcome.to_string(),
    }
}

/// Whether it ended because it was idle while the program or its listener shut down.
pub(crate) fn is_drained(info: &ConnectionInfo, outcome: Outcome) -> bool {
    outcome == Outcome::Completed && view::ended_by(info, outcome) == Some(EndedBy::Gate)
}

/// The words of a name in snake case.
pub(crate) fn words_of(name: &str) -> String {
    name.replace('_', " ")
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rejected by {}", self.by)?;
        if let Some(reason) = self.reason {
            write!(f, ": {}", words_of(reason))?;
        }
        if let Some(cause) = &self.cause {
            write!(f, ": {cause}")?;
        }
        match key_of(self.by) {
            Some(key) => write!(f, " (`{key}`)"),
            None => Ok(()),
        }
    }
}

/// The key of the file that makes a guard reject, where its name does not say that.
pub(crate) fn key_of(guard: &str) -> Option<&'static str> {
    Some(match guard {
        "acl" => "access",
        CERTIFICATE_ACL => ALLOW,
        "connection_limit" => "limits.connections",
        "keyed_limit" => "per-client.connections",
        "rate_limit" => "per-client.rate",
        _ => return None,
    })
}

/// The guard that judges the names of client certificates.
pub(crate) const CERTIFICATE_ACL: &str = "certificate_acl";
const ALLOW: &str = "tls.client.allow";

/// The key of the file that a timeout has.
fn key_of_timeout(phase: TimeoutPhase) -> Option<&'static str> {
    Some(match phase {
        TimeoutPhase::PROXY_HEADER => "timeouts.proxy-header",
        TimeoutPhase::CLIENT_HELLO => "timeouts.client-hello",
        TimeoutPhase::PRELUDE => "timeouts.prelude",
        TimeoutPhase::HANDSHAKE => "timeouts.handshake",
        TimeoutPhase::FIRST_BYTE => "timeouts.first-byte",
        TimeoutPhase::IDLE => "timeouts.idle",
        TimeoutPhase::WRITE => "timeouts.write",
        TimeoutPhase::HALF_CLOSED => "timeouts.half-closed",
        TimeoutPhase::LIFETIME => "timeouts.lifetime",
        TimeoutPhase::THROUGHPUT => "throughput",
        _ => return None,
    })
}

/// An error with its sources, without those that repeat the error before.
fn text_of(error: &(dyn Error + 'static)) -> Box<str> {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let before = text.len();
        // A String takes all that is written.
        let _ = write!(text, "{}{error}", if before == 0 { "" } else { ": " });
        if before > 0 && text[..before].contains(&text[before + 2..]) {
            text.truncate(before);
        }
        next = error.source().filter(|_| text.len() < LONGEST);
    }
    let fits = (0..=LONGEST.min(text.len())).rev();
    let mut ends = fits.filter(|end| text.is_char_boundary(*end));
    let end = ends.next().unwrap_or_default();
    text.truncate(end);
    text.into()
}

/// Of an error's text, in bytes. It may quote the peer.
const LONGEST: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis::connection::Address;

    #[test]
    fn a_timeout_has_its_key_and_a_missing_header_an_end() {
        let info = ConnectionInfo::new(Address::Unknown, Address::Unknown);
        let of = |phase| reason(&info, Outcome::TimedOut(phase), None);
        assert_eq!(
            of(TimeoutPhase::THROUGHPUT),
            "timed out (throughput) (`throughput`)"
        );
        assert_eq!(
            of(TimeoutPhase::HALF_CLOSED),
            "timed out (half closed connection) (`timeouts.half-closed`)"
        );
        assert_eq!(of(TimeoutPhase::new("login")), "timed out (login)");
        let by = view::ended_by(&info, Outcome::ProxyHeaderFailed);
        assert_eq!(by, Some(EndedBy::Gate));
    }
}
