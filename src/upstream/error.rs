//! Why no server could be connected to.

use super::{
    ServerAddress, ServerKey, ServerState,
    member::Member,
    pool::{Shared, Wish},
};
use portcullis_middleware::{
    BoxError,
    error::Elapsed,
    internal::{Causes, Escaped},
};
use std::{error::Error, fmt, sync::Arc};

/// A [`Pool`](super::Pool) found no server for a connection; contains the servers that were tried and why they failed.
///
/// Its source is the timeout that has expired, or else the cause of the last failure.
#[derive(Debug)]
pub struct NoBackend(Box<Facts>);

#[derive(Debug)]
struct Facts {
    pool: Option<Arc<str>>,
    reason: NoBackendReason,
    failed: Vec<FailedConnect>,
    untried: Vec<(ServerKey, ServerState)>,
    /// Servers that had as many connections as allowed, and how many that is.
    full: Vec<(ServerKey, usize)>,
    /// Servers whose names were never resolved, and why.
    unresolved: Vec<(ServerKey, Arc<str>)>,
}

/// Why a [`Pool`](super::Pool) found no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoBackendReason {
    /// No server can be used: the pool is empty, or all are down or draining.
    NoneUsable,
    /// Each attempt failed, and no other server can be used or the maximum of attempts is reached.
    AttemptsFailed,
    /// All servers have as many connections as allowed, and too many wait already.
    QueueFull,
    /// All servers have had as many connections as allowed until the wait timed out, their names were not resolved, or
    /// the time for all attempts was over.
    TimedOut(Elapsed),
}

impl NoBackendReason {
    /// No other server than those that were tried can be used.
    pub(super) const fn none_usable(wish: &Wish) -> Self {
        match wish.tried.is_empty() {
            true => Self::NoneUsable,
            false => Self::AttemptsFailed,
        }
    }
}

impl NoBackend {
    pub(super) fn new(pool: &Shared, reason: NoBackendReason, failed: Vec<FailedConnect>) -> Self {
        let is_untried = |member: &&Arc<Member>| failed.iter().all(|each| each.key != member.key);
        let members = pool.members();
        let untried = members.iter().filter(is_untried);
        let state = |member: &Arc<Member>| (member.key.clone(), pool.state(member));
        let unusable = untried
            .map(state)
            .filter(|(_, state)| *state != ServerState::Up);
        let mut untried: Vec<_> = unusable.collect();
        let unresolved = pool.never_resolved().into_iter();
        let unresolved: Vec<_> = unresolved.map(|it| (it.0.key(), it.2)).collect();
        let names = unresolved.iter().map(|it| it.0.clone());
        untried.extend(names.map(|key| (key, ServerState::Unresolved)));
        let full = match reason {
            NoBackendReason::QueueFull | NoBackendReason::TimedOut(_) => {
                let members = members.iter().filter(|member| member.is_full());
                let of = |member: &Arc<Member>| {
                    let max = member.server.max_connections()?;
                    Some((member.key.clone(), max))
                };
                members.filter_map(of).collect()
            }
            NoBackendReason::NoneUsable | NoBackendReason::AttemptsFailed => Vec::new(),
        };
        Self(Box::new(Facts {
            pool: pool.name.clone(),
            reason,
            failed,
            untried,
            full,
            unresolved,
        }))
    }

    /// Why there is no server.
    pub const fn reason(&self) -> NoBackendReason {
        self.0.reason
    }

    /// The servers that were not tried because of their state.
    pub fn untried(&self) -> &[(ServerKey, ServerState)] {
        &self.0.untried
    }

    /// The servers that had as many connections as allowed when the connection could not wait, or not longer, with that
    /// number.
    pub fn full(&self) -> &[(ServerKey, usize)] {
        &self.0.full
    }

    /// The servers that were tried, in this order.
    pub fn attempts(&self) -> &[FailedConnect] {
        &self.0.failed
    }
}

impl fmt::Display for NoBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no backend")?;
        if let Some(pool) = &self.0.pool {
            write!(f, " in pool {pool:?}")?;
        }
        match self.0.reason {
            NoBackendReason::NoneUsable => f.write_str(": no server can be used")?,
            NoBackendReason::AttemptsFailed => f.write_str(": connect failed")?,
            NoBackendReason::QueueFull => {
                f.write_str(": all servers have as many connections as allowed")?;
            }
            NoBackendReason::TimedOut(elapsed) => write!(f, ": {elapsed}")?,
        }
        for (index, failed) in self.0.failed.iter().take(SHOWN).enumerate() {
            write!(f, "{} {failed}", if index == 0 { ":" } else { "," })?;
        }
        if self.0.failed.len() > SHOWN {
            write!(f, " and {} more", self.0.failed.len() - SHOWN)?;
        }
        for (index, (key, max)) in self.0.full.iter().take(SHOWN).enumerate() {
            let before = if index == 0 { "; full:" } else { "," };
            write!(f, "{before} {key} with {max} of {max} connections")?;
        }
        if self.0.full.len() > SHOWN {
            write!(f, " and {} more", self.0.full.len() - SHOWN)?;
        }
        for (index, (key, state)) in self.0.untried.iter().take(SHOWN).enumerate() {
            let before = if index == 0 { "; not tried:" } else { "," };
            write!(f, "{before} {key} is {state}")?;
            if let Some((_, error)) = self.0.unresolved.iter().find(|it| it.0 == *key) {
                write!(f, " ({error})")?;
            }
        }
        if self.0.untried.len() > SHOWN {
            write!(f, " and {} more", self.0.untried.len() - SHOWN)?;
        }
        Ok(())
    }
}

impl Error for NoBackend {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match (&self.0.reason, self.0.failed.last()) {
            (NoBackendReason::TimedOut(elapsed), _) => Some(elapsed),
            (_, Some(failed)) => Some(&*failed.error),
            (_, None) => None,
        }
    }
}

/// A server that was tried, and why it failed.
#[derive(Debug)]
pub struct FailedConnect {
    key: ServerKey,
    address: ServerAddress,
    error: BoxError,
}

impl FailedConnect {
    pub(super) fn new(member: &Member, error: BoxError) -> Self {
        Self {
            key: member.key.clone(),
            address: member.server.address().clone(),
            error,
        }
    }

    /// The name of the server.
    pub const fn key(&self) -> &ServerKey {
        &self.key
    }

    /// The address of the server.
    pub const fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// Why the attempt failed.
    pub fn error(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.error
    }
}

/// The server and the error with its causes, on one line.
impl fmt::Display for FailedConnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, Escaped(Causes(&*self.error)))
    }
}

/// The number of servers in the text that were not tried.
const SHOWN: usize = 4;
