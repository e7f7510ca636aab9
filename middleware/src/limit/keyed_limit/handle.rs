use super::layer::KeyedLimitPolicy;
use crate::{ConnectionInfo, limit::key::KeyBytes};

/// Reads the limit per key and changes it at run time; clones share the limit.
#[derive(Clone, Debug)]
pub struct KeyedLimitHandle(KeyedLimitPolicy);

impl KeyedLimitHandle {
    pub(super) const fn new(policy: KeyedLimitPolicy) -> Self {
        Self(policy)
    }

    /// Maximum number of concurrent connections of each key.
    pub fn limit(&self) -> usize {
        self.0.counts.limit()
    }

    /// Changes the limit for all further connections.
    ///
    /// Lowering it keeps the connections above the new limit open. Further ones of the same key are admitted
    /// once enough of them have ended.
    pub fn set_limit(&self, limit: usize) {
        self.0.counts.set_limit(limit);
    }

    /// Number of connections that are counted, of all keys.
    pub fn active(&self) -> usize {
        self.0.counts.active()
    }

    /// Number of connections of one key.
    pub fn active_of(&self, key: KeyBytes) -> usize {
        self.0.counts.active_of(key)
    }

    /// Whether another connection like this one would be within the limit now.
    pub fn admits(&self, info: &ConnectionInfo) -> bool {
        let key = self.0.key.of(info);
        key.is_none_or(|key| self.active_of(key) < self.limit())
    }

    /// Number of keys in the table, which are those with connections.
    pub fn keys(&self) -> usize {
        self.0.counts.keys()
    }

    /// Maximum number of keys in the table.
    pub fn capacity(&self) -> usize {
        self.0.counts.capacity()
    }

    /// Number of connections rejected so far.
    pub fn refused(&self) -> u64 {
        self.0.guard.refused()
    }

    /// Number of connections that were admitted only because the layer
    /// [observes](super::KeyedLimitLayer::with_observe).
    pub fn observed(&self) -> u64 {
        self.0.guard.observed()
    }

    /// Number of connections that were admitted without a limit because the table was full.
    pub fn unlimited(&self) -> u64 {
        self.0.table_full.admitted()
    }
}
