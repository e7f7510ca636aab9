//! What alarms are about.

use crate::outcome::Outcome;

/// What an alarm counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AlarmKind {
    /// Connections alive now.
    Active,
    /// Connections that reached the layer, per interval.
    Opened,
    /// Connections with the outcome [`Refused`](Outcome::Refused), per interval.
    Refused,
    /// Connections that failed, panicked, timed out, were truncated, or failed in the TLS handshake or the PROXY
    /// header, per interval.
    Failed,
}

impl AlarmKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Active, Self::Opened, Self::Refused, Self::Failed];

    /// The name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Opened => "opened",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    /// The kind that counts the end of a connection.
    pub(super) const fn of(outcome: Outcome) -> Option<Self> {
        match outcome {
            Outcome::Refused => Some(Self::Refused),
            Outcome::TimedOut(_)
            | Outcome::ProxyHeaderFailed
            | Outcome::HandshakeFailed
            | Outcome::Truncated
            | Outcome::Unreachable
            | Outcome::Failed
            | Outcome::Panicked => Some(Self::Failed),
            Outcome::Completed
            | Outcome::HandedOff
            | Outcome::Disconnected
            | Outcome::Forced
            | Outcome::Cancelled => None,
        }
    }

    pub(super) const fn is_of_intervals(self) -> bool {
        !matches!(self, Self::Active)
    }
}

/// An alarm that was raised or cleared; see [`AlarmLayer::on_alarm`](super::AlarmLayer::on_alarm).
#[derive(Clone, Copy, Debug)]
pub struct Alarm<'a> {
    pub(super) listener: &'a str,
    pub(super) change: AlarmChange,
}

/// A change of one alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AlarmChange {
    pub(super) kind: AlarmKind,
    pub(super) raised: bool,
    pub(super) count: u64,
    pub(super) threshold: u64,
}

impl<'a> Alarm<'a> {
    /// The name of the layer.
    pub const fn listener(&self) -> &'a str {
        self.listener
    }

    /// What is counted.
    pub const fn kind(&self) -> AlarmKind {
        self.change.kind
    }

    /// True if it was raised, and false if it was cleared.
    pub const fn is_raised(&self) -> bool {
        self.change.raised
    }

    /// The count that raised or cleared it.
    pub const fn count(&self) -> u64 {
        self.change.count
    }

    /// The threshold.
    pub const fn threshold(&self) -> u64 {
        self.change.threshold
    }
}
