use super::Acl;
use crate::{ConnectionInfo, error::Refused, guard::Guard};
use std::{
    error, fmt,
    sync::{Arc, PoisonError, RwLock},
};

/// Settings of a layer. Clones share the list, which can be replaced.
#[derive(Clone)]
pub(super) struct AclPolicy {
    list: Arc<RwLock<Arc<Acl>>>,
    pub(super) predicates: Vec<Arc<Predicate>>,
    pub(super) subject: Subject,
    pub(super) guard: Guard,
}

pub(super) type Predicate = dyn Fn(&ConnectionInfo) -> Verdict + Send + Sync;

/// Whether a connection is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It is admitted.
    Admit,
    /// It is rejected by this rule, which is named in logs and errors.
    Deny(&'static str),
}

/// Which address is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// The client's address, from a trusted PROXY header or else from the socket.
    #[default]
    Client,
    /// The peer of the socket, which may be a proxy.
    Socket,
}

impl AclPolicy {
    pub(super) fn new(list: Acl) -> Self {
        Self {
            list: Arc::new(RwLock::new(Arc::new(list))),
            predicates: Vec::new(),
            subject: Subject::default(),
            guard: Guard::new(NAME),
        }
    }

    pub(super) fn judge(&self, info: &ConnectionInfo) -> Verdict {
        let address = match self.subject {
            Subject::Client => info.peer(),
            Subject::Socket => info.socket_peer(),
        };
        // The lock is released before the predicates run.
        let by_list = self
            .list
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .judge(address);
        let mut verdicts = self.predicates.iter().map(|judge| judge(info));
        match by_list {
            Verdict::Admit => verdicts
                .find(|verdict| *verdict != Verdict::Admit)
                .unwrap_or(Verdict::Admit),
            deny @ Verdict::Deny(_) => deny,
        }
    }

    pub(super) fn list(&self) -> Arc<Acl> {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        list.clone()
    }

    pub(super) fn replace(&self, list: Acl) -> Arc<Acl> {
        let mut current = self.list.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *current, Arc::new(list))
    }
}

impl fmt::Debug for AclPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AclPolicy")
            .field("list", &self.list())
            .field("predicates", &self.predicates.len())
            .field("subject", &self.subject)
            .field("guard", &self.guard)
            .finish()
    }
}

impl Verdict {
    /// The error of a rejected connection.
    pub(super) fn into_result(self) -> Result<(), Refused> {
        match self {
            Self::Admit => Ok(()),
            Self::Deny(rule) => {
                Err(Refused::new(NAME, super::AclLayer::DENIED).with_source(Denied { rule }))
            }
        }
    }
}

/// The rule that rejected a connection, as the source of [`Refused`].
#[derive(Clone, Debug)]
pub struct Denied {
    rule: &'static str,
}

impl Denied {
    /// The rule, one of the constants of [`Acl`] or that of a predicate.
    pub const fn rule(&self) -> &'static str {
        self.rule
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rule)
    }
}

impl error::Error for Denied {}

/// The layer's name in errors.
const NAME: &str = "acl";
