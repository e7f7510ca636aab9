use super::{Acl, Verdict, policy::AclPolicy};
use crate::ConnectionInfo;
use std::sync::Arc;

/// Replaces the list of an [`AclLayer`](super::AclLayer) at run time, and judges connections.
///
/// Clones share the list and the counters.
///
/// ```
/// use portcullis_middleware::{ConnectionInfo, access::{Acl, AclLayer, Verdict}, ip_set::IpSet};
///
/// /// Rejects new connections from `networks`, and closes those that are open.
/// fn block(networks: IpSet, layer: &AclLayer, open: Vec<ConnectionInfo>) {
///     let handle = layer.handle();
///     handle.replace(Acl::new().deny(networks));
///     for info in open.iter().filter(|info| handle.judge(info) != Verdict::Admit) {
///         info.force_close();
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct AclHandle(AclPolicy);

impl AclHandle {
    pub(super) const fn new(policy: AclPolicy) -> Self {
        Self(policy)
    }

    /// The current list.
    pub fn acl(&self) -> Arc<Acl> {
        self.0.list()
    }

    /// Replaces the list for all further connections, and returns the previous one.
    pub fn replace(&self, acl: Acl) -> Arc<Acl> {
        self.0.replace(acl)
    }

    /// Whether a connection would be admitted now, by the list and by the layer's predicates.
    pub fn judge(&self, info: &ConnectionInfo) -> Verdict {
        self.0.judge(info)
    }

    /// Number of connections rejected so far.
    pub fn refused(&self) -> u64 {
        self.0.guard.refused()
    }

    /// Number of connections that were admitted only because the layer
    /// [observes](super::AclLayer::with_observe).
    pub fn observed(&self) -> u64 {
        self.0.guard.observed()
    }
}
